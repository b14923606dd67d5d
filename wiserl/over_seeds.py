"""The same training once for each of several seeds, and what it came to over all of them."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import TYPE_CHECKING, Any

from common.errors import InvalidFieldError, WiseRLError
from common.logging import Logger
from learner.observer import Observer, Observers
from learner.outcome import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from learner.outcome import Outcome
    from wiserl.order import Order

_log = Logger()


def parse(text: str) -> tuple[int, ...]:
    """The seeds in a text such as `0-4` or `0,3,7-9`, in its order.

    Raises:
        InvalidFieldError: The text is none, or names a seed twice.
    """
    found: list[int] = []
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise InvalidFieldError("seeds", f"{text!r} is no list such as 0-4 or 0,3,7")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(found)) != len(found):
        raise InvalidFieldError("seeds", f"{text!r} names a seed twice")
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Ending:
    """How the run of one seed ended.

    Attributes:
        seed: The run's.
        outcome: What the run came to; None where it failed before it had anything to tell.
        error: Why it failed; None where it did not.
    """

    seed: int
    outcome: Outcome | None
    error: str | None = None

    @property
    def folder(self) -> Path | None:
        """The run's, where it got one."""
        return self.outcome.folder if self.outcome else None

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        finished = self.outcome is not None and self.outcome.status == Status.FINISHED
        return finished and self.error is None

    @property
    def score(self) -> float | None:
        """The final policy's mean return, without an evaluation that of the last episodes.

        None where there is no episode, or it is no finite number.
        """
        if self.outcome is None:
            return None
        if self.outcome.final is not None:
            score = self.outcome.final.scalars()["eval/mean_reward"]
        else:
            score = self.outcome.metrics.get("rollout/ep_rew_mean", math.nan)
        return score if math.isfinite(score) else None

    def described(self) -> str:
        """The ending in a line for people."""
        if self.outcome is None or self.error is not None:
            return f"failed: {self.error}"
        if self.outcome.status == Status.STOPPED:
            return f"stopped after {self.outcome.environment_steps:,} steps"
        return "no episode ended" if self.score is None else f"return {self.score:.2f}"

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        told = self.outcome.to_json() if self.outcome else {}
        if self.error is not None:
            told |= {"status": Status.FAILED.value, "error": self.error}
        folder = None if self.folder is None else str(self.folder)
        return {"seed": self.seed, "folder": folder, "score": self.score, **told}


def train_each(
    seeds: Sequence[int],
    order_of: Callable[[int], Order],
    launch: Callable[[Order], Outcome],
    say: Callable[[str], None],
) -> list[Ending]:
    """Trains once a seed. A run that fails does not stop those after it; a signal does.

    Args:
        seeds: In the order in which they are trained.
        order_of: Makes what to launch for a seed.
        launch: Launches it.
        say: Is told before and after each run.

    Raises:
        InvalidFieldError: A setting that cannot be, which no other seed would mend.
    """
    endings: list[Ending] = []
    for place, seed in enumerate(seeds, 1):
        if len(seeds) > 1:
            say(f"seed {seed} ({place} of {len(seeds)})")
        ending = _train(seed, order_of(seed), launch)
        endings.append(ending)
        say(ending.described())
        if ending.outcome is not None and ending.outcome.signal is not None:
            break
    return endings


class _Keeper(Observer):
    """Keeps what a run came to, also where it ends in an exception."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None

    def ended(self, outcome: Outcome) -> None:
        self.outcome = outcome


def _train(seed: int, order: Order, launch: Callable[[Order], Outcome]) -> Ending:
    keeper = _Keeper()
    order = dataclasses.replace(order, observer=Observers([order.observer, keeper]))
    try:
        outcome = launch(order)
    except InvalidFieldError:
        raise
    except WiseRLError as error:
        return Ending(seed, keeper.outcome, str(error))
    except Exception as error:  # noqa: BLE001 - whatever ends this run, the next one may do well
        _log.exception("run_failed", seed=seed)
        return Ending(seed, keeper.outcome, f"{type(error).__name__}: {error}")
    finally:
        order.observer.close()
    return Ending(seed, outcome, outcome.error)


@dataclasses.dataclass(frozen=True)
class Score:
    """Final returns over seeds.

    Attributes:
        seeds: How many runs finished with one.
        mean: Over them.
        iqm: The interquartile mean, which one lucky or unlucky seed does not move.
        low: From where 95 % of its bootstrap draws lie.
        high: Up to where.
    """

    seeds: int
    mean: float
    iqm: float
    low: float
    high: float

    @classmethod
    def over(cls, endings: Sequence[Ending]) -> Score | None:
        """That of the runs that finished; None where none did."""
        from wiserl.bench import statistics

        scores = [ending.score for ending in endings if ending.is_finished]
        known = [score for score in scores if score is not None]
        if not known:
            return None
        low, high = statistics.interval(known)
        mean = sum(known) / len(known)
        return cls(len(known), mean, statistics.interquartile_mean(known), low, high)

    def to_json(self) -> dict[str, Any]:
        """The numbers, as JSON has them."""
        return {
            "seeds": self.seeds,
            "mean": self.mean,
            "iqm": self.iqm,
            "iqm_interval_95": [self.low, self.high],
        }


def table(endings: Sequence[Ending], score: Score | None) -> list[str]:
    """What a person is told at the end: a line a seed, and the numbers over all of them."""
    lines = [f"{'seed':>6}  {'return':>10}  {'std':>8}  {'steps':>12}  {'seconds':>8}  run folder"]
    for ending in endings:
        outcome = ending.outcome
        if outcome is None:
            lines.append(f"{ending.seed:>6}  {ending.described()}")
            continue
        spread = outcome.final.scalars()["eval/std_reward"] if outcome.final else None
        numbers = f"{_number(ending.score):>10}  {_number(spread):>8}"
        work = f"{outcome.environment_steps:>12,}  {outcome.seconds:>8.1f}"
        remark = "" if ending.is_finished else f"  ({ending.described()})"
        lines.append(f"{ending.seed:>6}  {numbers}  {work}  {outcome.folder}{remark}")
    if score is not None:
        interval = f"95 % interval {score.low:.2f} to {score.high:.2f}"
        of = f"{score.seeds} of {len(endings)} seeds"
        lines.append(f"{'mean':>6}  {score.mean:>10.2f}")
        lines.append(f"{'IQM':>6}  {score.iqm:>10.2f}  {interval}, {of}")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def picture(endings: Sequence[Ending]) -> Path | None:
    """Draws all runs in one picture beside their folders; None where there are not two to draw.

    A picture that cannot be drawn is logged, and nothing else is lost.
    """
    from learner import curves, group_plot

    folders = [ending.folder for ending in endings if ending.folder is not None]
    runs = [run for folder in folders for run in curves.find(folder)]
    if len(runs) < 2:
        return None
    first = folders[0]
    started = first.name.rpartition("-s")[0]
    seeds = [ending.seed for ending in endings]
    name = f"{first.parent.name}-{started}-seeds-{min(seeds)}-{max(seeds)}.png"
    try:
        return group_plot.draw(curves.group(runs), first.parent.parent / name)
    except (OSError, WiseRLError) as error:
        _log.warning("picture_not_drawn", reason=str(error))
        return None


def exit_code(endings: Sequence[Ending]) -> int:
    """0 where all went well, 128 plus the signal that stopped them, 1 where a run failed."""
    signals = [each.outcome.signal for each in endings if each.outcome and each.outcome.signal]
    if signals:
        return 128 + signals[-1]
    return int(any(each.error is not None for each in endings))
