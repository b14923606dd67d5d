"""The coordinator: everything that the service answers from, and that training drives.

A state machine without network or clock: time is an argument (seconds of any one monotonic clock),
and None is the answer that would have to wait. Requests and responses are the contract's own
messages, so that the in-process pump and the gRPC service answer alike. Whoever shares it between
threads locks it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from common import signature
from common.errors import InvalidFieldError, Reason
from learner.front import admission, registration, watching
from learner.front.bulletin import Bulletin
from learner.front.dealing import Dealer
from learner.front.intake import Intake
from learner.front.journal import Journal
from learner.front.refusals import Refusal
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.signature import Signature
    from common.specs import EnvironmentSpec
    from learner.experience.on_policy import OnPolicyBatch
    from learner.front.settings import FrontSettings, RunIdentity
    from learner.ledger import Ledger
    from learner.publishing.publication import Publication
    from protos.wiserl.v1 import signature_pb2


@dataclasses.dataclass(frozen=True)
class Changes:
    """Whose waiting calls may have an answer now.

    Attributes:
        everyone: All of them.
        samplers: The pulls of these samplers.
    """

    everyone: bool
    samplers: frozenset[str]


class Coordinator:
    """The learner's side of the contract, and the side of it that training sees.

    Attributes:
        settings: See `FrontSettings`.
        spec: The environment as the first sampler found it; None until one registered.
        draining: Whether every call is answered UNAVAILABLE.
        milestones: Grows whenever something happens that training may be waiting for: a spec, a
            sampler that comes or goes, a closed round, a complete evaluation, a sampler that was
            told that the run is over, draining.
        journal: What there is to say to people.
    """

    def __init__(self, run: RunIdentity, settings: FrontSettings) -> None:
        self.settings = settings
        self.spec: EnvironmentSpec | None = None
        self.draining = False
        self.milestones = 0
        self.journal = Journal()
        self._run = run
        self._dealer = Dealer(settings, self.journal)
        self._sessions = self._dealer.sessions
        self._intake = Intake(settings, self._dealer, self.journal)
        self._bulletin = Bulletin(first_scalars_version=(settings.restarts << 32) + 1)
        self._signature: signature_pb2.Signature | None = None
        self._unsupported: str | None = None
        self._metrics: dict[str, float] = {}
        self._everyone_changed = False

    # Towards samplers.

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
            fragment_bytes=self._intake.fragment_bytes,
            rows=self._intake.fragment_rows,
            limits=self.settings.limits,
        )
        session = self._dealer.join(now, request, reserved)
        self.milestones += 1
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
            self.milestones += 1
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
        self, now: float, request: learner_pb2.PushTrajectoriesRequest
    ) -> learner_pb2.PushTrajectoriesResponse:
        """Takes a push, or says why not. A round has room for all it granted: nothing ever waits.

        Raises:
            Refusal: As the contract says for `PushTrajectories`; nothing of it is stored then.
        """
        self._check_run(request.run_id)
        if self._sessions.find(request.sampler_id) is None:
            self._intake.lose_unknown(request)
        session = self._sessions.get(request.sampler_id)
        rolling = self._dealer.round
        verdict = self._intake.push(now, session, request)
        if self._dealer.round is not rolling:
            self.milestones += 1
        return learner_pb2.PushTrajectoriesResponse(
            verdict=verdict, newest_version=self._bulletin.version
        )

    def report(
        self, now: float, request: learner_pb2.ReportEpisodesRequest
    ) -> learner_pb2.ReportEpisodesResponse:
        """Files the episodes of an evaluation.

        Raises:
            Refusal: As the contract says for `ReportEpisodes`; nothing of it is filed then.
        """
        self._check_run(request.run_id)
        session = self._sessions.get(request.sampler_id)
        for i, episode in enumerate(request.episodes):
            try:
                admission.check_episode(episode.episode)
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
            metrics=self._metrics | self.ledger.metrics(),
            samplers=watching.statuses(self._sessions, now),
            curve=self._intake.curve.after(after),
        )

    # Towards time and the shell.

    def tick(self, now: float) -> None:
        """Ends the leases that ran out by `now`, and deals their work again."""
        self.milestones += self._dealer.tick(now)

    def next_tick(self) -> float | None:
        """When `tick` next has something to do, in seconds; None while no sampler is there."""
        return self._dealer.next_tick()

    def take_changes(self) -> Changes:
        """Whose waiting calls to look at again since this was last asked."""
        changes = Changes(self._everyone_changed, frozenset(self._sessions.changed))
        self._everyone_changed = False
        self._sessions.changed.clear()
        return changes

    # Towards training.

    @property
    def phase(self) -> learner_pb2.RunPhase.ValueType:
        """Where the run stands."""
        if self._dealer.finish_reason is not None:
            return learner_pb2.RUN_PHASE_FINISHED
        if self.draining:
            return learner_pb2.RUN_PHASE_DRAINING
        if self._signature is None:
            return learner_pb2.RUN_PHASE_STARTING
        if self.environment_steps >= self.settings.total_steps:
            return learner_pb2.RUN_PHASE_EVALUATING
        return learner_pb2.RUN_PHASE_TRAINING

    @property
    def environment_steps(self) -> int:
        """Valid steps that count towards the budget; never falls or exceeds it."""
        return self._intake.environment_steps

    @property
    def ledger(self) -> Ledger:
        """What was pushed and is not trained on."""
        return self._intake.ledger

    @property
    def newest_version(self) -> int:
        """The newest published version; 0 for none."""
        return self._bulletin.version

    @property
    def samplers(self) -> int:
        """How many samplers are there."""
        return len(self._sessions)

    @property
    def slots(self) -> int:
        """How many slots they have together; a round of fewer fragments leaves some idle."""
        return sum(session.slots for session in self._sessions)

    @property
    def sequences(self) -> dict[str, int]:
        """The last sequence by sampler id, for a checkpoint."""
        return self._sessions.sequences()

    def open_run(self, policy: Signature, *, fragment_rows: int) -> None:
        """Lets samplers in: the policy is exported, and its signature is fixed for the run.

        Args:
            policy: The signature.
            fragment_rows: T of the fragments that will be granted; registration refuses samplers
                whose pushes could not hold one, or find no memory.

        Raises:
            ValueError: The run is open, or the signature records no `valid` column.
        """
        if self._signature is not None:
            raise ValueError("the run is open already")
        self._intake.prepare(policy, fragment_rows)
        self._signature = signature.to_proto(policy)
        self._everyone_changed = True

    def refuse_environment(self, message: str) -> None:
        """Answers every registration `ENVIRONMENT_UNSUPPORTED` with this message, for good."""
        self._unsupported = message
        self._everyone_changed = True

    def publish(
        self,
        publication: Publication,
        scalars: Mapping[str, float | Sequence[float]] | None = None,
    ) -> None:
        """Makes a version the newest one, with new values of the scalars where any are given.

        Raises:
            ValueError: The version is not above the newest one.
        """
        self._bulletin.publish(publication)
        if scalars is not None:
            self._bulletin.set_scalars(scalars)
        self._everyone_changed = True

    def open_round(self, now: float, *, n_envs: int, n_steps: int) -> None:
        """Opens a round of the newest version: exactly `n_envs` fragments of `n_steps` rows.

        Publish and open under one lock, so that one answer brings samplers both. The first round
        waits inside for `expect_samplers`.

        Raises:
            ValueError: Nothing is published, the budget is met or the run over, or the round before
                is still open or was not taken.
        """
        if self._bulletin.publication is None:
            raise ValueError("open_run and publish come before the first round")
        self._intake.open_round(now, self._bulletin.version, n_envs=n_envs, n_steps=n_steps)

    def closed_round(self) -> OnPolicyBatch | None:
        """The round whose last fragment has arrived, once; None while there is none."""
        return self._intake.take_closed()

    def start_evaluation(self, now: float, seeds: Sequence[int]) -> int:
        """Has the newest version play a greedy episode for each seed; answers the evaluation's id.

        Raises:
            ValueError: Nothing is published, no seeds, one of them twice, or the run is over.
        """
        publication = self._bulletin.publication
        if publication is None or self._dealer.finish_reason is not None:
            raise ValueError("an evaluation needs a published version and a run that is not over")
        return self._dealer.start_evaluation(now, publication, seeds)

    def finished_evaluation(self, evaluation_id: int) -> list[learner_pb2.EvaluatedEpisode] | None:
        """The episodes of an evaluation in the order of its seeds, once; None while some lack.

        Raises:
            KeyError: No such evaluation, or its episodes were taken already.
        """
        return self._dealer.evaluations.take(evaluation_id)

    def set_metrics(self, metrics: Mapping[str, float]) -> None:
        """Sets the newest values of these metrics, for `WatchRun`."""
        self._metrics.update(metrics)

    def finish(self, reason: str) -> None:
        """Ends the run: every sampler is told so, and what is still pushed is ENDED."""
        self._intake.abandon()
        self._dealer.finish(reason)
        self._everyone_changed = True
        self.milestones += 1

    def all_informed(self, now: float) -> bool:
        """Whether every sampler that is still there was told that the run is over."""
        self.tick(now)
        return all(session.informed for session in self._sessions)

    def drain(self) -> None:
        """Answers every call UNAVAILABLE from now on: the learner stops and may come back."""
        self.draining = True
        self._everyone_changed = True
        self.milestones += 1

    # Inside.

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
