"""`wiserl watch`: a run as it goes, from any machine that reaches its learner."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from typing import TYPE_CHECKING, Annotated

import tyro

from common import variables
from common.errors import InvalidFieldError
from common.security import ClientSecurity
from wiserl import parsing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wiserl.watching import Watched

SHORTEST_SECONDS = 0.1
_USUAL_SECONDS, _LOG_SECONDS = 1.0, 10.0


@dataclasses.dataclass(frozen=True)
class WatchFlags(ClientSecurity):
    """Shows a run that a learner serves: progress, curve of returns, samplers, losses.

    A picture that is redrawn on a terminal, a line now and then elsewhere. It takes nothing from
    the run; end it with Ctrl-C. Exit codes: 0 the run is over, or --once has shown it; 1 refused; 2
    a flag that cannot be; 3 no learner reached; 130 Ctrl-C.
    """

    learner: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="HOST:PORT")] = (
        "127.0.0.1:5555"
    )
    """Where the learner serves."""

    once: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the state once and end."""

    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print a line of JSON for every state; the first has the curve so far, others what is new."""

    interval_seconds: float = 0.0
    """Between two states; 0 for 1 s on a terminal or as JSON, else 10 s."""

    connect_timeout_seconds: float = 10.0
    """Stop when no learner was heard of for so long, at the start or later; 0 waits for ever."""

    def __post_init__(self) -> None:
        """Refuses values that cannot be."""
        super().__post_init__()
        if self.interval_seconds and not SHORTEST_SECONDS <= self.interval_seconds < math.inf:
            raise InvalidFieldError(
                "interval_seconds", f"{self.interval_seconds} is below {SHORTEST_SECONDS}"
            )
        if not self.connect_timeout_seconds >= 0:
            raise InvalidFieldError("connect_timeout_seconds", "is below 0")


FLAGS = WatchFlags


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    default = variables.from_environment(WatchFlags)
    parsed = parsing.one(WatchFlags, arguments, program="wiserl watch", default=default)
    live = sys.stdout.isatty() and not (parsed.once or parsed.json)
    usual = _USUAL_SECONDS if live or parsed.json else _LOG_SECONDS
    from wiserl import watching

    states = watching.follow(
        parsed.learner,
        parsed,
        interval_seconds=parsed.interval_seconds or usual,
        patience_seconds=parsed.connect_timeout_seconds,
    )
    if parsed.once:
        states = (state for state in [next(states)])
    if parsed.json:
        _print_json(states)
    elif parsed.once:
        _print_pictures(states)
    elif live:
        _draw(parsed.learner, states)
    else:
        _print_lines(states)
    return 0


def _print_json(states: Iterable[Watched]) -> None:
    from wiserl import watching

    for watched in states:
        if not watched.silence:
            print(json.dumps(watching.as_json(watched, watched.fresh)), flush=True)


def _print_lines(states: Iterable[Watched]) -> None:
    from wiserl import watching

    said = ""
    for watched in states:
        # Being silent is said once, however often it is tried to reach the learner.
        if not (watched.silence and said):
            print(watching.line(watched), flush=True)
        said = watched.silence


def _print_pictures(states: Iterable[Watched]) -> None:
    from rich.console import Console

    from wiserl.watch_picture import picture

    console = Console()
    for watched in states:
        console.print(picture(watched))


def _draw(address: str, states: Iterable[Watched]) -> None:
    from rich.live import Live
    from rich.text import Text

    from wiserl.watch_picture import picture

    with Live(Text(f"connecting to {address}"), auto_refresh=False) as live:
        for watched in states:
            live.update(picture(watched), refresh=True)
