"""mpe2's simple_spread, all copies of a worker stepped at once.

Four fifths of a sampler's time went into mpe2's own steps of single copies. Before copies are
handed out here they play two episodes beside one of mpe2's: where its rules are other ones, as they
may be in another release, copies are stepped one by one as ever. Why and what for is said in
docs/adr/0014-spread-all-copies-at-once.md.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from common.logging import Logger
from sampler.environments import multi_agent
from sampler.environments.spread_worlds import PUSHES, Rules, Worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.specs import EnvironmentSpec
    from sampler.environments.registry import Recipe
    from sampler.environments.spread_worlds import Which
    from sampler.environments.stepping import Live, Tape

ENVIRONMENT = "mpe2/simple_spread_v3"

_logger = Logger()

_PROBED, _INWARDS = 25, 0.7
"""Steps that copies are looked at beside mpe2's own, and the share in which an agent goes to the
middle."""


class SpreadEnvironments:
    """K copies, each with a seed of its own; see `Environments`.

    Args:
        rules: What is played.
        spec: What the copies are.
        copies: K.
    """

    late = True
    together = False

    def __init__(self, rules: Rules, spec: EnvironmentSpec, copies: int) -> None:
        self.copies = copies
        self.spec = spec
        self._worlds = Worlds(rules, copies)

    def reset(self, seeds: Sequence[int], live: Live, counters: memoryview[int]) -> None:
        """Begins the first episode of every copy with its seed."""
        for copy in range(self.copies):
            self._worlds.reset(copy, seeds[copy])
            counters[1] += 1
        self._show(live, slice(None))
        live.alive[:] = True

    def stepper(self, tape: Tape, positions: Sequence[int]) -> Callable[[int], None]:
        """Steps the copies at `positions` only; the others idle."""
        worlds, live = self._worlds, tape.live
        copies, pending = np.array(positions, np.int64), tape.pending.copy()
        everyone = np.arange(len(copies))
        whole: Which = slice(None) if len(copies) == self.copies else copies
        (actions,) = tape.actions.values()

        def step_row(row: int) -> None:
            tape.starting[:] = pending
            at: Which = slice(None)
            which, stepped = whole, everyone
            if pending.any():
                for position in np.flatnonzero(pending).tolist():
                    worlds.reset(positions[position], None)
                stepped = np.flatnonzero(~pending)
                which, at = copies[stepped], stepped
            live.alive[:] = True
            pending[:] = False
            rewards, cut = worlds.step(which, actions[at])
            tape.rewards[row, at] = rewards
            for position in stepped[cut].tolist():
                live.alive[position] = False
                tape.truncated[row, position] = True
                tape.ended[row, position] = pending[position] = True
                tape.endings.append((row, position, {}))
            self._show(live, whole)
            tape.counters[0] += len(copies)

        return step_row

    def _show(self, live: Live, which: Which) -> None:
        """Writes what is to be seen of copies; the global state is what all agents see."""
        seen = self._worlds.observe(which)
        for observed in live.groups.values():
            for array in observed.leaves.values():
                array[...] = seen
        for array in live.state.values():
            array[...] = seen.reshape(array.shape)

    def close(self) -> None:
        """There is nothing to close."""


def vectorised(recipe: Recipe, copies: int) -> SpreadEnvironments | None:
    """Copies of simple_spread; None of anything else, or where they play otherwise than mpe2's."""
    if recipe.name != ENVIRONMENT or recipe.wrappers:
        return None
    single: Any = recipe.plain()
    try:
        rules = Rules.of(single.unwrapped)
        if rules is None:
            return None
        if not _agree(rules, single):
            release = importlib.metadata.version("mpe2")
            _logger.warning(
                "spread_is_stepped_one_by_one", because="its rules differ", mpe2=release
            )
            return None
        return SpreadEnvironments(rules, multi_agent.specification(single), copies)
    finally:
        single.close()


def _agree(rules: Rules, single: Any) -> bool:  # noqa: ANN401 - mpe2's, which has no types
    """Whether some steps are the same in both, with agents that meet in the middle and collide."""
    worlds, random, alone = Worlds(rules, 1), np.random.default_rng(0), slice(None)
    for seed in range(2):
        seen, _ = single.reset(seed=seed)
        worlds.reset(0, seed)
        for _ in range(min(rules.max_cycles, _PROBED)):
            if not np.array_equal(np.stack(list(seen.values())), worlds.observe(alone)[0]):
                return False
            actions = random.integers(0, len(PUSHES), rules.agents)
            inwards = random.random(rules.agents) < _INWARDS
            actions[inwards] = worlds.inwards(0)[inwards]
            seen, rewards, _, cut, _ = single.step(
                dict(zip(single.possible_agents, actions.tolist(), strict=True))
            )
            paid, over = worlds.step(alone, actions[None])
            if list(rewards.values()) != paid[0].tolist() or set(cut.values()) != {bool(over[0])}:
                return False
    return True
