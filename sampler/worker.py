"""A worker process: takes tasks, rolls whole segments into shared memory, evaluates in between.

Commands are read by a thread, which also builds the sessions of new policies, off the hot path; the
main thread does nothing but tasks. No message is exchanged while a segment is rolled.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import traceback
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from common.errors import InvalidFieldError, UnsupportedSpaceError
from common.specs import to_proto
from protos.wiserl.v1 import learner_pb2
from sampler import policy as policies
from sampler.buffers import BufferShelf, mapped
from sampler.environments.modules import EnvironmentRefusedError
from sampler.jobs import Acting, Configure, Evaluate, Jobs, Name, Roll, Stop
from sampler.mailbox import Letter
from sampler.pool import PoolError
from sampler.worker_core import WorkerCore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sampler.acting import Scalars
    from sampler.evaluation import Evaluation
    from sampler.mailbox import Mailbox, Message
    from sampler.policy import Policy
    from sampler.pool import PoolConfig
    from sampler.workload import Workload

# A worker that rolls without a pause gives this much of its rolling time to a waiting evaluation.
_EVALUATION_SHARE = 0.25
_WAIT_SECONDS = 0.5
_REASON_CHARACTERS = 8000
_REFUSALS = (EnvironmentRefusedError, UnsupportedSpaceError, PoolError, InvalidFieldError)


class Worker:
    """The worker process's two threads.

    Args:
        mailbox: To the supervisor.
        config: The pool's.
        number: The worker's.
        workload: Shared with the supervisor, which watches it.
    """

    def __init__(
        self, mailbox: Mailbox, config: PoolConfig, number: int, workload: Workload
    ) -> None:
        self._mailbox = mailbox
        self._config = config
        self._number = number
        self._workload = workload
        self._jobs = Jobs()
        self._shelf = BufferShelf()
        # The reader thread's own, except that the main thread looks up what is newest.
        self._acting = Acting(0, None, {})
        self._greedy: dict[int, Policy] = {}
        # The main thread's own.
        self._running: tuple[Evaluate, Evaluation] | None = None
        self._owed_seconds = 0.0

    def run(self) -> NoReturn:
        """Works until told to stop or the supervisor is gone; failures are reported, then fatal."""
        try:
            core = WorkerCore(self._config, self._number, self._workload)
            spec = to_proto(core.spec).SerializeToString(deterministic=True)
            self._mailbox.send(Letter({"kind": "ready", "with_finals": core.with_finals}, [spec]))
            threading.Thread(target=self._read, name="reader", daemon=True).start()
            self._work(core)
        except BaseException as error:  # noqa: BLE001 - an environment may raise anything
            self._fail(error)
        os._exit(0)

    def _fail(self, error: BaseException) -> NoReturn:
        if isinstance(error, _REFUSALS):
            message = {"kind": "refused", "reason": str(error)}
        else:
            text = "".join(traceback.format_exception(error))
            message = {"kind": "failed", "reason": text[-_REASON_CHARACTERS:]}
        try:
            self._mailbox.send(Letter(message))
        finally:
            os._exit(1)

    # The reader thread.

    def _read(self) -> None:
        commands: Mapping[str, Callable[[Message], None]] = {
            "configure": self._on_configure,
            "policy": self._on_policy,
            "greedy": self._on_greedy,
            "scalars": self._on_scalars,
            "roll": self._on_roll,
            "evaluate": self._on_evaluate,
            "cancel": self._on_cancel,
            "buffers": self._on_buffers,
            "release": lambda message: self._shelf.put_back(message.header["number"]),
            "stop": lambda _: self._jobs.put(Stop()),
        }
        try:
            while (message := self._mailbox.receive()) is not None:
                commands[message.header["kind"]](message)
        except BaseException as error:  # noqa: BLE001 - the main thread cannot go on either
            self._fail(error)
        os._exit(0)

    def _on_configure(self, message: Message) -> None:
        registration = learner_pb2.RegisterResponse.FromString(message.parts[0])
        header = message.header
        self._acting, self._greedy = Acting(header["epoch"], None, {}), {}
        self._jobs.put(Configure(header["epoch"], registration, header["incarnations"]))

    def _on_policy(self, message: Message) -> None:
        restricted, *whole = message.parts
        if whole:
            model, golden = whole
            policies.verify(model, learner_pb2.GoldenVector.FromString(golden))
        policy = policies.Policy(message.header["version"], restricted)
        self._acting = dataclasses.replace(self._acting, policy=policy)

    def _on_greedy(self, message: Message) -> None:
        version = message.header["version"]
        self._greedy = {version: policies.Policy(version, message.parts[0])}

    def _on_scalars(self, message: Message) -> None:
        scalars = {
            key: np.array(values, np.float32) for key, values in message.header["values"].items()
        }
        self._acting = dataclasses.replace(self._acting, scalars=scalars)

    def _on_roll(self, message: Message) -> None:
        header = message.header
        name = Name(header["epoch"], header["task_id"])
        slots, rows, newest = header["slots"], header["rows"], header["newest"]
        self._jobs.put(Roll(name, slots, rows, self._acting, newest))

    def _on_evaluate(self, message: Message) -> None:
        header = message.header
        name = Name(header["epoch"], header["task_id"])
        policy = self._greedy[header["version"]]
        self._jobs.put(Evaluate(name, header["seeds"], policy, self._acting.scalars))

    def _on_cancel(self, message: Message) -> None:
        epoch, task_ids = message.header["epoch"], message.header["task_ids"]
        for name in self._jobs.cancel({Name(epoch, task_id) for task_id in task_ids}):
            self._mailbox.send(Letter(name.header("dropped", 0)))

    def _on_buffers(self, message: Message) -> None:
        self._shelf.replace(
            dict(zip(message.header["numbers"], map(mapped, message.files), strict=True))
        )
        for file in message.files:
            os.close(file)

    # The main thread.

    def _work(self, core: WorkerCore) -> None:
        while True:
            match self._jobs.next():
                case Stop():
                    core.close()
                    return
                case Configure() as job:
                    self._drop_evaluation()
                    core.configure(job.registration, job.incarnations)
                    self._mailbox.send(Letter({"kind": "configured", "epoch": job.epoch}))
                case Roll() as job:
                    self._roll(core, job)
                case None:
                    self._owed_seconds = 0.0
                    if not self._advance_evaluation(core):
                        began = time.perf_counter()
                        self._jobs.wait()
                        self._workload.add_seconds(idle=time.perf_counter() - began)

    def _roll(self, core: WorkerCore, job: Roll) -> None:
        buffer = self._shelf.take(0.0)
        while buffer is None:
            # Both buffers are with the supervisor, which is alive but busy.
            self._workload.beat()
            if self._advance_evaluation(core):
                buffer = self._shelf.take(0.0)
                continue
            began = time.perf_counter()
            buffer = self._shelf.take(_WAIT_SECONDS)
            self._workload.add_seconds(idle=time.perf_counter() - began)
        number, memory = buffer
        began, before = time.perf_counter(), self._workload.rows
        segment = core.layout(job.rows, len(job.slots)).views(memory)
        policy, scalars = self._chosen(job)
        contents = core.roll(job.slots, job.rows, policy, scalars, segment)
        rows = self._workload.rows - before
        header = job.name.header(
            "rolled", rows, buffer=number, contents=dataclasses.asdict(contents)
        )
        self._mailbox.send(Letter(header))
        self._owed_seconds += _EVALUATION_SHARE * (time.perf_counter() - began)
        self._pay(core)

    def _chosen(self, job: Roll) -> tuple[Policy, Scalars]:
        """What a task that starts now is rolled with.

        Raises:
            PoolError: There is no policy.
        """
        newest = self._acting
        # Of a later registration it would be no policy for this task, which nobody wants any more.
        acting = newest if job.newest and newest.epoch == job.name.epoch else job.acting
        if acting.policy is None:
            raise PoolError("a roll task before the first policy")
        return acting.policy, acting.scalars

    def _pay(self, core: WorkerCore) -> None:
        """Gives evaluations their share of the time."""
        while self._owed_seconds > 0.0:
            began = time.perf_counter()
            if not self._advance_evaluation(core):
                self._owed_seconds = 0.0
                return
            self._owed_seconds -= time.perf_counter() - began

    def _advance_evaluation(self, core: WorkerCore) -> bool:
        """Plays one row of the evaluation at hand; False where there is none."""
        if self._running is None:
            job = self._jobs.next_evaluation()
            if job is None:
                return False
            self._running = (job, core.evaluation(job.seeds, job.policy, job.scalars))
        job, evaluation = self._running
        if self._jobs.is_cancelled(job.name):
            self._drop_evaluation()
            return True
        evaluation.advance()
        if evaluation.finished:
            report = learner_pb2.ReportEpisodesRequest(episodes=evaluation.episodes)
            self._end_evaluation("evaluated", [report.SerializeToString()])
        return True

    def _drop_evaluation(self) -> None:
        if self._running is not None:
            self._end_evaluation("dropped", [])

    def _end_evaluation(self, kind: str, parts: list[bytes]) -> None:
        if self._running is not None:
            job, evaluation = self._running
            header = job.name.header(kind, evaluation.rows, version=job.policy.version)
            self._mailbox.send(Letter(header, parts))
            self._running = None
