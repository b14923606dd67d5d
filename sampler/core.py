"""The sampler's side of the contract as a state machine: no network, no clock, no processes.

Whoever drives it (the asyncio shell in `sampler.supervisor`, or a pump within one process) sends
the requests that it makes and hands it the answers and the pool's events; it hands policies and
tasks to the pool by itself. Times are arguments, in seconds of any monotonic clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common import signature, specs
from common.errors import WiseRLError
from common.logging import Logger
from protos.wiserl.v1 import learner_pb2
from sampler import PROTOCOL_VERSION
from sampler.assignments import Assignments
from sampler.collecting import Layout
from sampler.exits import ExitCode, SamplerStopError
from sampler.outbox import Outbox, Rolled, slots_per_push
from sampler.policies import Policies
from sampler.pool import EpisodesEvaluated, PoolFailed, SegmentRolled, WorkerLost
from sampler.progress import progress_since
from sampler.refusals import LIMIT, WITHIN_SECONDS, RefusalCount, Refused
from sampler.reports import Reports
from sampler.worklist import Work, Worklist

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protos.wiserl.v1 import grant_pb2
    from sampler.pool import Pool, PoolEvent

_BACKLOG_LAPS = 2
"""Nothing more is dealt while so many fragments of every slot wait to be pushed."""


class SamplerCore:
    """What a sampler does about every answer of the learner and every event of its pool.

    Args:
        pool: The environments; they must be those of the run.
        name: For people.
        sampler_id: Random, made when the process started.

    Attributes:
        failure: The sampler cannot go on; stop with its exit code and message.
        index: The sampler's number in the run; None before it is registered.
    """

    def __init__(self, pool: Pool, *, name: str, sampler_id: str) -> None:
        self.failure: SamplerStopError | None = None
        self.index: int | None = None
        self._pool = pool
        self._name = name
        self._sampler_id = sampler_id
        self._logger = Logger()
        self._run_id = ""
        self._wait_milliseconds = 0
        self._slots_per_push = slots_per_push(pool)
        self._worklist = Worklist(Layout(pool.workers, pool.slots))
        self._assignments = Assignments(pool)
        self._policies = Policies(pool)
        self._outbox = Outbox()
        self._reports = Reports()
        self._refusals = RefusalCount()
        self._before = learner_pb2.SamplerProgress()
        self._revision = 0
        self._asked = 0
        self._pushes_refused = 0

    @property
    def finished(self) -> grant_pb2.FinishGrant | None:
        """The run is over: stop with exit code 0. None while it is not."""
        return self._worklist.finish

    def register_request(self, run: learner_pb2.GetRunResponse) -> learner_pb2.RegisterRequest:
        """Says who the sampler is, for the run that GetRun named."""
        if run.run_id != self._run_id:
            self._run_id, self.index = run.run_id, None
            self._outbox = Outbox()
        self._wait_milliseconds = run.limits.wait_milliseconds
        return learner_pb2.RegisterRequest(
            run_id=run.run_id,
            protocol_version=PROTOCOL_VERSION,
            sampler_id=self._sampler_id,
            name=self._name,
            spec=specs.to_proto(self._pool.spec),
            slots=self._pool.slots,
            max_slots_per_push=self._slots_per_push,
            previous_index=self.index,
        )

    def on_registered(self, response: learner_pb2.RegisterResponse) -> None:
        """Begins anew with what the learner gave; what there was before is over.

        Raises:
            InvalidFieldError: The signature cannot be one.
        """
        self._outbox.reset(
            signature.from_proto(response.signature),
            slots_per_push=self._slots_per_push,
            last_sequence=response.last_sequence,
        )
        self._pool.configure(response)
        self._assignments.reset()
        self._policies.reset()
        self._worklist.clear()
        self._reports.clear()
        self._revision = self._asked = self._pushes_refused = 0
        self._before = self._pool.progress()
        self.index = response.index
        self._logger = Logger(index=response.index)

    def pull_request(self, now: float, *, leaving: bool = False) -> learner_pb2.PullWeightsRequest:
        """Says what the sampler has and has done; `leaving` for the last one before it stops."""
        del now
        play = self._worklist.to_play()
        lacking = play is not None and not self._policies.has(play.version)
        self._asked = play.version if play is not None and lacking and not leaving else 0
        progress = progress_since(self._before, self._pool.progress())
        progress.rows_dropped += self._outbox.rows_dropped
        progress.pushes_refused += self._pushes_refused
        return learner_pb2.PullWeightsRequest(
            run_id=self._run_id,
            sampler_id=self._sampler_id,
            have_version=self._policies.version,
            have_model_sha256=self._policies.model_sha256,
            have_scalars_version=self._policies.scalars_version,
            have_grants_revision=self._revision,
            wait_milliseconds=0 if leaving else self._wait_milliseconds,
            version=self._asked,
            progress=progress,
            leaving=leaving,
            pushing_sequence=self._outbox.pushing,
        )

    def on_pull(self, now: float, response: learner_pb2.PullWeightsResponse) -> None:
        """Takes over the policy and the grants, and deals out the work."""
        asked, self._asked = self._asked, 0
        try:
            self._policies.take(response, asked)
        except WiseRLError as error:
            self._refused(now, "model_refused", str(error))
        self._revision = response.grants_revision
        over = self._worklist.take(response.grants)
        if self._worklist.finish is not None:
            self.drain()
        self._end(over, drop=[work for work in over if not work.outlives_its_grant])
        self._deal()

    def on_version_gone(self) -> None:
        """The version that the last pull named is not kept any more: its evaluation is complete."""
        asked, self._asked = self._asked, 0
        self._end([w for w in self._worklist.evaluate.values() if w.version == asked])

    def on_events(self, now: float, events: Sequence[PoolEvent]) -> None:
        """Queues what was rolled and played, and deals out again what was lost."""
        del now
        for event in events:
            self._on_event(event)
        if events:
            self._deal()

    def _on_event(self, event: PoolEvent) -> None:
        match event:
            case SegmentRolled():
                work = self._assignments.rolled(event.task_id)
                rolled = Rolled(work.grant_id if work is not None else 0, event.batch)
                if work is not None:
                    self._outbox.add(rolled)
                else:
                    self._outbox.rows_dropped += rolled.row_count
            case EpisodesEvaluated():
                if (play := self._assignments.played(event.task_id)) is not None:
                    self._reports.add(
                        play, event.episodes, run_id=self._run_id, sampler_id=self._sampler_id
                    )
            case WorkerLost():
                self._assignments.lost(event.tasks)
            case PoolFailed():
                self.failure = SamplerStopError(ExitCode.WORKERS_FAILED, event.reason)

    def next_push(self) -> learner_pb2.PushTrajectoriesRequest | None:
        """The push to make: the same object until it is answered; None where there is none."""
        return self._outbox.next(self._run_id, self._sampler_id)

    def on_push_answer(
        self, now: float, answer: learner_pb2.PushTrajectoriesResponse | Refused
    ) -> None:
        """Takes the final answer to the push in flight, and deals out the work that it frees."""
        sent = not isinstance(answer, Refused) or answer.sent
        rolled = self._outbox.answered(sent=sent)
        work = self._worklist.collect.get(rolled.grant_id)
        if isinstance(answer, Refused):
            if answer.too_large and self._outbox.split(rolled):
                return
            self._pushes_refused += 1
            self._refused(now, "push_refused", answer.message)
            if work is not None:
                work.give_back(rolled.slots)
        else:
            if work is not None:
                work.done(rolled.slots)
            if answer.verdict == learner_pb2.VERDICT_ENDED:
                self._end([work] if work is not None else [])
                self._outbox.drop({rolled.grant_id})
        self._deal()

    def next_report(self) -> learner_pb2.ReportEpisodesRequest | None:
        """The report to make: the same object until it is answered; None where there is none."""
        return self._reports.next()

    def on_report_answer(
        self, now: float, answer: learner_pb2.ReportEpisodesResponse | Refused
    ) -> None:
        """Takes the final answer to the report in flight; what was refused is played again."""
        work, request = self._reports.answered()
        if isinstance(answer, Refused):
            self._refused(now, "report_refused", answer.message)
            work.give_back(episode.seed for episode in request.episodes)
            self._deal()

    def drain(self) -> None:
        """Drops all work; only a push in flight is left."""
        self._end(self._worklist.clear())
        self._outbox.clear()
        self._reports.clear()

    def _end(self, works: Sequence[Work], *, drop: Sequence[Work] | None = None) -> None:
        """These works are over: nothing more of them is rolled, played or reported.

        Args:
            works: What is over.
            drop: Those of which nothing more is pushed; all of them by default.
        """
        for work in works:
            work.over = True
        over = {work.grant_id for work in works}
        self._assignments.cancel(over)
        self._outbox.drop({work.grant_id for work in (works if drop is None else drop)})
        self._reports.drop(over)

    def _deal(self) -> None:
        if self.failure is not None:
            return
        if self._outbox.fragments < _BACKLOG_LAPS * self._pool.slots:
            self._assignments.deal_rolls(self._worklist.to_roll(self._policies.version))
        play = self._worklist.to_play()
        if play is not None and self._policies.can_evaluate(play.version):
            self._assignments.deal_plays(play)

    def _refused(self, now: float, event: str, message: str) -> None:
        self._logger.warning(event, message=message)
        if self._refusals.add(now):
            self.failure = SamplerStopError(
                ExitCode.DATA_REFUSED,
                f"refused {LIMIT} times in {WITHIN_SECONDS:.0f} s, at last: {message}",
            )
