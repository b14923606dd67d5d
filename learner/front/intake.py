"""Intake: pushes, each counted once, on their way into a round or into replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import InvalidFieldError
from learner.experience import columns
from learner.experience.on_policy import VALID, OnPolicyBatch, OnPolicyStore
from learner.front import admission
from learner.front.admission import Admission
from learner.front.refusals import Refusal
from learner.front.replay_intake import ReplayIntake
from learner.front.watching import Curve
from learner.ledger import Ledger, LossReason
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from common.signature import Signature
    from learner.experience.replay import ReplayStore
    from learner.front.dealing import Dealer
    from learner.front.journal import Journal
    from learner.front.sessions import Session
    from learner.front.settings import FrontSettings
    from learner.rate_limiter import RateLimiter
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
        replay: Where pushes go if not into rounds.
    """

    def __init__(
        self, settings: FrontSettings, header: Header, dealer: Dealer, journal: Journal
    ) -> None:
        self.ledger = Ledger(header.totals.losses)
        self.curve = Curve()
        self.fragment_rows = 0
        self.fragment_bytes = 0
        self.replay: ReplayIntake | None = None
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
        if self.replay is not None:
            raise ValueError("pushes go into replay; no round can be opened")
        if self._dealer.round is not None or self._closed is not None:
            raise ValueError("the round before is still open, or closed_round was not taken")
        if self.is_over:
            raise ValueError("the budget is met or the run is over; no round can follow")
        self._store.open(version, n_envs=n_envs, n_steps=n_steps)
        self._stored_steps = 0
        self._dealer.open_round(now, version, fragments=n_envs, rows=n_steps)

    def open_replay(
        self,
        now: float,
        store: ReplayStore,
        limiter: RateLimiter,
        *,
        version: int,
        fragments_in_flight: int,
    ) -> None:
        """Sends all pushes into a store from now on, and grants credits.

        Raises:
            InvalidFieldError: `fragments_in_flight` below 1, or a store of another T.
            ValueError: The run is not open or over, or rounds or a replay were opened.
        """
        if self._checks is None:
            raise ValueError("open_run and publish come before open_replay")
        if self.replay is not None or self._dealer.round is not None or self._closed is not None:
            raise ValueError("rounds or a replay are open already")
        if store.settings.block_rows != self.fragment_rows:
            raise InvalidFieldError(
                "block_rows",
                f"{store.settings.block_rows}, but fragments have {self.fragment_rows} rows; a "
                "block holds one fragment",
            )
        if self.is_over:
            limiter.finish()
        else:
            self._dealer.open_credits(
                now, version, fragments=fragments_in_flight, rows=self.fragment_rows
            )
        self.replay = ReplayIntake(
            store,
            limiter,
            self._header,
            total_steps=self._total_steps,
            ledger=self.ledger,
            curve=self.curve,
        )

    def updates_due(self) -> int:
        """How many gradient steps may be taken now; 0 without a replay."""
        return self.replay.limiter.due() if self.replay else 0

    def metrics(self) -> dict[str, float]:
        """The state of the replay by metric name; empty without one."""
        return self.replay.metrics() if self.replay else {}

    def take_closed(self) -> OnPolicyBatch | None:
        """The round that is complete, once; None while there is none."""
        batch, self._closed = self._closed, None
        return batch

    def stop(self) -> None:
        """Ends the collecting before the budget is met; evaluations may follow."""
        self._stopped = True
        self.abandon()
        if self.replay is not None:
            self.replay.limiter.finish()
        self._dealer.stop_collecting()

    def abandon(self) -> None:
        """Counts what a round that will never be complete had got."""
        current = self._dealer.round
        if current is not None and current.delivered:
            self.ledger.add(LossReason.ABANDONED, rows=current.delivered * current.rows)
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
        replay = self.replay
        if replay is None or self.is_over:
            return True
        has_room, waited = replay.limiter.may_insert(), now - since
        if not has_room and waited < self._hold_seconds:
            return False
        replay.wait_seconds += waited
        if not has_room:
            raise Refusal.no_room(waited)
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
        if self.replay is not None:
            return self._into_replay(now, session, request.batch, self.replay, newest_version)
        return self._into_round(now, session, request)

    def _into_replay(
        self,
        now: float,
        session: Session,
        batch: trajectory_pb2.TrajectoryBatch,
        replay: ReplayIntake,
        newest_version: int,
    ) -> learner_pb2.Verdict.ValueType:
        """Any fragments of the run do, whatever grant they were rolled under."""
        try:
            admission.check_flowing(
                batch, session, rows=self.fragment_rows, newest_version=newest_version
            )
            segment = self._opened[0].segment(batch)
        except InvalidFieldError as error:
            raise Refusal.invalid(error, "batch") from None
        steps = replay.insert(segment, admission.keys_of(batch.slots, session.index))
        self._count(now, session, batch, steps)
        if self.budget_met:
            self._dealer.stop_collecting()
        return _ACCEPTED

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
