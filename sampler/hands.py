"""A worker process as the supervisor sees it: mailbox, memory, tasks and signs of life."""

from __future__ import annotations

import enum
import os
import signal
from typing import TYPE_CHECKING, Any

from sampler import buffers
from sampler.mailbox import Letter, Mailbox, socket_pair
from sampler.workload import SIZE_BYTES, Workload

if TYPE_CHECKING:
    import mmap

    from sampler.mailbox import Message
    from sampler.pool import Task

START_SECONDS = 60.0
"""For importing and building environments, which may take longer than any step of theirs."""

BUFFERS = 2
"""One is pushed while the other is rolled into."""

_CRASH_BYTES = 64 * 1024
_ABORT_SECONDS = 0.3


class Phase(enum.Enum):
    """Where a worker is in its life."""

    STARTING = 0
    WORKING = 1
    ABORTED = 2
    KILLED = 3
    GONE = 4


class Watch:
    """Tells a hang from a pause of the supervisor itself; time is an argument.

    Time counts against the worker only in pieces of `check_seconds` that the supervisor was there
    for: one that was stopped, or busy for long, must not take the silence of that time for a hang.
    """

    def __init__(self, check_seconds: float) -> None:
        self._check_seconds = check_seconds
        self._seen: tuple[int, ...] | None = None
        self._looked = 0.0
        self.silent_seconds = 0.0

    def forget(self) -> None:
        """Starts over: what it watches need not show anything now."""
        self._seen, self.silent_seconds = None, 0.0

    def look(self, now: float, signs: tuple[int, ...]) -> float:
        """Notes the signs of life and answers for how long they have not changed."""
        if signs != self._seen:
            self._seen, self.silent_seconds = signs, 0.0
        else:
            self.silent_seconds += min(now - self._looked, 2 * self._check_seconds)
        self._looked = now
        return self.silent_seconds


class Hand:
    """A worker of the pool.

    Args:
        worker: Its number.
        generation: Which process with this number it is.
        step_timeout_seconds: How long a busy worker may show no sign of life.

    Attributes:
        phase: Where it is in its life.
        tasks: What it has been given and not answered, in order of submission.
        unwanted: Those of them that were cancelled.
        configuring: Registrations that it has not taken over yet.
        rows_settled: Rows rolled that were handed in, or dropped and counted.
        failure: What it said before it ended, or what it is killed for.
    """

    def __init__(self, worker: int, generation: int, step_timeout_seconds: float) -> None:
        self.worker = worker
        self.generation = generation
        ours, self._end = socket_pair()
        ours.setblocking(False)
        self._mailbox = Mailbox(ours)
        self._workload_file = buffers.shared_file("wiserl-workload", SIZE_BYTES)
        self.workload = Workload(buffers.mapped(self._workload_file))
        # Grows as a dying worker writes its last words, hence not sealed.
        self._crash_file = os.memfd_create("wiserl-crash", os.MFD_CLOEXEC)
        self.phase = Phase.STARTING
        self.tasks: dict[int, Task] = {}
        self.unwanted: set[int] = set()
        self.configuring = 0
        self.rows_settled = 0
        self.failure = ""
        self.check_seconds = min(0.5, step_timeout_seconds / 4)
        self._step_timeout_seconds = step_timeout_seconds
        self._watch = Watch(self.check_seconds)
        self._memory: dict[int, mmap.mmap] = {}
        self._newest: range = range(0)

    def spawn_letter(self) -> Letter:
        """What makes the nursery fork it; passes on its end of everything."""
        header = {"kind": "spawn", "worker": self.worker, "generation": self.generation}
        files = [self._end.detach(), self._workload_file, os.dup(self._crash_file)]
        return Letter(header, files=files)

    def signal_letter(self, number: int) -> Letter:
        """What makes the nursery send it a signal."""
        header = {"kind": "signal", "worker": self.worker, "generation": self.generation}
        return Letter({**header, "signal": number})

    def fileno(self) -> int:
        """The descriptor that turns readable with a message."""
        return self._mailbox.fileno()

    def send(self, letter: Letter) -> None:
        """Sends a message; one to a worker that has died is lost with it."""
        try:
            self._mailbox.send(letter)
        except OSError:
            return

    def flush(self) -> bool:
        """Sends what did not fit before; whether nothing waits any more."""
        try:
            return self._mailbox.flush()
        except OSError:
            return True

    def receive(self) -> Message | None:
        """The next message that is there, None where there is none."""
        try:
            return self._mailbox.receive()
        except OSError:
            return None

    @property
    def busy(self) -> bool:
        """Whether it owes a sign of life."""
        return self.phase != Phase.WORKING or bool(self.tasks) or self.configuring > 0

    def due_signal(self, now: float) -> int | None:
        """The signal that it must be sent, where it hangs: one to say where, then one to end it."""
        if not self.busy:
            self._watch.forget()
            return None
        signs = (self.phase.value, *self.workload.counters)
        silent = self._watch.look(now, signs)
        match self.phase:
            case Phase.STARTING if silent >= START_SECONDS:
                self.failure = f"the environment was not built within {START_SECONDS:g} s"
            case Phase.WORKING if silent >= self._step_timeout_seconds:
                self.failure = (
                    f"no step or reset ended within {self._step_timeout_seconds:g} s; raise the "
                    "step timeout if the environment is that slow"
                )
            case Phase.ABORTED if silent >= _ABORT_SECONDS:
                self.phase = Phase.KILLED
                return signal.SIGKILL
            case _:
                return None
        self.phase = Phase.ABORTED
        return signal.SIGABRT

    def give_buffers(self, size_bytes: int) -> None:
        """Makes sure that its buffers hold so much, with new ones where they do not."""
        if self._newest and len(self._memory[self._newest[0]]) >= size_bytes:
            return
        files = [buffers.shared_file("wiserl-segment", size_bytes) for _ in range(BUFFERS)]
        self._newest = range(self._newest.stop, self._newest.stop + BUFFERS)
        # The old ones stay until a segment comes in a new one: some may be on their way.
        self._memory.update(zip(self._newest, map(buffers.mapped, files), strict=True))
        self.send(Letter({"kind": "buffers", "numbers": list(self._newest)}, files=files))

    def memory(self, number: int) -> mmap.mmap:
        """The buffer that a segment has come in."""
        if number in self._newest:
            for old in [one for one in self._memory if one not in self._newest]:
                del self._memory[old]
        return self._memory[number]

    def drop_tasks(self) -> None:
        """Forgets all tasks; what a worker still says of them has an earlier epoch."""
        self.tasks.clear()
        self.unwanted.clear()

    def settle(self, header: dict[str, Any], epoch: int) -> bool:
        """Notes that a task is over; whether anybody still wants what came of it."""
        self.rows_settled += header["rows_rolled"]
        task_id = header["task_id"]
        if header["epoch"] != epoch:
            return False
        wanted = task_id in self.tasks and task_id not in self.unwanted
        self.tasks.pop(task_id, None)
        self.unwanted.discard(task_id)
        return wanted

    def reason_of_end(self, status: int) -> str:
        """Why it ended: what it said or is killed for, and the traceback that a crash left.

        Args:
            status: As the system says of a process that ended (a wait status).
        """
        size = min(os.fstat(self._crash_file).st_size, _CRASH_BYTES)
        words = os.pread(self._crash_file, size, 0).decode(errors="replace").strip()
        reason = self.failure or _ending(status)
        return f"{reason}\n{words}" if words else reason

    def close(self) -> None:
        """Lets go of it; its memory goes when it has ended too."""
        self.phase = Phase.GONE
        self._mailbox.close()
        os.close(self._crash_file)
        self._memory.clear()


def _ending(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return f"the worker was ended by signal {os.WTERMSIG(status)}"
    return f"the worker ended itself with status {os.waitstatus_to_exitcode(status)}"
