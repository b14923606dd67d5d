"""What algorithms share that learn from single transitions out of replay."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from learner.algorithms.from_store import StoreAlgorithm, StoreConfig
from learner.experience.replay import ReplaySettings, ReplayStore

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from learner.experience.store import ExperienceStore
    from learner.experience.transitions import Transitions
    from learner.totals import RingCursor


@dataclasses.dataclass(frozen=True)
class ReplayConfig(StoreConfig):
    """Hyperparameters that every algorithm has which draws transitions."""

    n_step: int = 1
    """Rewards that are summed before bootstrapping."""
    prioritised: bool = False
    """Draws transitions by their last error rather than uniformly."""
    priority_exponent: float = 0.6
    """Alpha of prioritised replay: 0 is uniform, 1 is in proportion to the error."""
    priority_beta: float = 0.4
    """Beta of prioritised replay's importance weights at the start; it is 1 at the end of the step
    budget."""
    clip_rewards: bool = False
    """Trains on the sign of rewards, as is usual for Atari; what is shown to people stays raw."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        self._check("n_step", self.n_step >= 1, "must be at least 1")
        for field in ("priority_exponent", "priority_beta"):
            self._check(field, 0 <= getattr(self, field) <= 1, "must be in [0, 1]")
        self._check_order("n_step", "segment_length")


C = TypeVar("C", bound=ReplayConfig)


class OffPolicyAlgorithm(StoreAlgorithm[C]):
    """One that learns from transitions of any policy, drawn from replay."""

    def store(self, *, seed: int, folder: Path | None, cursor: RingCursor) -> ExperienceStore:
        """See the base class."""
        columns = self.signature.columns
        return ReplayStore(columns, self.replay, seed=seed, folder=folder, cursor=cursor)

    def to_device(self, array: NDArray[Any]) -> Tensor:
        """A column of a minibatch where the networks are, in its own dtype."""
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    @property
    def replay(self) -> ReplaySettings:
        """What the store is made for."""
        config = self.config
        return ReplaySettings(
            capacity=config.buffer_size,
            block_rows=config.segment_length,
            gamma=config.gamma,
            n_step=config.n_step,
            clip_rewards=config.clip_rewards,
            priority_exponent=config.priority_exponent if config.prioritised else None,
        )

    def beta(self, progress: float) -> float:
        """The exponent of importance weights when this share of the step budget is done.

        Linear from `priority_beta` to 1 (Schaul et al. 2016, https://arxiv.org/abs/1511.05952,
        section 3.4).
        """
        start = self.config.priority_beta
        return start + (1.0 - start) * min(max(progress, 0.0), 1.0)

    @abc.abstractmethod
    def update(self, batch: Transitions, progress: float) -> Tensor | None:
        """Takes one gradient step on M transitions; see the base class."""
