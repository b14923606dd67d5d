"""Where an update may be left when its run is told to stop: before each of its steps.

Updates are an algorithm's own and may take minutes. What they are made of (steps of an optimiser,
passes over a rollout) calls `allow` where parameters and optimiser fit together; whoever runs an
update says with `asking` what that asks.
"""

from __future__ import annotations

import contextlib
import contextvars
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ask: contextvars.ContextVar[Callable[[], None] | None] = contextvars.ContextVar(
    "ask", default=None
)


@contextlib.contextmanager
def asking(ask: Callable[[], None]) -> Iterator[None]:
    """Within it `allow` calls `ask`, which raises what the update is to be left by."""
    token = _ask.set(ask)
    try:
        yield
    finally:
        _ask.reset(token)


def allow() -> None:
    """Leaves the update here, by an exception, if its run is told to stop; else does nothing."""
    ask = _ask.get()
    if ask is not None:
        ask()
