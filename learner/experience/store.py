"""What the front and the training loop ask of a store, whatever is drawn from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from learner.experience.block_ring import Dump
    from learner.experience.on_policy import FragmentKey, Segment
    from learner.totals import RingCursor


class ExperienceStore(Protocol):
    """Blocks of T rows come in, batches are drawn; the oldest blocks make room.

    Attributes:
        block_rows: T of every fragment.
        is_persistent: Whether the blocks outlive the process.
        inserted: Valid rows that could ever be drawn.
        evicted: Those of them that made room for others.
        damaged: Blocks that files ought to hold whole, and do not.
        discarded: Valid rows that never can be drawn, for want of those around them.
    """

    is_persistent: bool
    inserted: int
    evicted: int
    damaged: int
    discarded: int

    @property
    def block_rows(self) -> int:
        """T."""

    @property
    def cursor(self) -> RingCursor:
        """The blocks written and those still there."""

    @property
    def size(self) -> int:
        """The valid rows that can be drawn now."""

    def make_room(self, blocks: int) -> RingCursor:
        """Evicts the blocks whose places the next `blocks` blocks take; what is left then."""

    def insert(self, segment: Segment, keys: Sequence[FragmentKey]) -> int:
        """Copies the B fragments of a segment in; answers how many more rows can be drawn by it."""

    def sample(self, count: int, *, beta: float = 1.0) -> Any:  # noqa: ANN401 - what `update` takes
        """Draws a batch."""

    def update_priorities(self, batch: Any, priorities: NDArray[Any]) -> None:  # noqa: ANN401
        """Gives what was drawn new priorities."""

    def dump(self) -> Dump:
        """A copy of all resident rows."""

    def close(self) -> None:
        """Gives back files; the store is not used again."""
