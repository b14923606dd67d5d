"""Intake: pushes, each counted once, on their way into the round that is being rolled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import InvalidFieldError
from learner.experience import columns
from learner.experience.on_policy import VALID, OnPolicyBatch, OnPolicyStore
from learner.front import admission
from learner.front.admission import Admission
from learner.front.refusals import Refusal
from learner.front.watching import Curve
from learner.ledger import Ledger, LossReason
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from common.signature import Signature
    from learner.experience.on_policy import Segment
    from learner.front.dealing import Dealer
    from learner.front.journal import Journal
    from learner.front.sessions import Session
    from learner.front.settings import FrontSettings
    from protos.wiserl.v1 import trajectory_pb2

_ACCEPTED = learner_pb2.VERDICT_ACCEPTED
_DUPLICATE = learner_pb2.VERDICT_DUPLICATE
_STALE = learner_pb2.VERDICT_STALE
_ENDED = learner_pb2.VERDICT_ENDED


class Intake:
    """Takes pushes into rounds.

    Attributes:
        environment_steps: Valid steps that count towards the budget; never falls or exceeds it.
        ledger: What was pushed and is not trained on.
        curve: Of the returns of training episodes.
        fragment_rows: T of what will be granted, as far as is known at registration.
        fragment_bytes: What the columns of one such fragment take.
    """

    def __init__(self, settings: FrontSettings, dealer: Dealer, journal: Journal) -> None:
        self.environment_steps = settings.environment_steps
        self.ledger = Ledger()
        self.curve = Curve()
        self.fragment_rows = 0
        self.fragment_bytes = 0
        self._total_steps = settings.total_steps
        self._dealer = dealer
        self._journal = journal
        self._checks: Admission | None = None
        self._store: OnPolicyStore | None = None
        self._stored_steps = 0
        self._closed: OnPolicyBatch | None = None

    @property
    def is_over(self) -> bool:
        """Whether no push can count any more."""
        met = self.environment_steps >= self._total_steps
        return met or self._dealer.finish_reason is not None

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
        if self._dealer.round is not None or self._closed is not None:
            raise ValueError("the round before is still open, or closed_round was not taken")
        if self.is_over:
            raise ValueError("the budget is met or the run is over; no round can follow")
        self._store.open(version, n_envs=n_envs, n_steps=n_steps)
        self._stored_steps = 0
        self._dealer.open_round(now, version, fragments=n_envs, rows=n_steps)

    def take_closed(self) -> OnPolicyBatch | None:
        """The round that is complete, once; None while there is none."""
        batch, self._closed = self._closed, None
        return batch

    def abandon(self) -> None:
        """Counts what a round that will never be complete had got."""
        current = self._dealer.round
        if current is not None and current.delivered:
            self.ledger.add(LossReason.ABANDONED, rows=current.delivered * current.rows)

    def push(
        self, now: float, session: Session, request: learner_pb2.PushTrajectoriesRequest
    ) -> learner_pb2.Verdict.ValueType:
        """Takes a push and remembers its answer, so that a retry counts nothing again.

        Raises:
            Refusal: INVALID_ARGUMENT, or RESOURCE_EXHAUSTED without RetryInfo.
        """
        if request.sequence < 1:
            raise Refusal.invalid(InvalidFieldError("sequence", "is 0; the first sequence is 1"))
        if request.sequence <= session.last_sequence:
            return _repeated(session, request.sequence)
        try:
            verdict = self._admit(now, session, request)
        except Refusal as refusal:
            self._journal.warn("push_refused", index=session.index, why=str(refusal))
            self._lose(LossReason.REFUSED, request)
            self._count_gap(session, request.sequence)
            session.last_sequence, session.last_answer = request.sequence, refusal
            raise
        self._count_gap(session, request.sequence)
        session.last_sequence, session.last_answer = request.sequence, verdict
        return verdict

    def lose_unknown(self, request: learner_pb2.PushTrajectoriesRequest) -> None:
        """Counts a push whose session is over, once: should it come back, that is no gap."""
        if self._dealer.sessions.pass_over(request.sampler_id, request.sequence):
            self._lose(LossReason.UNKNOWN_SAMPLER, request)

    def _admit(
        self, now: float, session: Session, request: learner_pb2.PushTrajectoriesRequest
    ) -> learner_pb2.Verdict.ValueType:
        if self.is_over:
            self._lose(LossReason.ENDED, request)
            return _ENDED
        current = self._dealer.round
        grant = current.grant(request.grant_id, session.sampler_id) if current else None
        if current is None or grant is None:
            self._lose(LossReason.STALE, request)
            return _STALE
        try:
            admission.check_parts(request.batch, session, grant, current)
            segment = self._opened[0].segment(request.batch)
        except InvalidFieldError as error:
            raise Refusal.invalid(error, "batch") from None
        self._insert(session, request.batch, segment, current.deliver(grant, _slots(request.batch)))
        session.moved_at = now
        if current.complete:
            self._close()
        return _ACCEPTED

    @property
    def _opened(self) -> tuple[Admission, OnPolicyStore]:
        if self._checks is None or self._store is None:
            raise ValueError("a push before open_run; nobody can have a session then")
        return self._checks, self._store

    def _insert(
        self,
        session: Session,
        batch: trajectory_pb2.TrajectoryBatch,
        segment: Segment,
        positions: list[int],
    ) -> None:
        """Copies a checked segment into the round; nothing of it can be refused any more."""
        keys = admission.keys_of(batch.slots, session.index)
        steps = self._opened[1].write(positions, keys, segment)
        admission.advance(session, batch.slots, batch.rows)
        session.environment_steps += steps
        self._stored_steps += steps

    def _close(self) -> None:
        """Closes the round: its order, and what of it is within the budget."""
        batch = self._opened[1].close(self._total_steps - self.environment_steps)
        if batch.steps < self._stored_steps:
            self.ledger.add(LossReason.BEYOND_BUDGET, rows=self._stored_steps - batch.steps)
        self.environment_steps += batch.steps
        self.curve.extend(self.environment_steps, batch.episodes)
        self._dealer.round = None
        self._closed = batch

    def _lose(self, reason: LossReason, request: learner_pb2.PushTrajectoriesRequest) -> None:
        """Counts a push that is not stored; its rows unchecked, but no more than can be granted."""
        rows = min(request.batch.rows, self.fragment_rows) * len(request.batch.slots)
        self.ledger.add(reason, pushes=1, rows=rows)

    def _count_gap(self, session: Session, sequence: int) -> None:
        """Counts the sequences between the last one and this one: they never arrived."""
        gap = sequence - session.last_sequence - 1
        if gap:
            lost = LossReason.LOST_IN_RESTART if session.is_from_before else LossReason.SEQUENCE_GAP
            self.ledger.add(lost, pushes=gap)
        session.is_from_before = False


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
