"""Structured logging to stderr: JSON where no person reads along, else readable lines.

Events are snake_case names with key-values: `logger.info("sampler_registered", index=0)`.
`WISERL_LOG_LEVEL` (debug, info, warning, error; info by default) says what is written. A process
that is not ours, which only imports WiseRL, is not told how a run goes unless the variable is set:
its default there is warning.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEVEL_VARIABLE = "WISERL_LOG_LEVEL"

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _Output:
    """Where this process writes.

    Without a stream of its own that is `sys.stderr` as it is at every line, so that a host that
    puts another stream there, such as a notebook or a test runner, may close the one before.
    structlog is imported with the first line written: it takes a tenth of a second that the start
    of a sampler is better without.
    """

    def __init__(self) -> None:
        named = os.environ.get(LEVEL_VARIABLE, "").lower()
        self.threshold = _LEVELS.get(named, _LEVELS["warning"])
        self.context: dict[str, object] = {}
        self.bound: list[dict[str, object]] = []
        self._stream: TextIO | None = None
        self._renderer: tuple[TextIO, Callable[..., None]] | None = None

    def configure(self, threshold: int, stream: TextIO | None, context: dict[str, object]) -> None:
        self.threshold = threshold
        self.context = context
        self._stream = stream
        self._renderer = None

    def write(self, level: str, event: str, values: dict[str, object]) -> None:
        stream = self._stream or sys.stderr
        renderer = self._renderer
        if renderer is None or renderer[0] is not stream:
            self._renderer = renderer = (stream, _renderer(stream))
        renderer[1](level, event, {**self.context, **self._bound_now(), **values})

    def _bound_now(self) -> dict[str, object]:
        found = {name: value for values in self.bound for name, value in values.items()}
        asked = {name: value() if callable(value) else value for name, value in found.items()}
        return {name: value for name, value in asked.items() if value is not None}


_output = _Output()


def configure(*, stream: TextIO | None = None, level: str | None = None, **context: object) -> None:
    """Says how this process logs; call it once, first thing in a process.

    Args:
        stream: Where to write; stderr by default.
        level: The lowest level written; that of `WISERL_LOG_LEVEL` by default.
        context: Key-values of every line, such as `process="sampler"`.

    Raises:
        InvalidFieldError: A level that does not exist.
    """
    name = (level or os.environ.get(LEVEL_VARIABLE) or "info").lower()
    if name not in _LEVELS:
        raise InvalidFieldError(LEVEL_VARIABLE, f"{name!r} is none of {', '.join(_LEVELS)}")
    _output.configure(_LEVELS[name], stream, context)


@contextlib.contextmanager
def bound(**values: object) -> Iterator[None]:
    """Every line of this process that is written within, by any thread, has these key-values.

    Args:
        values: By name. A function is asked at every line; None leaves the name out. Those of an
            event itself come first.
    """
    _output.bound.append(values)
    try:
        yield
    finally:
        _output.bound.remove(values)


class Logger:
    """Writes events with key-values; `bind` gives one that adds some to every event."""

    def __init__(self, **values: object) -> None:
        self._values = values

    def bind(self, **values: object) -> Logger:
        """A logger that also adds these values."""
        return Logger(**{**self._values, **values})

    def debug(self, event: str, **values: object) -> None:
        """For whoever looks for a defect."""
        self._log("debug", event, values)

    def info(self, event: str, **values: object) -> None:
        """What a person who runs this wants to see."""
        self._log("info", event, values)

    def warning(self, event: str, **values: object) -> None:
        """Something is lost or slow, and the program goes on."""
        self._log("warning", event, values)

    def error(self, event: str, **values: object) -> None:
        """The program, or a part of its work, stops."""
        self._log("error", event, values)

    def exception(self, event: str, **values: object) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._log("error", event, {**values, "exc_info": True})

    def _log(self, level: str, event: str, values: dict[str, object]) -> None:
        if _LEVELS[level] >= _output.threshold:
            _output.write(level, event, {**self._values, **values})


def _renderer(stream: TextIO) -> Callable[..., None]:
    import structlog

    readable = stream.isatty()
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable),
    ]
    if readable:
        processors.append(structlog.dev.ConsoleRenderer(colors=True))
    else:
        processors += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    logger = structlog.wrap_logger(
        structlog.PrintLogger(stream), processors=processors, wrapper_class=structlog.BoundLogger
    )

    def write(level: str, event: str, values: dict[str, object]) -> None:
        getattr(logger, level)(event, **values)

    return write
