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

    from numpy.typing import NDArray

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
    return _percentiles(_resampled(scores, np.random.default_rng(0)), confidence)


def difference_interval(
    ours: Sequence[float], theirs: Sequence[float], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of IQM(ours) - IQM(theirs); drawn with a fixed seed.

    Each side is drawn from by itself: equal seeds make no equal runs in two systems.
    """
    generator = np.random.default_rng(0)
    return _percentiles(_resampled(ours, generator) - _resampled(theirs, generator), confidence)


def _resampled(scores: Sequence[float], generator: np.random.Generator) -> NDArray[np.float64]:
    """Interquartile means of draws with replacement, [_RESAMPLES]."""
    values = np.asarray(scores, dtype=np.float64)
    draws = generator.choice(values, size=(_RESAMPLES, len(values)), replace=True)
    means: NDArray[np.float64] = stats.trim_mean(draws, 0.25, axis=1)
    return means


def _percentiles(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
