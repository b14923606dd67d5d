"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Self

from common.logging import Logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

_log = Logger()

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Drain:
    """Within it the first SIGINT or SIGTERM drains a run; the next one ends the process as ever.

    Outside the main thread, where Python takes no signals, it does nothing.

    Args:
        drain: What the first signal does; it may be called between any two steps of the main
        thread.

    Attributes:
        signal: The one that came; None for none.
    """

    def __init__(self, drain: Callable[[], None]) -> None:
        self.signal: int | None = None
        self._drain = drain
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Takes the signals over."""
        if threading.current_thread() is threading.main_thread():
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

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        self._restore()
        _log.warning("draining", signal=signal.Signals(number).name, again="ends it at once")
        self._drain()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
