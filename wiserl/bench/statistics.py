"""Aggregates over seeds: the interquartile mean and its bootstrap interval.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(https://arxiv.org/abs/2108.13264): with few runs the interquartile mean is steadier than the mean
and less biased than the median; its uncertainty is a percentile bootstrap over runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

_RESAMPLES = 10_000


def interquartile_mean(scores: Sequence[float]) -> float:
    """The mean of the middle half: a quarter of the runs is cut from either end.

    Args:
        scores: One number a seed, at least one.

    Raises:
        ValueError: There are no scores.
    """
    if not len(scores):
        raise ValueError("no scores; run at least one seed")
    return float(stats.trim_mean(np.asarray(scores, dtype=np.float64), 0.25))


def interval(scores: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the interquartile mean, over seeds; drawn with a fixed seed.

    A single score has no spread to draw from: its interval is the score itself.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) == 1:
        return float(values[0]), float(values[0])
    generator = np.random.default_rng(0)
    draws = generator.choice(values, size=(_RESAMPLES, len(values)), replace=True)
    means = stats.trim_mean(draws, 0.25, axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
