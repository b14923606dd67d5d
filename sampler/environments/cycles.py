"""Environments in PettingZoo's AEC API whose agents act at once, stepped a whole cycle at a time.

PettingZoo's own conversion asks `last` before every agent's action, which has the agent observe
what nobody looks at, and goes through wrappers that check each call's order and each action. The
rolling loop resets before it steps and takes actions out of their space; so neither is needed, and
took nearly half of a step of mpe2's `simple_spread`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pettingzoo.utils.conversions import aec_to_parallel, aec_to_parallel_wrapper
from pettingzoo.utils.wrappers import AssertOutOfBoundsWrapper, OrderEnforcingWrapper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampler.environments.multi_agent import ParallelEnvironment

_CHECKS = (OrderEnforcingWrapper, AssertOutOfBoundsWrapper)


class CycleError(RuntimeError):
    """Agents of an environment did not act one after the other, each once."""


def parallel(environment: Any) -> ParallelEnvironment:  # noqa: ANN401 - AEC, or converted
    """The parallel form of an AEC environment, or a faster one of what PettingZoo converted."""
    converted = environment if hasattr(environment, "aec_env") else aec_to_parallel(environment)
    # A subclass is somebody's own, and an environment that was parallel at first comes out as such.
    if type(converted) is not aec_to_parallel_wrapper:
        return converted  # type: ignore[no-any-return]
    return Cycles(converted.aec_env)


class Cycles(aec_to_parallel_wrapper):  # type: ignore[misc]
    """The parallel API over an AEC environment whose agents act in turn, one cycle a step.

    Args:
        environment: In the AEC API; wrappers around it that only check are taken off.
    """

    def __init__(self, environment: Any) -> None:  # noqa: ANN401 - an AECEnv
        while type(environment) in _CHECKS:
            environment = environment.env
        super().__init__(environment)

    def step(
        self, actions: Mapping[Any, Any]
    ) -> tuple[dict[Any, Any], dict[Any, float], dict[Any, bool], dict[Any, bool], dict[Any, Any]]:
        """Has every agent act once.

        Args:
            actions: By agent.

        Returns:
            Observations, rewards of the whole cycle, terminations, truncations and infos.

        Raises:
            CycleError: Somebody's turn came out of order, or an agent ended before all had acted.
        """
        cycle = self.aec_env
        rewards: dict[Any, float] = defaultdict(float)
        for agent in list(cycle.agents):
            if cycle.agent_selection != agent:
                raise CycleError(
                    f"it is the turn of {cycle.agent_selection}, not of {agent}; all agents must "
                    "act once in the order of `agents`, and end only when all have acted"
                )
            cycle.step(actions[agent])
            paid = cycle.rewards  # may name agents that have left, too
            for receiver in cycle.agents:
                rewards[receiver] += paid[receiver]
        terminations, truncations = dict(cycle.terminations), dict(cycle.truncations)
        infos = dict(cycle.infos)
        observations = {agent: cycle.observe(agent) for agent in cycle.agents}
        # Those that ended take their leave by a step without an action.
        while cycle.agents and (
            cycle.terminations[cycle.agent_selection] or cycle.truncations[cycle.agent_selection]
        ):
            cycle.step(None)
        self.agents = cycle.agents
        return observations, rewards, terminations, truncations, infos
