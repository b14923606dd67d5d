"""What the rolling loop asks of a worker's environments, however they are stepped."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from common.specs import EnvironmentSpec


@dataclasses.dataclass(frozen=True)
class Observed:
    """Where the observations of an agent, or of the agents of a group, go.

    Attributes:
        leaves: An array `[B, *shape]` for each leaf of the space that anybody wants, by path; of a
            group `[B, n, *shape]`.
        mask: Action masks, `[B, width]` or `[B, n, width]` bool, or None where nobody wants them.
    """

    leaves: dict[str, NDArray[Any]]
    mask: NDArray[Any] | None = None

    def arrays(self) -> Iterator[NDArray[Any]]:
        """All of them."""
        yield from self.leaves.values()
        if self.mask is not None:
            yield self.mask

    def of_agent(self, place: int) -> Observed:
        """The part of a group's that is one agent's."""
        mask = None if self.mask is None else self.mask[:, place]
        return Observed({path: array[:, place] for path, array in self.leaves.items()}, mask)


@dataclasses.dataclass(frozen=True)
class Live:
    """What is to be seen before the coming row; environments write it, the policy acts on it.

    Attributes:
        groups: What agents observe, by the name of their group; the single agent's has none.
        alive: [B, A] bool, which of all agents act; of no width for a single agent.
        state: The leaves of the global state that anybody wants, `[B, *shape]` by path.
    """

    groups: dict[str, Observed]
    alive: NDArray[np.bool_]
    state: dict[str, NDArray[Any]]

    @property
    def agent(self) -> Observed:
        """What the single agent observes."""
        return self.groups[""]

    def arrays(self) -> Iterator[NDArray[Any]]:
        """All of them, in an order that depends on nothing but the signature."""
        for observed in self.groups.values():
            yield from observed.arrays()
        yield self.alive
        yield from self.state.values()


@dataclasses.dataclass
class Finals:
    """Last observations of episodes that were replaced at once, in the order of their rows.

    Attributes:
        rows: `[N]`, the row that ended each.
        positions: `[N]`, the column of each.
        observed: Where the observations go, `[capacity, ...]`.
    """

    rows: list[int]
    positions: list[int]
    observed: Observed


@dataclasses.dataclass(frozen=True)
class Tape:
    """What T rows of B copies read and write.

    Attributes:
        live: The current observations, which the policy acts on, `[B, ...]`.
        actions: What the policy answered to them, `[B, ...]` by group; with several agents
            `[B, n, ...]`.
        rewards: `[T, B]` float64, zero before; with several agents `[T, B, A]`.
        terminated: The same of bool, false before.
        truncated: The same of bool, false before.
        ended: `[T, B]` bool, false before, the rows that ended an episode; with a single agent that
            follows from the two before and is left alone.
        starting: `[B]` bool, whether the coming row's observation is the first of an episode; kept
            up to date where `resets_fed` is true.
        pending: `[B]` bool, whether row 0 is lost to a reset (one step late only).
        resets_fed: Whether the policy reads `starting`.
        endings: Gets `(row, position, metrics)` of the episodes that ended with any metrics.
        lives_lost: Gets `(row, position)` of steps that are terminal for values and end no episode.
        finals: Gets last observations (resets at once only).
        counters: `[0]` counts rows as they are done; whoever watches sees a hang.
    """

    live: Live
    actions: dict[str, NDArray[Any]]
    rewards: NDArray[Any]
    terminated: NDArray[Any]
    truncated: NDArray[Any]
    ended: NDArray[Any]
    starting: NDArray[Any]
    pending: NDArray[Any]
    resets_fed: bool
    endings: list[tuple[int, int, dict[str, float]]]
    lives_lost: list[tuple[int, int]]
    finals: Finals | None
    counters: memoryview[int]


class Environments(Protocol):
    """K copies of an environment.

    Attributes:
        copies: K.
        spec: What the copies are.
        late: An ended copy is reset one step late, in a row that is no step; else at once.
        together: All copies are stepped in every row, wanted or not.
    """

    copies: int
    spec: EnvironmentSpec
    late: bool
    together: bool

    def reset(self, seeds: Sequence[int], live: Live, counters: memoryview[int]) -> None:
        """Begins the first episode of every copy and writes its observation, `[K, ...]`."""

    def stepper(self, tape: Tape, positions: Sequence[int]) -> Callable[[int], None]:
        """A function that steps the copies at `positions` through a row, given its number."""

    def close(self) -> None:
        """Ends the copies."""


class Outcome(NamedTuple):
    """What a step came to.

    Attributes:
        reward: A number, or with several agents [A] float64.
        over: The episode ended.
        terminated: It ended by the task's own end.
        metrics: Numbers that the environment reported, where the episode ended.
    """

    reward: float | NDArray[np.float64]
    over: bool
    terminated: bool
    metrics: Mapping[str, float]


class Players(Protocol):
    """Copies that are stepped one at a time, each at its own pace: for evaluations."""

    def reset(self, position: int, seed: int) -> None:
        """Begins an episode of a copy and writes what is to be seen."""

    def step(self, position: int) -> Outcome:
        """Steps a copy with what the policy answered; writes what is to be seen then."""
