"""What is collected, as training opens and ends it: rounds, or a flow into replay or a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learner.experience import columns
from learner.experience.on_policy import VALID
from learner.front.admission import Admission
from learner.front.round_intake import RoundIntake
from learner.ledger import LossReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.signature import Signature
    from learner.experience.on_policy import OnPolicyBatch
    from learner.front.books import Books
    from learner.front.dealing import Dealer
    from learner.front.flowing import Flow

_NOT_OPEN = "a push before open_run; nobody can have a session then"


class Collection:
    """Where pushes go, while they count.

    Args:
        books: What comes in is entered in.
        dealer: Grants the work.

    Attributes:
        fragment_rows: T of what will be granted, as far as is known at registration.
        fragment_bytes: What the columns of one such fragment take.
        flow: Where pushes go if not into rounds.
    """

    def __init__(self, books: Books, dealer: Dealer) -> None:
        self.fragment_rows = 0
        self.fragment_bytes = 0
        self.flow: Flow | None = None
        self._books = books
        self._dealer = dealer
        self._checks: Admission | None = None
        self._rounds: RoundIntake | None = None
        self._stopped = False

    @property
    def checks(self) -> Admission:
        """What a push has to pass.

        Raises:
            ValueError: Nothing is known of its columns yet.
        """
        if self._checks is None:
            raise ValueError(_NOT_OPEN)
        return self._checks

    @property
    def rounds(self) -> RoundIntake:
        """Where the fragments of rounds go.

        Raises:
            ValueError: As `checks`.
        """
        if self._rounds is None:
            raise ValueError(_NOT_OPEN)
        return self._rounds

    @property
    def is_over(self) -> bool:
        """Whether no push can count any more."""
        over = self._stopped or self._dealer.finish_reason is not None
        return over or self._books.budget_met

    def prepare(self, policy: Signature, fragment_rows: int) -> None:
        """Fixes the columns of every push.

        Raises:
            ValueError: The signature records no `valid` column.
        """
        if VALID not in {column.key for column in policy.columns}:
            raise ValueError("the signature lacks the column valid, which steps are counted by")
        self.fragment_rows = fragment_rows
        self.fragment_bytes = columns.fragment_bytes(policy.columns, fragment_rows)
        self._checks = Admission(policy)
        self._rounds = RoundIntake(policy.columns, self._dealer, self._books)

    def open_round(self, now: float, version: int, *, n_envs: int, n_steps: int) -> None:
        """Opens a round: exactly `n_envs` fragments of `n_steps` rows.

        Raises:
            ValueError: The run is not open or over, or the round before is still open or was not
                taken.
        """
        if self._rounds is None:
            raise ValueError("open_run and publish come before the first round")
        if self.flow is not None:
            raise ValueError("pushes go into a replay or a queue; no round can be opened")
        if self._rounds.is_open:
            raise ValueError("the round before is still open, or closed_round was not taken")
        if self.is_over:
            raise ValueError("the budget is met or the run is over; no round can follow")
        self._rounds.open(now, version, n_envs=n_envs, n_steps=n_steps)

    def open_flow(
        self,
        now: float,
        make: Callable[[Books], Flow],
        *,
        version: int,
        fragments_in_flight: int,
        per_slot: int | None = None,
    ) -> None:
        """Has all pushes flow from now on, and grants windows of fragments in flight.

        Args:
            now: The time.
            make: Makes what they flow into.
            version: The newest.
            fragments_in_flight: Of all samplers together at most; each has at least one.
            per_slot: For each slot at most.

        Raises:
            InvalidFieldError: `fragments_in_flight` below 1.
            ValueError: The run is not open, nothing is published, or rounds or a flow are open.
        """
        if self._rounds is None or not version:
            raise ValueError("open_run and publish come before the first grant")
        if self.flow is not None or self._rounds.is_open:
            raise ValueError("rounds, a replay or a queue are open already")
        flow = make(self._books)
        if self.is_over:
            flow.finish()
        else:
            self._dealer.open_credits(
                now,
                version,
                fragments=fragments_in_flight,
                per_slot=per_slot,
                rows=self.fragment_rows,
            )
        self.flow = flow

    def metrics(self) -> dict[str, float]:
        """The state of the replay or queue by metric name; empty without one."""
        return self.flow.metrics() if self.flow else {}

    def take_closed(self) -> OnPolicyBatch | None:
        """The round that is complete, once; None while there is none."""
        return self._rounds.take_closed() if self._rounds else None

    def stop(self) -> None:
        """Ends the collecting before the budget is met; evaluations may follow."""
        self._stopped = True
        self.abandon()
        if self.flow is not None:
            self.flow.finish()
        self._dealer.stop_collecting()

    def abandon(self) -> None:
        """Counts what a round that will never be complete had got, or what is left in a queue."""
        rows = self._rounds.delivered_rows if self._rounds else 0
        rows += self.flow.abandon() if self.flow is not None else 0
        if rows:
            self._books.ledger.add(LossReason.ABANDONED, rows=rows)
            self._books.header.commit()
