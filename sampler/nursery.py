"""The nursery: a process that imports what workers need once, and forks them when asked.

A forked worker is there in milliseconds and shares the imported code's memory with the others. The
nursery never imports grpc, has one thread, and dies with the supervisor, as its workers die with
it. `python -m sampler.nursery FD` is started by `sampler.process_pool`, which talks to it over
socket FD.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import gc
import importlib
import os
import random
import resource
import selectors
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from common.parent import die_with
from protos.wiserl.v1 import environment_pb2
from sampler.buffers import mapped
from sampler.mailbox import Letter, Mailbox, Message
from sampler.pool import PoolConfig

if TYPE_CHECKING:
    from types import FrameType

_STOP_SECONDS = 1.0


def configuration(config: PoolConfig) -> Letter:
    """What a nursery is told once it is there: what its workers will be."""
    fields = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if not field.name.endswith("environment")
    }
    environments = (config.environment, config.evaluation_environment)
    return Letter(
        {"config": fields}, [one.SerializeToString(deterministic=True) for one in environments]
    )


def _config(message: Message) -> PoolConfig:
    training, evaluation = map(environment_pb2.EnvironmentReference.FromString, message.parts)
    fields: dict[str, Any] = message.header["config"]
    fields["allowed_modules"] = tuple(fields["allowed_modules"])
    return PoolConfig(environment=training, evaluation_environment=evaluation, **fields)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C and SIGTERM reach whole groups of processes; the supervisor decides what ends when."""


def _ignore_signals() -> None:
    # Not SIG_IGN, which programs that an environment starts would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ignore)


@dataclasses.dataclass(frozen=True)
class _Child:
    worker: int
    generation: int


class Nursery:
    """Forks workers, reports their ends, kills on demand.

    Args:
        control: To the supervisor.
        config: The pool's.
    """

    def __init__(self, control: Mailbox, config: PoolConfig) -> None:
        self._control = control
        self._config = config
        self._children: dict[int, _Child] = {}

    def run(self) -> None:
        """Serves the supervisor until it says stop or is gone."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        self._own = (wake_read, wake_write, selector)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if wake_read in ready:
                os.read(wake_read, 4096)
                self._reap()
            if self._control in ready:
                message = self._control.receive()
                if message is None:
                    self._kill_all()
                    return
                if message.header["kind"] == "stop":
                    self._stop()
                    return
                self._obey(message)

    def _obey(self, message: Message) -> None:
        header = message.header
        if header["kind"] == "spawn":
            self._spawn(header["worker"], header["generation"], message.files)
            for file in message.files:
                os.close(file)
        else:
            for pid, child in self._children.items():
                if (child.worker, child.generation) == (header["worker"], header["generation"]):
                    _kill(pid, header["signal"])

    def _spawn(self, worker: int, generation: int, files: tuple[int, ...]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._become_worker(worker, files, parent)
            finally:
                os._exit(1)
        # Also done by the child: whoever comes first, a kill of the group never misses.
        _own_group(pid)
        self._children[pid] = _Child(worker, generation)

    def _become_worker(self, worker: int, files: tuple[int, ...], parent: int) -> NoReturn:
        die_with(parent)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _own_group(0)
        read, write, selector = self._own
        selector.close()
        os.close(read)
        os.close(write)
        self._control.close()
        socket_file, workload_file, crash_file = files
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.enable(crash_file)
        # For environments that draw from the global generators, which a fork would share.
        random.seed(worker)

        import numpy as np

        from sampler.worker import Worker
        from sampler.workload import Workload

        np.random.seed(worker)  # noqa: NPY002 - the legacy generator is what they draw from
        workload = Workload(mapped(workload_file))
        os.close(workload_file)
        mailbox = Mailbox(socket.socket(fileno=socket_file))
        Worker(mailbox, self._config, worker, workload).run()

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is not None:
                # What it had started is of no use without it.
                _kill(pid, signal.SIGKILL)
                report = {"kind": "exit", "status": status, **dataclasses.asdict(child)}
                self._control.send(Letter(report))

    def _stop(self) -> None:
        """Gives the workers, which were told to stop, a moment to close their environments."""
        deadline = time.monotonic() + _STOP_SECONDS
        while self._children and time.monotonic() < deadline:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid:
                self._children.pop(pid, None)
                _kill(pid, signal.SIGKILL)
            else:
                time.sleep(0.01)
        self._kill_all()

    def _kill_all(self) -> None:
        for pid in self._children:
            _kill(pid, signal.SIGKILL)


def _own_group(pid: int) -> None:
    try:
        os.setpgid(pid, 0)
    except OSError:  # it is gone, or was faster
        return


def _kill(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _warm_up() -> None:
    """Imports what every worker will, so that forks share it."""
    import gymnasium  # noqa: F401

    import sampler.worker  # noqa: F401


def _warm_up_for(config: PoolConfig) -> None:
    """Imports the environments that there will be; workers report failures."""
    import gymnasium

    from sampler.environments.registry import announce

    for reference in (config.environment, config.evaluation_environment):
        with contextlib.suppress(Exception):
            announce(reference.id)
        spec = gymnasium.registry.get(reference.id)
        for entry in (spec.entry_point, spec.vector_entry_point) if spec is not None else ():
            if isinstance(entry, str):
                try:
                    importlib.import_module(entry.partition(":")[0])
                except Exception:  # noqa: BLE001, S112 - such as an extra that is not installed
                    continue


def main() -> None:
    """The process: signals, the parent's death, imports, then the configuration and the service."""
    parent = os.getppid()
    _ignore_signals()
    control = Mailbox(socket.socket(fileno=int(sys.argv[1])))
    message = control.receive()
    if message is None:
        return
    if message.header["die_with_parent_thread"]:
        die_with(parent)
    sys.path[:] = message.header["sys_path"]
    gc.disable()
    _warm_up()
    message = control.receive()
    if message is None:
        return
    config = _config(message)
    _warm_up_for(config)
    gc.collect()
    # What is here is never garbage; collecting would only touch, and so copy, shared pages.
    gc.freeze()
    gc.enable()
    Nursery(control, config).run()


if __name__ == "__main__":
    main()
