"""Intake: pushes, each counted once, on their way into a round, into replay or into a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import InvalidFieldError
from learner.front import admission
from learner.front.refusals import Refusal
from learner.ledger import LossReason
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from learner.front.books import Books
    from learner.front.collection import Collection
    from learner.front.dealing import Dealer
    from learner.front.flowing import Flow
    from learner.front.journal import Journal
    from learner.front.session import Session
    from learner.front.settings import Limits
    from protos.wiserl.v1 import trajectory_pb2

_ACCEPTED = learner_pb2.VERDICT_ACCEPTED
_STALE = learner_pb2.VERDICT_STALE
_ENDED = learner_pb2.VERDICT_ENDED


class Intake:
    """Takes pushes, and commits the header before any of them is answered for good.

    Args:
        limits: Say for how long a push may be held.
        books: What is taken is entered in.
        collection: Where it goes.
        dealer: Knows what was granted.
        journal: Is told of what is refused.
    """

    def __init__(
        self,
        limits: Limits,
        books: Books,
        collection: Collection,
        dealer: Dealer,
        journal: Journal,
    ) -> None:
        self._hold_seconds = limits.hold_seconds
        self._books = books
        self._collection = collection
        self._dealer = dealer
        self._journal = journal

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
            return session.repeated(request.sequence)
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
        gap = session.settle(sequence, answer)
        if gap:
            self._books.ledger.add(LossReason.SEQUENCE_GAP, pushes=gap)
        self._books.header.commit()

    def _has_room(self, now: float, since: float) -> bool:
        """Whether a push need not be held, or not any longer.

        Raises:
            Refusal: RESOURCE_EXHAUSTED with RetryInfo: it was held for long enough.
        """
        flow = self._collection.flow
        if flow is None or self._collection.is_over:
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
            self._books.header.commit()

    def _admit(
        self,
        now: float,
        session: Session,
        request: learner_pb2.PushTrajectoriesRequest,
        newest_version: int,
    ) -> learner_pb2.Verdict.ValueType:
        if self._collection.is_over:
            self._lose(LossReason.ENDED, request)
            return _ENDED
        flow = self._collection.flow
        if flow is not None:
            return self._into_flow(now, session, request, flow, newest_version)
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
            segment = self._collection.checks.segment(batch)
        except InvalidFieldError as error:
            raise Refusal.invalid(error, "batch") from None
        keys = admission.keys_of(batch.slots, session.index)
        steps = flow.insert(segment, keys, batch.version)
        self._count(now, session, batch, steps)
        if self._books.budget_met:
            self._dealer.stop_collecting()
        return _ACCEPTED

    def _rows_of(self, session: Session, rows: int) -> int:
        """T of a push of so many rows: this, where the sampler was granted such fragments."""
        dealt = self._dealer.credits
        is_granted = dealt is not None and dealt.are_rows_of(session.sampler_id, rows)
        return rows if is_granted else self._collection.fragment_rows

    def _into_round(
        self, now: float, session: Session, request: learner_pb2.PushTrajectoriesRequest
    ) -> learner_pb2.Verdict.ValueType:
        current, batch = self._dealer.round, request.batch
        grant = current.grant(request.grant_id, session.sampler_id) if current else None
        if current is None or grant is None:
            self._lose(LossReason.STALE, request)
            return _STALE
        try:
            admission.check_granted(batch, session, grant, current)
            segment = self._collection.checks.segment(batch)
        except InvalidFieldError as error:
            raise Refusal.invalid(error, "batch") from None
        positions = current.deliver(grant, [part.slot for part in batch.slots])
        keys = admission.keys_of(batch.slots, session.index)
        rounds = self._collection.rounds
        steps = rounds.write(positions, keys, segment)
        self._count(now, session, batch, steps)
        if current.complete:
            rounds.close()
        return _ACCEPTED

    def _count(
        self, now: float, session: Session, batch: trajectory_pb2.TrajectoryBatch, steps: int
    ) -> None:
        """Counts what is stored; no later push may bring these rows again."""
        session.moved_at = now
        admission.advance(session, batch.slots, batch.rows)
        rows = batch.rows * len(batch.slots)
        session.environment_steps += steps
        session.totals.rows += rows
        self._books.header.totals.rows += rows

    def _lose(self, reason: LossReason, request: learner_pb2.PushTrajectoriesRequest) -> None:
        """Counts a push that is not stored; its rows unchecked, but no more than can be granted."""
        rows = min(request.batch.rows, self._collection.fragment_rows) * len(request.batch.slots)
        self._books.ledger.add(reason, pushes=1, rows=rows)
