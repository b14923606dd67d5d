"""The pool of worker processes: hands tasks out, and takes what comes of them.

The supervisor's side. It never waits for a worker: messages come and go over sockets that do not
block, and rows come through shared memory.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from common import specs
from common.logging import Logger
from protos.wiserl.v1 import environment_pb2, learner_pb2
from sampler.briefing import Briefing
from sampler.crew import Crew
from sampler.hands import Phase
from sampler.losses import MAX_LOSSES, PERIOD_SECONDS, LossLimit
from sampler.mailbox import Letter
from sampler.orders import Orders
from sampler.pool import (
    EpisodesEvaluated,
    PoolError,
    PoolFailed,
    RollTask,
    SegmentRolled,
    WorkerLost,
)
from sampler.segments import Contents, SegmentLayout, to_batch

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from common.specs import EnvironmentSpec
    from sampler.hands import Hand
    from sampler.mailbox import Message
    from sampler.nursery_process import NurseryProcess
    from sampler.pool import PoolConfig, PoolEvent, Task

_logger = Logger()


class ProcessPool:
    """W worker processes; returns from its constructor when the first has built its environments.

    Args:
        config: What it is made of.
        nursery: One that was started ahead and serves no pool yet; None starts one.

    Raises:
        PoolError: The environment is none that this sampler builds, or failed; the text holds its
            traceback.
    """

    def __init__(self, config: PoolConfig, nursery: NurseryProcess | None = None) -> None:
        self.workers = config.workers
        self.slots_per_worker = config.envs_per_worker
        self.slots = config.workers * config.envs_per_worker
        self._orders = Orders(config)
        self._losses = LossLimit()
        self._events: list[PoolEvent] = []
        self._failed = False
        self._closed = False
        self._spec: bytes | None = None
        self._with_finals = False
        self._dropped = 0
        self._crew = Crew(config, nursery)
        self._briefing = Briefing(self._orders, self._crew)
        self.spec = self._first_spec()

    # What the sampler asks for.

    def configure(self, registration: learner_pb2.RegisterResponse) -> None:
        """See `Pool.configure`."""
        self._orders.configure(registration, self.spec)
        self._briefing.begin()

    def set_policy(
        self, version: int, model: bytes, golden: learner_pb2.GoldenVector | None
    ) -> None:
        """See `Pool.set_policy`."""
        restricted = self._orders.set_policy(version, model)
        self._briefing.set_policy(version, restricted, model, golden)

    def set_scalars(self, scalars: Sequence[learner_pb2.Scalar]) -> None:
        """See `Pool.set_scalars`."""
        self._orders.set_scalars(scalars)
        self._briefing.set_scalars()

    def set_evaluation_policy(self, version: int, model: bytes) -> None:
        """See `Pool.set_evaluation_policy`."""
        self._briefing.set_greedy(version, self._orders.set_evaluation_policy(version, model))

    def submit(self, worker: int, task: Task) -> None:
        """See `Pool.submit`."""
        self._orders.check(worker, task)
        hand = self._crew.hands[worker]
        if isinstance(task, RollTask):
            layout = self._layout(task.rows, len(task.slots))
            hand.give_buffers(layout.size_bytes)
            header = {
                "kind": "roll",
                "slots": task.slots,
                "rows": task.rows,
                "newest": task.newest,
            }
        else:
            if self._briefing.greedy_version != task.version:
                self._briefing.set_greedy(task.version, self._orders.greedy_model(task.version))
            header = {"kind": "evaluate", "seeds": task.seeds, "version": task.version}
        hand.tasks[task.task_id] = task
        hand.send(Letter({**header, "epoch": self._briefing.epoch, "task_id": task.task_id}))

    def cancel(self, task_ids: Collection[int]) -> None:
        """See `Pool.cancel`."""
        for hand in self._crew.hands:
            own = [task_id for task_id in task_ids if task_id in hand.tasks]
            if own:
                hand.unwanted.update(own)
                hand.send(
                    Letter({"kind": "cancel", "epoch": self._briefing.epoch, "task_ids": own})
                )

    # What it hears.

    def events(self) -> list[PoolEvent]:
        """See `Pool.events`."""
        if not self._failed and not self._closed:
            self._receive()
            self._crew.look_after(time.monotonic())
        events, self._events = self._events, []
        return events

    def waitables(self) -> list[int]:
        """One descriptor for all workers, the same for the life of the pool."""
        return [] if self._closed or self._failed else [self._crew.fileno()]

    def next_timeout(self) -> float | None:
        """See `Pool.next_timeout`."""
        if self._events:
            return 0.0
        if self._failed or self._closed:
            return None
        return self._crew.next_timeout()

    def progress(self) -> learner_pb2.SamplerProgress:
        """See `Pool.progress`."""
        progress = self._crew.progress()
        progress.rows_dropped = self._dropped
        return progress

    def close(self) -> None:
        """See `Pool.close`; environments get a second to close, then everything is killed."""
        if self._closed:
            return
        self._closed = True
        self._crew.close()

    def _layout(self, rows: int, slots: int) -> SegmentLayout:
        return SegmentLayout(
            self._orders.signature, self.spec, rows, slots, with_finals=self._with_finals
        )

    def _first_spec(self) -> EnvironmentSpec:
        """Waits until a worker has built its environments."""
        while self._spec is None:
            self._crew.wait(self.next_timeout())
            for event in self.events():
                if isinstance(event, WorkerLost | PoolFailed):
                    self.close()
                    raise PoolError(event.reason)
        message = environment_pb2.EnvironmentSpec.FromString(self._spec)
        return specs.from_proto(message)

    # Messages.

    def _receive(self) -> None:
        ready, nursery_is_ready = self._crew.ready()
        for hand in ready:
            self._hear(hand)
        if nursery_is_ready and not self._failed:
            message = self._crew.receive()
            if message is None:
                self._fail(f"the nursery ended with status {self._crew.end()}; see its output")
            else:
                self._on_exit(message)

    def _hear(self, hand: Hand) -> None:
        while not self._failed and (message := hand.receive()) is not None:
            match message.header["kind"]:
                case "ready":
                    self._on_ready(hand, message)
                case "configured":
                    hand.configuring -= 1
                case "rolled":
                    self._on_rolled(hand, message)
                case "evaluated":
                    self._on_evaluated(hand, message)
                case "dropped":
                    self._settle(hand, message)
                case "failed":
                    hand.failure = hand.failure or message.header["reason"]
                case "refused":
                    self._fail(message.header["reason"])

    def _on_ready(self, hand: Hand, message: Message) -> None:
        hand.phase = Phase.WORKING
        spec, with_finals = message.parts[0], message.header["with_finals"]
        if self._spec is None:
            self._spec, self._with_finals = spec, with_finals
        elif (spec, with_finals) != (self._spec, self._with_finals):
            self._fail(f"worker {hand.worker} built another environment than the first one did")

    def _on_rolled(self, hand: Hand, message: Message) -> None:
        header = message.header
        contents = Contents(**header["contents"])
        memory = hand.memory(header["buffer"])
        if self._settle(hand, message, kept=contents.rows * len(contents.slots)):
            segment = self._layout(contents.rows, len(contents.slots)).views(memory)
            batch = to_batch(segment, contents)
            self._events.append(SegmentRolled(hand.worker, header["task_id"], batch))
        hand.send(Letter({"kind": "release", "number": header["buffer"]}))

    def _on_evaluated(self, hand: Hand, message: Message) -> None:
        header = message.header
        if self._settle(hand, message, kept=header["rows_rolled"]):
            report = learner_pb2.ReportEpisodesRequest.FromString(message.parts[0])
            episodes = tuple(report.episodes)
            self._events.append(
                EpisodesEvaluated(hand.worker, header["task_id"], header["version"], episodes)
            )

    def _settle(self, hand: Hand, message: Message, kept: int = 0) -> bool:
        """Closes a task's account; whether anybody wants what came of it."""
        rows = message.header["rows_rolled"]
        wanted = hand.settle(message.header, self._briefing.epoch)
        self._dropped += rows - kept if wanted else rows
        return wanted

    # Ends.

    def _on_exit(self, message: Message) -> None:
        hand = self._crew.find(message)
        if hand is None:
            return
        self._hear(hand)
        if self._failed:
            return
        reason = hand.reason_of_end(message.header["status"])
        rows_dropped = hand.workload.rows - hand.rows_settled
        self._dropped += rows_dropped
        tasks = tuple(task for task in hand.tasks if task not in hand.unwanted)
        self._crew.release(hand)
        _logger.warning("worker_lost", worker=hand.worker, reason=reason, rows_dropped=rows_dropped)
        self._events.append(WorkerLost(hand.worker, reason, rows_dropped, tasks))
        if self._losses.add(time.monotonic()):
            self._fail(
                f"{MAX_LOSSES} workers were lost within {PERIOD_SECONDS:g} s; the last: {reason}"
            )
            return
        self._orders.renew(hand.worker)
        self._briefing.brief(self._crew.replace(hand))

    def _fail(self, reason: str) -> None:
        self._failed = True
        _logger.error("pool_failed", reason=reason)
        self._events.append(PoolFailed(reason))
