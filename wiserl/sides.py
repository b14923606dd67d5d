"""How each agent and team did in an evaluation, as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from common.specs import role_of
from learner.statistics import with_teams

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

    from learner.metrics import Evaluation

_INTERVAL = 1.96
"""Standard errors on either side of a mean: 95 % where episodes are many."""


def by_side(evaluation: Evaluation) -> dict[str, NDArray[np.float64]]:
    """The return of every episode [N] of each of several agents, and of their teams."""
    agents = evaluation.agent_returns
    episodes = [
        with_teams(dict(zip(agents, returns, strict=True)))
        for returns in zip(*agents.values(), strict=True)
    ]
    return {name: np.array([one[name] for one in episodes]) for name in (episodes or [{}])[0]}


def described(evaluation: Evaluation) -> Iterator[str]:
    """A line for each agent and team; none for a single agent, or where all returned the same."""
    sides = by_side(evaluation)
    if all(np.array_equal(returns, evaluation.returns) for returns in sides.values()):
        return
    width = max(map(len, sides), default=0)
    for name, returns in sides.items():
        yield f"  {name:<{width}}  {returns.mean():9.2f} +- {returns.std():.2f}"


def beside_chance(
    played: Evaluation, chance: Evaluation, drawing: Collection[str]
) -> Iterator[str]:
    """A table of an evaluation beside one of the same seeds in which all agents act at random.

    The interval is that of the mean difference over the episodes, whose seeds they share.

    Args:
        played: Where some agents do.
        chance: Where all do.
        drawing: Which agents or teams do in the former.
    """
    before, after = by_side(chance), by_side(played)
    names = {name: _label(name, drawing) for name in after}
    width = max(map(len, names.values()))
    yield f"  {'return':<{width}}  {'policy':>9}  {'all random':>10}  difference [95 %]"
    for name, label in names.items():
        gained = after[name] - before[name]
        error = _INTERVAL * gained.std(ddof=1) / np.sqrt(len(gained)) if len(gained) > 1 else np.nan
        mean = gained.mean()
        yield (
            f"  {label:<{width}}  {after[name].mean():9.2f}  {before[name].mean():10.2f}  "
            f"{mean:+.2f} [{mean - error:+.2f}, {mean + error:+.2f}]"
        )


def _label(name: str, drawing: Collection[str]) -> str:
    return f"{name} (random)" if {name, role_of(name)} & set(drawing) else name
