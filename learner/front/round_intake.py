"""The way of a push into a round: its place there, and what of the round is within the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learner.experience.on_policy import OnPolicyStore
from learner.ledger import LossReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.signature import ColumnSpec
    from learner.experience.on_policy import FragmentKey, OnPolicyBatch, Segment
    from learner.front.books import Books
    from learner.front.dealing import Dealer


class RoundIntake:
    """Stores the fragments of one round after the other, and keeps one that is complete.

    Args:
        columns: What fragments hold.
        dealer: Who has the round dealt that is being rolled.
        books: What a complete round is entered in.
    """

    def __init__(self, columns: Sequence[ColumnSpec], dealer: Dealer, books: Books) -> None:
        self._store = OnPolicyStore(columns)
        self._dealer = dealer
        self._books = books
        self._stored_steps = 0
        self._closed: OnPolicyBatch | None = None

    @property
    def is_open(self) -> bool:
        """Whether a round is being rolled, or one that is complete waits to be taken."""
        return self._dealer.round is not None or self._closed is not None

    @property
    def delivered_rows(self) -> int:
        """Rows of the round that is being rolled which are there."""
        current = self._dealer.round
        return current.delivered * current.rows if current is not None else 0

    def open(self, now: float, version: int, *, n_envs: int, n_steps: int) -> None:
        """Opens a round: exactly `n_envs` fragments of `n_steps` rows."""
        self._store.open(version, n_envs=n_envs, n_steps=n_steps)
        self._stored_steps = 0
        self._dealer.open_round(now, version, fragments=n_envs, rows=n_steps)

    def write(self, positions: Sequence[int], keys: Sequence[FragmentKey], segment: Segment) -> int:
        """Stores fragments at their positions in the round; answers their valid steps."""
        steps = self._store.write(positions, keys, segment)
        self._stored_steps += steps
        return steps

    def close(self) -> None:
        """Closes the round: its order, and what of it is within the budget."""
        books = self._books
        batch = self._store.close(books.steps_left)
        if batch.steps < self._stored_steps:
            books.ledger.add(LossReason.BEYOND_BUDGET, rows=self._stored_steps - batch.steps)
        books.header.totals.environment_steps += batch.steps
        books.curve.extend(books.environment_steps, batch.episodes)
        self._dealer.round = None
        self._closed = batch

    def take_closed(self) -> OnPolicyBatch | None:
        """The round that is complete, once; None while there is none."""
        batch, self._closed = self._closed, None
        return batch
