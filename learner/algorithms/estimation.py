"""Advantages and value targets of a round, from raw rewards on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from learner.losses import returns, value
from learner.losses.vtrace import vtrace
from learner.networks.normalisation import RewardScaler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from learner.algorithms.rollout import Rollout


class Estimates(NamedTuple):
    """What policy and values learn from, [T B] each, on the device of the values.

    Attributes:
        advantages: 0 in rows that are not valid.
        targets: What values should become; by GAE advantages + values, the TD(lambda) returns.
    """

    advantages: Tensor
    targets: Tensor


class Rewards:
    """Rewards as they are trained on: raw, by their sign, or scaled by running statistics.

    Args:
        gamma: Discount.
        clip: Take the sign of rewards.
        scale: Divide rewards by the standard deviation of the running discounted return.
        by_slot: The columns of a batch are other slots each time, not the same ones.
    """

    def __init__(self, *, gamma: float, clip: bool, scale: bool, by_slot: bool = False) -> None:
        self._clips = clip
        self._scaler = RewardScaler(gamma) if scale else None
        self._by_slot = by_slot

    def of(self, data: Rollout) -> NDArray[np.float32]:
        """[T, B], with the statistics of the version that is trained."""
        rewards = self._clipped(data)
        if self._scaler is not None:
            rewards = self._scaler.scale(rewards, data.ended, data.valid)
        return rewards

    def take_in(self, data: Rollout) -> None:
        """Brings the statistics up to date for the next version."""
        if self._scaler is not None:
            keys = data.keys if self._by_slot else None
            self._scaler.update(self._clipped(data), data.ended, data.valid, keys)

    def tensors(self) -> dict[str, Tensor]:
        """The statistics, for a checkpoint."""
        return {} if self._scaler is None else self._scaler.tensors()

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` gave."""
        if self._scaler is not None:
            self._scaler.load_tensors(tensors)

    def _clipped(self, data: Rollout) -> NDArray[np.float32]:
        return np.sign(data.rewards) if self._clips else data.rewards


class _Estimator:
    """What follows from rewards and values, row by row.

    Args:
        rewards: See `Rewards`.
        gamma: Discount.
    """

    def __init__(self, rewards: Rewards, *, gamma: float) -> None:
        self._rewards = rewards
        self._gamma = gamma

    def _rows(self, data: Rollout, values: Tensor) -> dict[str, Any]:
        """What recursions over a batch's rows start from, by the names of their arguments.

        All are [T, B]; `values` are `[(T + 1) B + N]`, of the observations of `data`.
        """
        by_row, finals = _by_row(data, values)
        return {
            "rewards": self._rewards.of(data),
            "values": by_row[:-1],
            "successors": returns.successor_values(
                by_row, data.final_rows, data.final_slots, finals
            ),
            "terminated": data.terminated,
            "truncated": data.truncated,
            "valid": data.valid,
            "gamma": self._gamma,
        }


class AdvantageEstimator(_Estimator):
    """GAE.

    Args:
        rewards: See `Rewards`.
        gamma: Discount.
        gae_lambda: Lambda.
    """

    def __init__(self, rewards: Rewards, *, gamma: float, gae_lambda: float) -> None:
        super().__init__(rewards, gamma=gamma)
        self._gae_lambda = gae_lambda

    def estimate(self, data: Rollout, values: Tensor) -> Estimates:
        """Advantages and targets under the values `[(T + 1) B + N]` of `data`'s observations."""
        rows = self._rows(data, values)
        advantages = returns.generalised_advantages(**rows, gae_lambda=self._gae_lambda)
        both = np.stack((advantages, advantages + rows["values"])).reshape(2, -1)
        return Estimates(*torch.from_numpy(both).to(values.device).unbind())


class VTraceEstimator(_Estimator):
    """V-trace.

    Args:
        rewards: See `Rewards`.
        gamma: Discount.
        trace_lambda: Lambda.
        rho_clip: rho_bar.
        c_clip: c_bar.
    """

    def __init__(
        self,
        rewards: Rewards,
        *,
        gamma: float,
        trace_lambda: float,
        rho_clip: float,
        c_clip: float,
    ) -> None:
        super().__init__(rewards, gamma=gamma)
        self._trace_lambda = trace_lambda
        self._rho_clip = rho_clip
        self._c_clip = c_clip

    def trace(self, data: Rollout, values: Tensor, log_ratios: Tensor) -> tuple[Tensor, ...]:
        """The three of `VTrace`, [T B] each, on the device of the values.

        Args:
            data: The batch.
            values: `[(T + 1) B + N]`, of its observations, without a graph.
            log_ratios: [T B], the policy that is trained against the one that acted, without one.
        """
        found = vtrace(
            **self._rows(data, values),
            log_ratios=log_ratios.cpu().numpy().reshape(data.shape),
            trace_lambda=self._trace_lambda,
            rho_clip=self._rho_clip,
            c_clip=self._c_clip,
        )
        return torch.from_numpy(np.stack(found).reshape(3, -1)).to(values.device).unbind()


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
