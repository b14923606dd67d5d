"""The crew of a pool: its worker processes, from the fork by the nursery to their end.

The supervisor's side. Whether a worker hangs is read off its counters; nothing here waits for one.
"""

from __future__ import annotations

import select
import subprocess
from typing import TYPE_CHECKING

from protos.wiserl.v1 import learner_pb2
from sampler.hands import Hand, Phase
from sampler.mailbox import Letter
from sampler.nursery import configuration
from sampler.nursery_process import start_nursery

if TYPE_CHECKING:
    from sampler.mailbox import Message
    from sampler.nursery_process import NurseryProcess
    from sampler.pool import PoolConfig

_FLUSH_SECONDS = 0.02
_STOP_SECONDS = 3.0


class Crew:
    """W worker processes and the nursery that forks them.

    Args:
        config: The pool's.
        nursery: One that was started ahead and serves no pool yet; None starts one.

    Attributes:
        nursery: Forks them.
        hands: The workers by their number.
    """

    def __init__(self, config: PoolConfig, nursery: NurseryProcess | None) -> None:
        self._step_timeout_seconds = config.step_timeout_seconds
        self._generation = self._restarts = 0
        self._past = learner_pb2.SamplerProgress()
        self._poll = select.epoll()
        self.nursery = nursery or start_nursery()
        self._control, self._process = self.nursery.control, self.nursery.process
        self._control.send(configuration(config))
        self._poll.register(self._control.fileno(), select.EPOLLIN)
        self.hands = [self._spawn(worker) for worker in range(config.workers)]

    def _spawn(self, worker: int) -> Hand:
        self._generation += 1
        hand = Hand(worker, self._generation, self._step_timeout_seconds)
        self._tell(hand.spawn_letter())
        self._poll.register(hand.fileno(), select.EPOLLIN)
        return hand

    def _tell(self, letter: Letter) -> None:
        """Sends to the nursery."""
        try:
            self._control.send(letter)
        except OSError:  # its end is noticed where it is read
            return

    def fileno(self) -> int:
        """One descriptor for all, readable while one of them has a message."""
        return self._poll.fileno()

    def wait(self, timeout_seconds: float | None) -> None:
        """Waits for a message, or for so long."""
        self._poll.poll(timeout_seconds)

    def ready(self) -> tuple[list[Hand], bool]:
        """The workers that have messages, and whether the nursery has one."""
        ready = {file for file, _ in self._poll.poll(0)}
        return (
            [hand for hand in self.hands if hand.fileno() in ready],
            self._control.fileno() in ready,
        )

    def receive(self) -> Message | None:
        """The nursery's word that a worker ended; None where it ended itself."""
        return self._control.receive()

    def end(self) -> int:
        """Waits for the end of the nursery; answers its status."""
        return self._process.wait()

    def find(self, message: Message) -> Hand | None:
        """The worker whose end the nursery tells of; None where that is known."""
        hand = self.hands[message.header["worker"]]
        is_known = hand.generation != message.header["generation"] or hand.phase == Phase.GONE
        return None if is_known else hand

    def look_after(self, now: float) -> None:
        """Ends workers that hang, and sends what did not fit before."""
        for hand in self.hands:
            number = hand.due_signal(now)
            if number is not None:
                self._tell(hand.signal_letter(number))
            hand.flush()

    def next_timeout(self) -> float | None:
        """In how many seconds to look after them again; None where only a message matters."""
        if not all(hand.flush() for hand in self.hands):
            return _FLUSH_SECONDS
        return min((hand.check_seconds for hand in self.hands if hand.busy), default=None)

    def release(self, hand: Hand) -> None:
        """Lets go of a worker that ended; what it did stays in the progress."""
        self._poll.unregister(hand.fileno())
        self._let_go(hand)

    def _let_go(self, hand: Hand) -> None:
        if hand.phase != Phase.GONE:
            _add(self._past, hand)
            hand.close()

    def replace(self, hand: Hand) -> Hand:
        """Starts another worker in the place of one that was released."""
        self._restarts += 1
        self.hands[hand.worker] = self._spawn(hand.worker)
        return self.hands[hand.worker]

    def progress(self) -> learner_pb2.SamplerProgress:
        """What all of them did, those that ended included."""
        progress = learner_pb2.SamplerProgress(worker_restarts=self._restarts)
        progress.MergeFrom(self._past)
        for hand in self.hands:
            if hand.phase != Phase.GONE:
                _add(progress, hand)
        return progress

    def close(self) -> None:
        """Gives environments a second to close, then kills what is left."""
        for hand in self.hands:
            hand.send(Letter({"kind": "stop"}))
        self._tell(Letter({"kind": "stop"}))
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for hand in self.hands:
            self._let_go(hand)
        self._control.close()
        self._poll.close()


def _add(progress: learner_pb2.SamplerProgress, hand: Hand) -> None:
    policy, environment, idle = hand.workload.seconds
    progress.rows_rolled += hand.workload.rows
    progress.policy_seconds += policy
    progress.environment_seconds += environment
    progress.idle_seconds += idle
