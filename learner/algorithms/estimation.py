"""Advantages and value targets of a round, from raw rewards on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from learner.losses import returns, value
from learner.networks.normalisation import RewardScaler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from learner.algorithms.rollout import Rollout


class Estimates(NamedTuple):
    """What policy and values learn from, [T B] each, on the device of the values.

    Attributes:
        advantages: By GAE; 0 in rows that are not valid.
        targets: What values should become, advantages + values (the TD(lambda) returns).
    """

    advantages: Tensor
    targets: Tensor


class AdvantageEstimator:
    """GAE over rewards that are taken raw, by their sign, or scaled by running statistics.

    Args:
        gamma: Discount.
        gae_lambda: Lambda.
        clip_rewards: Take the sign of rewards.
        scale_rewards: Divide rewards by the standard deviation of the running discounted return.
    """

    def __init__(
        self, *, gamma: float, gae_lambda: float, clip_rewards: bool, scale_rewards: bool
    ) -> None:
        self._gamma = gamma
        self._gae_lambda = gae_lambda
        self._clips = clip_rewards
        self._scaler = RewardScaler(gamma) if scale_rewards else None

    def estimate(self, data: Rollout, values: Tensor) -> Estimates:
        """Advantages and targets under the values `[(T + 1) B + N]` of `data`'s observations."""
        by_row, finals = _by_row(data, values)
        rewards = self._clipped(data)
        if self._scaler is not None:
            rewards = self._scaler.scale(rewards, data.ended, data.valid)
        advantages = returns.generalised_advantages(
            rewards=rewards,
            values=by_row[:-1],
            successors=returns.successor_values(by_row, data.final_rows, data.final_slots, finals),
            terminated=data.terminated,
            truncated=data.truncated,
            valid=data.valid,
            gamma=self._gamma,
            gae_lambda=self._gae_lambda,
        )
        both = np.stack((advantages, advantages + by_row[:-1])).reshape(2, -1)
        return Estimates(*torch.from_numpy(both).to(values.device).unbind())

    def take_in(self, data: Rollout) -> None:
        """Brings the statistics of rewards up to date for the next version."""
        if self._scaler is not None:
            self._scaler.update(self._clipped(data), data.ended, data.valid)

    def tensors(self) -> dict[str, Tensor]:
        """The statistics, for a checkpoint."""
        return {} if self._scaler is None else self._scaler.tensors()

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` gave."""
        if self._scaler is not None:
            self._scaler.load_tensors(tensors)

    def _clipped(self, data: Rollout) -> NDArray[np.float32]:
        return np.sign(data.rewards) if self._clips else data.rewards


def explained_variance(data: Rollout, values: Tensor, estimates: Estimates) -> float:
    """How much of the targets the values explained, over valid rows; see learner.losses.value."""
    by_row, _ = _by_row(data, values)
    targets = estimates.targets.cpu().numpy().reshape(data.shape)
    return value.explained_variance(by_row[:-1][data.valid], targets[data.valid])


def _by_row(data: Rollout, values: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`[(T + 1) B + N]` to [T + 1, B] and [N]."""
    every, (rows, slots) = values.cpu().numpy(), data.shape
    split = (rows + 1) * slots
    return every[:split].reshape(rows + 1, slots), every[split:]
