"""Intake: pushes, each counted once, on their way into a round, into replay or into a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import InvalidFieldError
from learner.experience import columns
from learner.experience.on_policy import VALID, OnPolicyBatch, OnPolicyStore
from learner.front import admission
from learner.front.admission import Admission
from learner.front.flowing import Books, Flow
from learner.front.refusals import Refusal
from learner.front.watching import Curve
from learner.ledger import Ledger, LossReason
from learner.staleness import Publications
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.signature import Signature
    from learner.front.dealing import Dealer
    from learner.front.journal import Journal
    from learner.front.session import Session
    from learner.front.settings import FrontSettings
    from learner.totals import Header
    from protos.wiserl.v1 import trajectory_pb2

_ACCEPTED = learner_pb2.VERDICT_ACCEPTED
_DUPLICATE = learner_pb2.VERDICT_DUPLICATE
_STALE = learner_pb2.VERDICT_STALE
_ENDED = learner_pb2.VERDICT_ENDED


class Intake:
    """Takes pushes, and commits the header before any of them is answered for good.

    Attributes:
        ledger: What was pushed and is not trained on.
        curve: Of the returns of training episodes.
        fragment_rows: T of what will be granted, as far as is known at registration.
        fragment_bytes: What the columns of one such fragment take.
        flow: Where pushes go if not into rounds.
        publications: The versions that there were.
    """

    def __init__(
        self, settings: FrontSettings, header: Header, dealer: Dealer, journal: Journal
    ) -> None:
        self.ledger = Ledger(header.totals.losses)
        self.curve = Curve()
        self.fragment_rows = 0
        self.fragment_bytes = 0
        self.flow: Flow | None = None
        self.publications = Publications()
        self._header = header
        self._total_steps = settings.total_steps
        self._hold_seconds = settings.limits.hold_seconds
        self._dealer = dealer
        self._journal = journal
        self._checks: Admission | None = None
        self._store: OnPolicyStore | None = None
        self._stored_steps = 0
        self._closed: OnPolicyBatch | None = None
        self._stopped = False

    @property
    def agents(self) -> int:
        """How many agents' returns an episode has; 0 for a single agent."""
        return self._opened[0].agents

    @property
    def environment_steps(self) -> int:
        """Valid steps that count towards the budget; never falls or exceeds it."""
        return self._header.totals.environment_steps

    @property
    def budget_met(self) -> bool:
        """Whether there are as many as there may be."""
        return self.environment_steps >= self._total_steps

    @property
    def is_over(self) -> bool:
        """Whether no push can count any more."""
        return self.budget_met or self._stopped or self._dealer.finish_reason is not None

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
        self._store = OnPolicyStore(policy.columns)

    def open_round(self, now: float, version: int, *, n_envs: int, n_steps: int) -> None:
        """Opens a round: exactly `n_envs` fragments of `n_steps` rows.

        Raises:
            ValueError: The run is not open or over, or the round before is still open or was not
                taken.
        """
        if self._store is None:
            raise ValueError("open_run and publish come before the first round")
        if self.flow is not None:
            raise ValueError("pushes go into a replay or a queue; no round can be opened")
        if self._dealer.round is not None or self._closed is not None:
            raise ValueError("the round before is still open, or closed_round was not taken")
        if self.is_over:
            raise ValueError("the budget is met or the run is over; no round can follow")
        self._store.open(version, n_envs=n_envs, n_steps=n_steps)
        self._stored_steps = 0
        self._dealer.open_round(now, version, fragments=n_envs, rows=n_steps)

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
        if self._checks is None or not version:
            raise ValueError("open_run and publish come before the first grant")
        if self.flow is not None or self._dealer.round is not None or self._closed is not None:
            raise ValueError("rounds, a replay or a queue are open already")
        books = Books(self._header, self._total_steps, self.ledger, self.curve, self.publications)
        flow = make(books)
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
        batch, self._closed = self._closed, None
        return batch

    def stop(self) -> None:
        """Ends the collecting before the budget is met; evaluations may follow."""
        self._stopped = True
        self.abandon()
        if self.flow is not None:
            self.flow.finish()
        self._dealer.stop_collecting()

    def abandon(self) -> None:
        """Counts what a round that will never be complete had got, or what is left in a queue."""
        current = self._dealer.round
        rows = current.delivered * current.rows if current is not None else 0
        rows += self.flow.abandon() if self.flow is not None else 0
        if rows:
            self.ledger.add(LossReason.ABANDONED, rows=rows)
            self._header.commit()

    def push(
        self,
        now: float,
        session: Session,
        request: learner_pb2.PushTrajectoriesRequest,
        *,
        since: float,
        newest_version: int,
    ) -> learner_pb2.Verdict.ValueType | None:
        """Takes a push and remembers its answer, so that a retry counts nothing again.

        None while there is no room for it and it may be held for longer.

        Raises:
            Refusal: INVALID_ARGUMENT; RESOURCE_EXHAUSTED, with RetryInfo where there was no room
                for as long as a push is held, which is no final answer.
        """
        if request.sequence < 1:
            raise Refusal.invalid(InvalidFieldError("sequence", "is 0; the first sequence is 1"))
        if request.sequence <= session.last_sequence:
            return _repeated(session, request.sequence)
        if not self._has_room(now, since):
            return None
        try:
            verdict = self._admit(now, session, request, newest_version)
        except Refusal as refusal:
            self._journal.warn("push_refused", index=session.index, why=str(refusal))
            self._lose(LossReason.REFUSED, request)
            self._settle(session, request.sequence, refusal)
            raise
        self._settle(session, request.sequence, verdict)
        return verdict

    def _settle(
        self, session: Session, sequence: int, answer: learner_pb2.Verdict.ValueType | Refusal
    ) -> None:
        """Makes an answer the final one, whatever becomes of this process."""
        gap = sequence - session.last_sequence - 1
        if gap:
            self.ledger.add(LossReason.SEQUENCE_GAP, pushes=gap)
        session.totals.sequence, session.last_answer = sequence, answer
        self._header.commit()

    def _has_room(self, now: float, since: float) -> bool:
        """Whether a push need not be held, or not any longer.

        Raises:
            Refusal: RESOURCE_EXHAUSTED with RetryInfo: it was held for long enough.
        """
        flow = self.flow
        if flow is None or self.is_over:
            return True
        has_room, waited = flow.has_room(), now - since
        if not has_room and waited < self._hold_seconds:
            return False
        flow.wait_seconds += waited
        if not has_room:
            raise Refusal.no_room(waited, flow.full)
        return True

    def lose_unknown(self, request: learner_pb2.PushTrajectoriesRequest) -> None:
        """Counts a push whose session is over, once: should it come back, that is no gap."""
        if self._dealer.sessions.pass_over(request.sampler_id, request.sequence):
            self._lose(LossReason.UNKNOWN_SAMPLER, request)
            self._header.commit()

    def _admit(
        self,
        now: float,
        session: Session,
        request: learner_pb2.PushTrajectoriesRequest,
        newest_version: int,
    ) -> learner_pb2.Verdict.ValueType:
        if self.is_over:
            self._lose(LossReason.ENDED, request)
            return _ENDED
        if self.flow is not None:
            return self._into_flow(now, session, request, self.flow, newest_version)
        return self._into_round(now, session, request)

    def _into_flow(
        self,
        now: float,
        session: Session,
        request: learner_pb2.PushTrajectoriesRequest,
        flow: Flow,
        newest_version: int,
    ) -> learner_pb2.Verdict.ValueType:
        """Any fragments of the run do, whatever grant they were rolled under."""
        batch = request.batch
        try:
            rows = self._rows_of(session, batch.rows)
            admission.check_flowing(batch, session, rows=rows, newest_version=newest_version)
            fragments = len(batch.slots)
            if flow.turns_away(session.index, batch.version, rows=rows, fragments=fragments):
                self._lose(LossReason.STALE, request)
                return _STALE
            segment = self._opened[0].segment(batch)
        except InvalidFieldError as error:
            raise Refusal.invalid(error, "batch") from None
        keys = admission.keys_of(batch.slots, session.index)
        steps = flow.insert(segment, keys, batch.version)
        self._count(now, session, batch, steps)
        if self.budget_met:
            self._dealer.stop_collecting()
        return _ACCEPTED

    def _rows_of(self, session: Session, rows: int) -> int:
        """T of a push of so many rows: this, where the sampler was granted such fragments."""
        dealt = self._dealer.credits
        is_granted = dealt is not None and dealt.are_rows_of(session.sampler_id, rows)
        return rows if is_granted else self.fragment_rows

    def _into_round(
        self, now: float, session: Session, request: learner_pb2.PushTrajectoriesRequest
    ) -> learner_pb2.Verdict.ValueType:
        current = self._dealer.round
        grant = current.grant(request.grant_id, session.sampler_id) if current else None
        if current is None or grant is None:
            self._lose(LossReason.STALE, request)
            return _STALE
        try:
            admission.check_granted(request.batch, session, grant, current)
            segment = self._opened[0].segment(request.batch)
        except InvalidFieldError as error:
            raise Refusal.invalid(error, "batch") from None
        positions = current.deliver(grant, _slots(request.batch))
        keys = admission.keys_of(request.batch.slots, session.index)
        steps = self._opened[1].write(positions, keys, segment)
        self._stored_steps += steps
        self._count(now, session, request.batch, steps)
        if current.complete:
            self._close()
        return _ACCEPTED

    @property
    def _opened(self) -> tuple[Admission, OnPolicyStore]:
        if self._checks is None or self._store is None:
            raise ValueError("a push before open_run; nobody can have a session then")
        return self._checks, self._store

    def _count(
        self, now: float, session: Session, batch: trajectory_pb2.TrajectoryBatch, steps: int
    ) -> None:
        """Counts what is stored; no later push may bring these rows again."""
        session.moved_at = now
        admission.advance(session, batch.slots, batch.rows)
        rows = batch.rows * len(batch.slots)
        session.environment_steps += steps
        session.totals.rows += rows
        self._header.totals.rows += rows

    def _close(self) -> None:
        """Closes the round: its order, and what of it is within the budget."""
        batch = self._opened[1].close(self._total_steps - self.environment_steps)
        if batch.steps < self._stored_steps:
            self.ledger.add(LossReason.BEYOND_BUDGET, rows=self._stored_steps - batch.steps)
        self._header.totals.environment_steps += batch.steps
        self.curve.extend(self.environment_steps, batch.episodes)
        self._dealer.round = None
        self._closed = batch

    def _lose(self, reason: LossReason, request: learner_pb2.PushTrajectoriesRequest) -> None:
        """Counts a push that is not stored; its rows unchecked, but no more than can be granted."""
        rows = min(request.batch.rows, self.fragment_rows) * len(request.batch.slots)
        self.ledger.add(reason, pushes=1, rows=rows)


def _slots(batch: trajectory_pb2.TrajectoryBatch) -> list[int]:
    return [part.slot for part in batch.slots]


def _repeated(session: Session, sequence: int) -> learner_pb2.Verdict.ValueType:
    """The answer to a sequence that had one: the same, but DUPLICATE where it was accepted.

    Raises:
        Refusal: It was refused.
    """
    if sequence < session.last_sequence or session.last_answer == _ACCEPTED:
        return _DUPLICATE
    if isinstance(session.last_answer, Refusal):
        raise session.last_answer
    return session.last_answer
