"""Dealing: who gets which work, and what becomes of it when a lease ends.

A state machine without network or clock, between `rounds`, `credits` and `evaluations`, which know
work, and `sessions`, which knows samplers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from learner.credits import Credit, Credits
from learner.evaluations import EvaluationGrant, Evaluations
from learner.front.sessions import Sessions, numbers
from learner.rounds import Round, RoundGrant
from protos.wiserl.v1 import grant_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.front.journal import Journal
    from learner.front.session import Session
    from learner.front.settings import FrontSettings
    from learner.publishing.publication import Publication
    from learner.rounds import Seat
    from learner.totals import Totals
    from protos.wiserl.v1 import learner_pb2


class Dealer:
    """Grants work to the samplers that are there.

    Attributes:
        sessions: The samplers.
        round: The round that is being rolled; None between rounds.
        credits: What may be in flight; None where rounds are rolled, or nothing is.
        evaluations: The evaluations.
        finish_reason: Why the run is over; None while it is not.
    """

    def __init__(self, settings: FrontSettings, totals: Totals, journal: Journal) -> None:
        self.sessions = Sessions(settings.limits, totals)
        self.round: Round | None = None
        self.credits: Credits | None = None
        self.finish_reason: str | None = None
        self._grant_ids = numbers(totals.restarts)
        self.evaluations = Evaluations(numbers(totals.restarts), self._grant_ids)
        self._lease = settings.limits.lease_seconds
        self._awaited = settings.expect_samplers or 1
        self._journal = journal
        self._warned_of = 0

    def join(
        self, now: float, request: learner_pb2.RegisterRequest, reserved_bytes: int
    ) -> Session:
        """Opens a session, which gets at once what nobody else works on.

        Raises:
            Refusal: See `Sessions.open`; the session that the sampler had goes on.
        """
        former = self.sessions.find(request.sampler_id)
        session = self.sessions.open(now, request, reserved_bytes)
        if former is not None:
            self._end_work(former)
        if self.finish_reason is not None:
            self._tell_finish(session)
        self._journal.note(
            "sampler_registered", index=session.index, name=session.name, slots=session.slots
        )
        self.deal(now)
        return session

    def leave(self, now: float, session: Session) -> None:
        """Ends a session; others get its work at once."""
        self._end_work(session)
        self.sessions.close(now, session)
        self._journal.note("sampler_left", index=session.index, name=session.name)
        self.deal(now)

    def open_round(self, now: float, version: int, *, fragments: int, rows: int) -> None:
        """Begins a round; what the samplers had of the one before is over."""
        for session in self.sessions:
            self.sessions.drop(session, _collecting(session))
        self.round = Round(version, fragments=fragments, rows=rows, grant_ids=self._grant_ids)
        self.deal(now)

    def open_credits(
        self, now: float, version: int, *, fragments: int, rows: int, per_slot: int | None = None
    ) -> None:
        """Begins to grant fragments in flight, of a version or any later one.

        Raises:
            InvalidFieldError: `fragments` below 1.
        """
        self.credits = Credits(
            fragments, per_slot=per_slot, rows=rows, version=version, grant_ids=self._grant_ids
        )
        self.deal(now)

    def judged(self, index: int, *, rows: int, fragments: int, is_stale: bool) -> None:
        """Takes note of whether fragments of a sampler were stale when they were looked at.

        One that is mostly stale takes too long over a fragment, or to bring it: it gets shorter
        ones. Those that are longer than what it is granted now say nothing any more.
        """
        session = next((each for each in self.sessions if each.index == index), None)
        if session is None or self.credits is None:
            return
        if rows != self.credits.rows_of(session.sampler_id):
            return
        is_mostly = session.judge(fragments, is_stale=is_stale)
        shortened = self.credits.shorten(session.sampler_id) if is_mostly else None
        if shortened is None:
            return
        over, credit = shortened
        self.sessions.drop(session, [over])
        self.sessions.put(session, [_flow(credit, self.credits)])
        self._journal.warn(
            "sampler_stale",
            index=session.index,
            name=session.name,
            rows=credit.rows,
            remedy="more than half of what it brings is too old, so its segments are half as long "
            "now; raise max_staleness, or see why it is slow",
        )

    def stop_collecting(self) -> None:
        """Nothing more is to be collected; what is in flight is over."""
        self.round = None
        self.credits = None
        for session in self.sessions:
            self.sessions.drop(session, _collecting(session))

    def start_evaluation(self, now: float, publication: Publication, seeds: Sequence[int]) -> int:
        """Begins an evaluation; answers its id."""
        evaluation_id = self.evaluations.start(publication, seeds)
        self.deal(now)
        return evaluation_id

    def end_evaluation(self, evaluation_id: int) -> None:
        """Ends the grants of an evaluation that is complete."""
        evaluation = self.evaluations.running(evaluation_id)
        if evaluation is None:
            return
        for grant in self.evaluations.close(evaluation):
            session = self.sessions.find(grant.sampler_id)
            if session is not None:
                self.sessions.drop(session, [grant.grant_id])

    def deal(self, now: float) -> None:
        """Gives what nobody works on to whoever is there; collecting waits for all awaited."""
        seats = self.sessions.seats()
        idle = {session.sampler_id for session in self.sessions if not self.owes(session)}
        granted = self._deal_collecting(seats) if len(seats) >= self._awaited else []
        granted += [(grant.sampler_id, _evaluate(grant)) for grant in self.evaluations.deal(seats)]
        for sampler_id, message in granted:
            session = self.sessions.get(sampler_id)
            if sampler_id in idle:
                session.moved_at = now
            self.sessions.put(session, [message])

    def _deal_collecting(self, seats: Sequence[Seat]) -> list[tuple[str, grant_pb2.Grant]]:
        if self.round is None and self.credits is None:
            return []
        self._awaited = 1
        granted: list[tuple[str, grant_pb2.Grant]] = []
        if self.round is not None:
            self._warn_of_idle(sum(seat.slots for seat in seats) - self.round.fragments)
            granted += [
                (grant.sampler_id, _collect(grant, self.round)) for grant in self.round.deal(seats)
            ]
        if self.credits is not None:
            granted += [
                (credit.sampler_id, _flow(credit, self.credits))
                for credit in self.credits.deal(seats)
            ]
        return granted

    def owes(self, session: Session) -> bool:
        """Whether a sampler has work that it has not handed in.

        Credits are no debt: a push may be held for long, and a sampler does nothing meanwhile.
        """
        missing = self.round.missing_of(session.sampler_id) if self.round else 0
        return missing + self.evaluations.missing_of(session.sampler_id) > 0

    def tick(self, now: float) -> bool:
        """Ends leases that ran out; others get their work at once.

        Returns:
            Whether a session ended.
        """
        self.sessions.forget(now)
        before = len(self.sessions)
        for session in list(self.sessions):
            if now >= session.pulled_at + self._lease:
                self._end_work(session)
                self.sessions.close(now, session)
                self._journal.warn("sampler_lost", index=session.index, name=session.name)
            elif now >= session.moved_at + self._lease and self.owes(session):
                self._take_back(session)
                self._journal.warn("sampler_stalled", index=session.index, name=session.name)
        self.deal(now)
        return len(self.sessions) < before

    def next_tick(self) -> float | None:
        """When the next lease runs out, in seconds; None where there is none."""
        ends = [session.pulled_at for session in self.sessions]
        ends += [session.moved_at for session in self.sessions if self.owes(session)]
        return min(ends) + self._lease if ends else None

    def finish(self, reason: str) -> None:
        """Takes all work back for good and tells every sampler that the run is over."""
        self.finish_reason = reason
        self.round = None
        self.credits = None
        self.evaluations.stop()
        for session in self.sessions:
            self.sessions.drop(session, list(session.grants))
            self._tell_finish(session)

    def _warn_of_idle(self, slots: int) -> None:
        """Says that a round leaves slots without work, once for each number of them."""
        if slots > 0 and slots != self._warned_of:
            self._journal.warn("slots_idle", slots=slots, remedy="raise n_envs or lower the slots")
        self._warned_of = slots

    def _tell_finish(self, session: Session) -> None:
        finish = grant_pb2.FinishGrant(reason=self.finish_reason or "")
        self.sessions.put(session, [grant_pb2.Grant(grant_id=next(self._grant_ids), finish=finish)])

    def _end_work(self, session: Session) -> None:
        """The session is about to end, and all its work with it."""
        self._take_back(session)
        if self.credits is not None:
            self.sessions.drop(session, self.credits.take_back(session.sampler_id))

    def _take_back(self, session: Session) -> None:
        """Ends what a sampler owes; others can have it."""
        over = self.evaluations.take_back(session.sampler_id)
        if self.round is not None:
            over += self.round.take_back(session.sampler_id)
        self.sessions.drop(session, over)


def _collecting(session: Session) -> list[int]:
    return [number for number, grant in session.grants.items() if grant.HasField("collect")]


def _collect(grant: RoundGrant, of: Round) -> grant_pb2.Grant:
    amount = grant_pb2.FiniteAmount(fragments=grant.fragments, slots=grant.slots)
    collect = grant_pb2.CollectGrant(rows=of.rows, version=of.version, finite=amount)
    return grant_pb2.Grant(grant_id=grant.grant_id, collect=collect)


def _flow(credit: Credit, of: Credits) -> grant_pb2.Grant:
    amount = grant_pb2.WindowAmount(fragments=credit.fragments)
    collect = grant_pb2.CollectGrant(
        rows=credit.rows, version=of.version, or_newer=True, window=amount
    )
    return grant_pb2.Grant(grant_id=credit.grant_id, collect=collect)


def _evaluate(grant: EvaluationGrant) -> grant_pb2.Grant:
    evaluate = grant_pb2.EvaluateGrant(
        evaluation_id=grant.evaluation_id, version=grant.version, seeds=grant.seeds
    )
    return grant_pb2.Grant(grant_id=grant.grant_id, evaluate=evaluate)
