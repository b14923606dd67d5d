"""The answers to the calls of samplers and of people, from the state of the run.

A state machine without network or clock: time is an argument (seconds of any one monotonic clock),
and None is the answer that would have to wait. Requests and responses are the contract's own
messages, so that the in-process pump and the gRPC service answer alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import InvalidFieldError, Reason
from learner.front import admission, registration, watching
from learner.front.books import Books
from learner.front.bulletin import Bulletin
from learner.front.collection import Collection
from learner.front.dealing import Dealer
from learner.front.intake import Intake
from learner.front.journal import Journal
from learner.front.refusals import Refusal
from learner.totals import Header, MemoryHeader
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from common.specs import EnvironmentSpec
    from learner.front.settings import FrontSettings, RunIdentity
    from learner.ledger import Ledger
    from protos.wiserl.v1 import signature_pb2


class Answers:
    """The learner's side of the contract.

    Args:
        run: What run it is.
        settings: See `FrontSettings`.
        header: Keeps what outlives this process; its totals say what is left of the budget, which
            pushes were taken and what was lost, before and now.

    Attributes:
        settings: See `FrontSettings`.
        spec: The environment as the first sampler found it; None until one registered.
        draining: Whether every call is answered UNAVAILABLE.
        milestones: Grows whenever something happens that training may be waiting for: a spec, a
            sampler that comes or goes, a closed round, a push into replay or a queue, a complete
            evaluation, a sampler that was told that the run is over, draining.
        journal: What there is to say to people.
    """

    def __init__(
        self, run: RunIdentity, settings: FrontSettings, header: Header | None = None
    ) -> None:
        header = header or MemoryHeader()
        self.settings = settings
        self.spec: EnvironmentSpec | None = None
        self.draining = False
        self.milestones = 0
        self.journal = Journal()
        self._run = run
        self._header = header
        self._dealer = Dealer(settings, header.totals, self.journal)
        self._sessions = self._dealer.sessions
        self._books = Books.opened(header, settings.total_steps)
        self._collection = Collection(self._books, self._dealer)
        self._intake = Intake(
            settings.limits, self._books, self._collection, self._dealer, self.journal
        )
        self._bulletin = Bulletin(first_scalars_version=(header.totals.restarts << 32) + 1)
        self._signature: signature_pb2.Signature | None = None
        self._unsupported: str | None = None
        self._metrics: dict[str, float] = {}
        self._everyone_changed = False
        self._pushes_changed = False

    def get_run(self) -> learner_pb2.GetRunResponse:
        """What run this is.

        Raises:
            Refusal: UNAVAILABLE while draining.
        """
        if self.draining:
            raise Refusal.draining()
        return self._run.to_proto(self.settings.limits)

    def register(
        self, now: float, request: learner_pb2.RegisterRequest
    ) -> learner_pb2.RegisterResponse | None:
        """Opens a session; None until the run is open, that is while the policy is exported.

        Raises:
            Refusal: As the contract says for `Register`.
        """
        self._check_run(request.run_id)
        spec = registration.check(request, self.settings.limits)
        if self._unsupported is not None:
            raise Refusal.precondition(Reason.ENVIRONMENT_UNSUPPORTED, self._unsupported)
        if self.spec is None:
            self.spec = spec
            self.milestones += 1
        registration.check_same(self.spec, spec)
        if self._signature is None:
            return None
        reserved = registration.push_bytes(
            request,
            fragment_bytes=self._collection.fragment_bytes,
            rows=self._collection.fragment_rows,
            limits=self.settings.limits,
        )
        session = self._dealer.join(now, request, reserved)
        # A process that comes after this one knows the sampler, and counts a push that it finds
        # refused and then missing as lost once.
        self._header.commit()
        self._seats_changed()
        return learner_pb2.RegisterResponse(
            signature=self._signature,
            index=session.index,
            incarnation_base=session.incarnation_base,
            seed=self.settings.seed,
            last_sequence=session.last_sequence,
        )

    def pull(
        self, now: float, request: learner_pb2.PullWeightsRequest, *, since: float
    ) -> learner_pb2.PullWeightsResponse | None:
        """News for a sampler; None while there is none and it may wait for longer.

        Args:
            now: The time.
            request: The pull.
            since: When it arrived; the lease is renewed from then.

        Raises:
            Refusal: As the contract says for `PullWeights`.
        """
        self._check_run(request.run_id)
        session = self._sessions.get(request.sampler_id)
        if request.leaving:
            self._dealer.leave(now, session)
            self._seats_changed()
            return learner_pb2.PullWeightsResponse(version=request.have_version)
        if since < session.registered_at:
            raise Refusal.superseded()
        self._sessions.renew(session, request, since)
        publication = self._bulletin.find(request.version, self._dealer.evaluations)
        wait = self.settings.limits.wait_of(request.wait_milliseconds)
        if not self._bulletin.is_news(session, request) and now < since + wait:
            return None
        if self._dealer.finish_reason is not None and not session.informed:
            session.informed = True
            self.milestones += 1
        return self._bulletin.news(session, request, publication)

    def push(
        self,
        now: float,
        request: learner_pb2.PushTrajectoriesRequest,
        *,
        since: float,
        received_bytes: int = 0,
    ) -> learner_pb2.PushTrajectoriesResponse | None:
        """Takes a push, or says why not; None while there is no room, and it may wait for longer.

        A round has room for all it granted: nothing ever waits. Replay takes as much as its limiter
        lets in, a queue as much as it holds.

        Args:
            now: The time.
            request: The push.
            since: When it arrived.
            received_bytes: That came with it and are not charged to its sampler yet; 0 where it is
                looked at again, or came over no network.

        Raises:
            Refusal: As the contract says for `PushTrajectories`; nothing of it is stored then.
        """
        self._check_run(request.run_id)
        if self._sessions.find(request.sampler_id) is None:
            self._intake.lose_unknown(request)
        session = self._sessions.get(request.sampler_id)
        if since < session.registered_at:
            raise Refusal.superseded()
        session.charge(now, received_bytes)
        rolling, met = self._dealer.round, self.budget_met
        verdict = self._intake.push(
            now, session, request, since=since, newest_version=self.newest_version
        )
        if verdict is None:
            return None
        if self._dealer.round is not rolling or self._collection.flow is not None:
            self.milestones += 1
        if self.budget_met != met:
            self._everyone_changed = True
        return learner_pb2.PushTrajectoriesResponse(
            verdict=verdict, newest_version=self._bulletin.version
        )

    def report(
        self,
        now: float,
        request: learner_pb2.ReportEpisodesRequest,
        *,
        received_bytes: int = 0,
    ) -> learner_pb2.ReportEpisodesResponse:
        """Files the episodes of an evaluation; see `push` for `received_bytes`.

        Raises:
            Refusal: As the contract says for `ReportEpisodes`; nothing of it is filed then.
        """
        self._check_run(request.run_id)
        session = self._sessions.get(request.sampler_id)
        session.charge(now, received_bytes)
        for i, episode in enumerate(request.episodes):
            try:
                admission.check_episode(episode.episode, self._collection.checks.agents)
            except InvalidFieldError as error:
                raise Refusal.invalid(error, f"episodes[{i}].episode") from None
        evaluation = self._dealer.evaluations.running(request.evaluation_id)
        if evaluation is None:
            return learner_pb2.ReportEpisodesResponse(accepted=0)
        version = evaluation.publication.version
        if request.version != version:
            text = f"{request.version}, but evaluation {request.evaluation_id} is of {version}"
            raise Refusal.invalid(InvalidFieldError("version", text))
        accepted = evaluation.add(request.episodes)
        if accepted:
            session.moved_at = now
        if evaluation.complete:
            self._dealer.end_evaluation(evaluation.evaluation_id)
            self.milestones += 1
        return learner_pb2.ReportEpisodesResponse(accepted=accepted)

    def watch(
        self, now: float, request: learner_pb2.WatchRunRequest, *, after: int = -1
    ) -> learner_pb2.WatchRunResponse:
        """The state of the run, with the curve beyond `after` environment steps (-1: all of it).

        Raises:
            Refusal: FAILED_PRECONDITION `RUN_CHANGED`.
        """
        if request.run_id:
            self._check_run_id(request.run_id)
        return learner_pb2.WatchRunResponse(
            run_id=self._run.run_id,
            phase=self.phase,
            version=self.newest_version,
            environment_steps=self.environment_steps,
            total_steps=self.settings.total_steps,
            metrics=self._metrics | self._collection.metrics() | self.ledger.metrics(),
            samplers=watching.statuses(self._sessions, now),
            curve=self._books.curve.after(after),
        )

    @property
    def identity(self) -> RunIdentity:
        """What run this is."""
        return self._run

    @property
    def phase(self) -> learner_pb2.RunPhase.ValueType:
        """Where the run stands."""
        if self._dealer.finish_reason is not None:
            return learner_pb2.RUN_PHASE_FINISHED
        if self.draining:
            return learner_pb2.RUN_PHASE_DRAINING
        if self._signature is None:
            return learner_pb2.RUN_PHASE_STARTING
        if self.budget_met:
            return learner_pb2.RUN_PHASE_EVALUATING
        return learner_pb2.RUN_PHASE_TRAINING

    @property
    def environment_steps(self) -> int:
        """Valid steps that count towards the budget; never falls or exceeds it."""
        return self._books.environment_steps

    @property
    def budget_met(self) -> bool:
        """Whether there are as many of them as there may be."""
        return self._books.budget_met

    @property
    def ledger(self) -> Ledger:
        """What was pushed and is not trained on."""
        return self._books.ledger

    @property
    def newest_version(self) -> int:
        """The newest published version; 0 for none."""
        return self._bulletin.version

    def _seats_changed(self) -> None:
        """A sampler came or went."""
        self.milestones += 1
        if self._bulletin.seat(self._sessions.seats()):
            self._everyone_changed = True

    def _check_run(self, run_id: str) -> None:
        if self.draining:
            raise Refusal.draining()
        self._check_run_id(run_id)

    def _check_run_id(self, run_id: str) -> None:
        if run_id != self._run.run_id:
            raise Refusal.precondition(
                Reason.RUN_CHANGED,
                f"run_id is {run_id[:64]!r}, but this learner serves {self._run.run_id!r}; "
                "start over from GetRun",
            )
