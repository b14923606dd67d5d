"""The pool of worker processes: starts them, hands tasks out, replaces those that crash or hang.

The supervisor's side. It never waits for a worker: messages come and go over sockets that do not
block, rows come through shared memory, and whether a worker hangs is read off its counters.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import TYPE_CHECKING

from common import specs
from common.logging import Logger
from protos.wiserl.v1 import environment_pb2, learner_pb2
from sampler.hands import Hand, Phase
from sampler.losses import MAX_LOSSES, PERIOD_SECONDS, LossLimit
from sampler.mailbox import Letter
from sampler.nursery import configuration
from sampler.nursery_process import start_nursery
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
    from sampler.mailbox import Message
    from sampler.nursery_process import NurseryProcess
    from sampler.pool import PoolConfig, PoolEvent, Task

_FLUSH_SECONDS = 0.02
_STOP_SECONDS = 3.0

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
        self._config = config
        self._orders = Orders(config)
        self._letters: dict[str, Letter] = {}
        self._greedy_version: int | None = None
        self._losses = LossLimit()
        self._events: list[PoolEvent] = []
        self._failed = False
        self._closed = False
        self._spec: bytes | None = None
        self._with_finals = False
        self._epoch = 0
        self._dropped = self._restarts = self._generation = 0
        self._past = learner_pb2.SamplerProgress()
        self._poll = select.epoll()
        nursery = nursery or start_nursery()
        self._control, self._process = nursery.control, nursery.process
        self._control.send(configuration(config))
        self._poll.register(self._control.fileno(), select.EPOLLIN)
        self._hands = [self._spawn(worker) for worker in range(config.workers)]
        self.spec = self._first_spec()

    # What the sampler asks for.

    def configure(self, registration: learner_pb2.RegisterResponse) -> None:
        """See `Pool.configure`."""
        self._orders.configure(registration, self.spec)
        self._epoch += 1
        self._letters.clear()
        self._greedy_version = None
        for hand in self._hands:
            hand.drop_tasks()
            self._send_configuration(hand)

    def set_policy(
        self, version: int, model: bytes, golden: learner_pb2.GoldenVector | None
    ) -> None:
        """See `Pool.set_policy`."""
        restricted = self._orders.set_policy(version, model)
        header = {"kind": "policy", "version": version}
        self._letters["policy"] = Letter(header, [restricted])
        for hand in self._hands:
            if golden is not None and hand.worker == 0:
                # They run the same code on the same machine: one of them finds out for all.
                parts = [restricted, model, golden.SerializeToString()]
                hand.send(Letter(header, parts))
            else:
                hand.send(self._letters["policy"])

    def set_scalars(self, scalars: Sequence[learner_pb2.Scalar]) -> None:
        """See `Pool.set_scalars`."""
        self._orders.set_scalars(scalars)
        self._broadcast("scalars", Letter({"kind": "scalars", "values": self._orders.scalars}))

    def set_evaluation_policy(self, version: int, model: bytes) -> None:
        """See `Pool.set_evaluation_policy`."""
        self._broadcast_greedy(version, self._orders.set_evaluation_policy(version, model))

    def submit(self, worker: int, task: Task) -> None:
        """See `Pool.submit`."""
        self._orders.check(worker, task)
        hand = self._hands[worker]
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
            if self._greedy_version != task.version:
                self._broadcast_greedy(task.version, self._orders.greedy_model(task.version))
            header = {"kind": "evaluate", "seeds": task.seeds, "version": task.version}
        hand.tasks[task.task_id] = task
        hand.send(Letter({**header, "epoch": self._epoch, "task_id": task.task_id}))

    def cancel(self, task_ids: Collection[int]) -> None:
        """See `Pool.cancel`."""
        for hand in self._hands:
            own = [task_id for task_id in task_ids if task_id in hand.tasks]
            if own:
                hand.unwanted.update(own)
                hand.send(Letter({"kind": "cancel", "epoch": self._epoch, "task_ids": own}))

    # What it hears.

    def events(self) -> list[PoolEvent]:
        """See `Pool.events`."""
        if not self._failed and not self._closed:
            self._receive()
            now = time.monotonic()
            for hand in self._hands:
                number = hand.due_signal(now)
                if number is not None:
                    self._control_send(hand.signal_letter(number))
                hand.flush()
        events, self._events = self._events, []
        return events

    def waitables(self) -> list[int]:
        """One descriptor for all workers, the same for the life of the pool."""
        return [] if self._closed or self._failed else [self._poll.fileno()]

    def next_timeout(self) -> float | None:
        """See `Pool.next_timeout`."""
        if self._events:
            return 0.0
        if self._failed or self._closed:
            return None
        if not all(hand.flush() for hand in self._hands):
            return _FLUSH_SECONDS
        return min((hand.check_seconds for hand in self._hands if hand.busy), default=None)

    def progress(self) -> learner_pb2.SamplerProgress:
        """See `Pool.progress`."""
        progress = learner_pb2.SamplerProgress()
        progress.CopyFrom(self._past)
        for hand in self._hands:
            if hand.phase != Phase.GONE:
                _add(progress, hand)
        progress.rows_dropped, progress.worker_restarts = self._dropped, self._restarts
        return progress

    def close(self) -> None:
        """See `Pool.close`; environments get a second to close, then everything is killed."""
        if self._closed:
            return
        self._closed = True
        for hand in self._hands:
            hand.send(Letter({"kind": "stop"}))
        self._control_send(Letter({"kind": "stop"}))
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for hand in self._hands:
            self._let_go(hand)
        self._control.close()
        self._poll.close()

    # Workers.

    def _spawn(self, worker: int) -> Hand:
        self._generation += 1
        hand = Hand(worker, self._generation, self._config.step_timeout_seconds)
        self._control_send(hand.spawn_letter())
        self._poll.register(hand.fileno(), select.EPOLLIN)
        return hand

    def _control_send(self, letter: Letter) -> None:
        try:
            self._control.send(letter)
        except OSError:  # its end is noticed where it is read
            return

    def _send_configuration(self, hand: Hand) -> None:
        registration = self._orders.registration
        if registration is None:
            return
        header = {
            "kind": "configure",
            "epoch": self._epoch,
            "incarnations": self._orders.incarnations_of(hand.worker),
        }
        hand.configuring += 1
        hand.send(Letter(header, [registration.SerializeToString()]))
        for letter in self._letters.values():
            hand.send(letter)

    def _broadcast(self, name: str, letter: Letter) -> None:
        """Sends a message to all workers, and later to those that replace one."""
        self._letters[name] = letter
        for hand in self._hands:
            hand.send(letter)

    def _broadcast_greedy(self, version: int, restricted: bytes) -> None:
        self._greedy_version = version
        self._broadcast("greedy", Letter({"kind": "greedy", "version": version}, [restricted]))

    def _layout(self, rows: int, slots: int) -> SegmentLayout:
        return SegmentLayout(
            self._orders.signature, self.spec, rows, slots, with_finals=self._with_finals
        )

    def _first_spec(self) -> EnvironmentSpec:
        """Waits until a worker has built its environments."""
        while self._spec is None:
            self._poll.poll(self.next_timeout())
            for event in self.events():
                if isinstance(event, WorkerLost | PoolFailed):
                    self.close()
                    raise PoolError(event.reason)
        message = environment_pb2.EnvironmentSpec.FromString(self._spec)
        return specs.from_proto(message)

    # Messages.

    def _receive(self) -> None:
        ready = {file for file, _ in self._poll.poll(0)}
        for hand in list(self._hands):
            if hand.fileno() in ready:
                self._hear(hand)
        if self._control.fileno() in ready and not self._failed:
            message = self._control.receive()
            if message is None:
                self._fail(f"the nursery ended with status {self._process.wait()}; see its output")
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
        wanted = hand.settle(message.header, self._epoch)
        self._dropped += rows - kept if wanted else rows
        return wanted

    # Ends.

    def _on_exit(self, message: Message) -> None:
        worker, generation = message.header["worker"], message.header["generation"]
        hand = self._hands[worker]
        if hand.generation != generation or hand.phase == Phase.GONE:
            return
        self._hear(hand)
        if self._failed:
            return
        reason = hand.failure or _ending(message.header["status"])
        words = hand.last_words()
        reason = f"{reason}\n{words}" if words else reason
        rows_dropped = hand.workload.rows - hand.rows_settled
        self._dropped += rows_dropped
        tasks = tuple(task for task in hand.tasks if task not in hand.unwanted)
        self._poll.unregister(hand.fileno())
        self._let_go(hand)
        _logger.warning("worker_lost", worker=worker, reason=reason, rows_dropped=rows_dropped)
        self._events.append(WorkerLost(worker, reason, rows_dropped, tasks))
        if self._losses.add(time.monotonic()):
            self._fail(
                f"{MAX_LOSSES} workers were lost within {PERIOD_SECONDS:g} s; the last: {reason}"
            )
            return
        self._restarts += 1
        self._orders.renew(worker)
        self._hands[worker] = self._spawn(worker)
        self._send_configuration(self._hands[worker])

    def _let_go(self, hand: Hand) -> None:
        if hand.phase != Phase.GONE:
            _add(self._past, hand)
            hand.close()

    def _fail(self, reason: str) -> None:
        self._failed = True
        _logger.error("pool_failed", reason=reason)
        self._events.append(PoolFailed(reason))


def _add(progress: learner_pb2.SamplerProgress, hand: Hand) -> None:
    policy, environment, idle = hand.workload.seconds
    progress.rows_rolled += hand.workload.rows
    progress.policy_seconds += policy
    progress.environment_seconds += environment
    progress.idle_seconds += idle


def _ending(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return f"the worker was ended by signal {os.WTERMSIG(status)}"
    return f"the worker ended itself with status {os.waitstatus_to_exitcode(status)}"
