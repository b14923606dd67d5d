"""What the rolling loop asks of a worker's environments, however they are stepped."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium
    from numpy.typing import NDArray

    from common.specs import EnvironmentSpec


@dataclasses.dataclass(frozen=True)
class Observed:
    """Where observations go.

    Attributes:
        leaves: An array `[B, *shape]` for each leaf of the space that anybody wants, by path.
        mask: Action masks, `[B, width]` bool, or None where nobody wants them.
    """

    leaves: dict[str, NDArray[Any]]
    mask: NDArray[Any] | None = None


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
        action: What the policy answered to them, `[B, ...]`.
        rewards: `[T, B]` float64, zero before.
        terminated: `[T, B]` bool, false before.
        truncated: `[T, B]` bool, false before.
        starting: `[B]` bool, whether the coming row's observation is the first of an episode; kept
            up to date where `resets_fed` is true.
        pending: `[B]` bool, whether row 0 is lost to a reset (one step late only).
        resets_fed: Whether the policy reads `starting`.
        endings: Gets `(row, position, metrics)` of the episodes that ended with any metrics.
        finals: Gets last observations (resets at once only).
        counters: `[0]` counts rows as they are done; whoever watches sees a hang.
    """

    live: Observed
    action: NDArray[Any]
    rewards: NDArray[Any]
    terminated: NDArray[Any]
    truncated: NDArray[Any]
    starting: NDArray[Any]
    pending: NDArray[Any]
    resets_fed: bool
    endings: list[tuple[int, int, dict[str, float]]]
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

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """Of one copy."""

    def reset(self, seeds: Sequence[int], live: Observed, counters: memoryview[int]) -> None:
        """Begins the first episode of every copy and writes its observation, `[K, ...]`."""

    def stepper(self, tape: Tape, positions: Sequence[int]) -> Callable[[int], None]:
        """A function that steps the copies at `positions` through a row, given its number."""

    def close(self) -> None:
        """Ends the copies."""
