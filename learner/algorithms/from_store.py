"""What algorithms share that learn from a store of experience: settings, the shape of an update."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from common.errors import InvalidFieldError
from learner.algorithms.base import Algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from learner.experience.store import ExperienceStore
    from learner.totals import RingCursor

ReplayStorage = Literal["memory", "disk"]


@dataclasses.dataclass(frozen=True)
class StoreConfig:
    """Hyperparameters that every algorithm with a store of experience has."""

    n_envs: int = 8
    """Environments of a local run's samplers, and fragments of a round where rounds are
    synchronous."""
    segment_length: int = 16
    """Steps of an environment that are pushed together. An n-step window ends at its edge, so make
    it at least 8 x n_step where that is above 1."""
    buffer_size: int = 100_000
    """Steps that the replay buffer holds; the oldest make room."""
    learning_starts: int = 1_000
    """Environment steps before the first gradient step."""
    batch_size: int = 128
    """Transitions of a gradient step; whole episodes, where those are learned from."""
    replay_ratio: float = 0.25
    """Gradient steps for each environment step of all samplers together, after learning_starts."""
    gamma: float = 0.99
    """Discount of rewards a step later."""
    replay_storage: ReplayStorage = "memory"
    """`disk` keeps the replay buffer in memory-mapped files of the run's folder, where it outlives
    the learner's process."""
    rows_in_flight: int = 0
    """Environment steps that samplers may be at work on, all together; 0 is about 1 % of the step
    budget."""
    replay_window: int = 0
    """Environment steps by which samplers or the learner may run ahead of replay_ratio; 0 is as
    many as are in flight."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        for field in ("n_envs", "segment_length", "buffer_size", "batch_size"):
            self._check(field, getattr(self, field) >= 1, "must be at least 1")
        for field in ("learning_starts", "rows_in_flight", "replay_window"):
            self._check(field, getattr(self, field) >= 0, "must not be negative")
        self._check("replay_ratio", self.replay_ratio > 0, "must be above 0")
        self._check("gamma", 0 < self.gamma <= 1, "must be in (0, 1]")
        self._check_order("segment_length", "buffer_size")
        self._check_order("learning_starts", "buffer_size")

    def _check(self, field: str, holds: bool, constraint: str) -> None:  # noqa: FBT001 - private
        if not holds:
            raise InvalidFieldError(field, f"{getattr(self, field)} {constraint}")

    def _check_order(self, field: str, limit: str) -> None:
        value, most = getattr(self, field), getattr(self, limit)
        if value > most:
            raise InvalidFieldError(
                field, f"{value} exceeds {limit} ({most}); raise {limit} or lower {field}"
            )


S = TypeVar("S", bound=StoreConfig)


class StoreAlgorithm(Algorithm[S]):
    """One that learns from what any policy brought, drawn from a store.

    The training loop owns the store and the ratio of gradient steps; it asks for `store` and
    `beta`, draws `config.batch_size` of what the store holds for each call of `update` and hands
    the errors that come back to the store.
    """

    @abc.abstractmethod
    def store(self, *, seed: int, folder: Path | None, cursor: RingCursor) -> ExperienceStore:
        """Builds what samplers' rows go into and batches for `update` are drawn from.

        Args:
            seed: Of the draws.
            folder: Where it lives as files; None keeps it in memory.
            cursor: The blocks that files hold for certain.

        Raises:
            OSError: The files cannot be made, or are another store's.
        """

    def beta(self, progress: float) -> float:
        """The exponent of importance weights when this share of the step budget is done."""
        del progress
        return 1.0

    @abc.abstractmethod
    def update(self, batch: Any, progress: float) -> Tensor | None:  # noqa: ANN401 - the store's
        """Takes one gradient step.

        Nothing leaves the device in here, so that a GPU is never waited for.

        Args:
            batch: What the store draws.
            progress: The share of the step budget that is spent, in [0, 1].

        Returns:
            [M] float32 on the device, the new errors that priorities follow from, at least 0; None
            where the algorithm has none.
        """

    @abc.abstractmethod
    def metrics(self) -> dict[str, float]:
        """Means over the updates since the last call, by name; empty where there was none.

        The only place where numbers leave the device: call it now and then, not once an update.
        """
