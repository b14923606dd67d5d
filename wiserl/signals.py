"""Signals that ask a run to stop."""

from __future__ import annotations

import queue
import signal
import threading
from typing import TYPE_CHECKING, Any, Self

from common.logging import Logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

_log = Logger()

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_PATIENCE_SECONDS = 1.0
"""How long a handler waits for the thread that drains."""


class Drain:
    """Within it the first SIGINT or SIGTERM drains a run; the next one ends the process as ever.

    A handler runs between any two steps of the main thread, also while that holds a lock or is just
    about to wait. So it only puts a note into a queue that allows it, and a thread does the rest,
    which may lock and wake as any other code may. The handler waits a moment for it, so that as a
    rule nothing more is trained; not longer, for the main thread may hold what that needs. When the
    block ends, it is done.

    Outside the main thread, where Python takes no signals, it does nothing.

    Args:
        drain: What the first signal does, in a thread of its own.

    Attributes:
        signal: The one that came; None for none.
    """

    def __init__(self, drain: Callable[[], None]) -> None:
        self.signal: int | None = None
        self._drain = drain
        self._former: dict[signal.Signals, Any] = {}
        # `put` of this kind of queue may interrupt another `put` or `get`.
        self._notes: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._drained = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="signals", daemon=True)

    def __enter__(self) -> Self:
        """Takes the signals over."""
        if threading.current_thread() is threading.main_thread():
            self._thread.start()
            for number in _SIGNALS:
                self._former[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Gives them back."""
        self._restore()
        if self._thread.is_alive():
            self._notes.put(None)
            self._thread.join()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        self._restore()
        self._notes.put(number)
        self._drained.wait(_PATIENCE_SECONDS)

    def _follow(self) -> None:
        number = self._notes.get()
        if number is not None:
            self._drain()
            self._drained.set()
            _log.warning("draining", signal=signal.Signals(number).name, again="ends it at once")

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
