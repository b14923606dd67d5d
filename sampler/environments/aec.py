"""Environments in PettingZoo's AEC API in its parallel one, faster or for more than it converts.

Agents that act at once are stepped a cycle a row (`Cycles`), agents that take turns a turn a row
(`Turns`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from pettingzoo.utils.conversions import (
    aec_to_parallel,
    aec_to_parallel_wrapper,
    turn_based_aec_to_parallel_wrapper,
)
from pettingzoo.utils.wrappers import AssertOutOfBoundsWrapper, OrderEnforcingWrapper

from common.spaces import MASK_KEY
from sampler.environments.modules import EnvironmentRefusedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sampler.environments.multi_agent import AgentID, ParallelEnvironment, PerAgent

_CHECKS = (OrderEnforcingWrapper, AssertOutOfBoundsWrapper)


class CycleError(RuntimeError):
    """Agents of an environment did not act one after the other, each once."""


def parallel(environment: Any) -> ParallelEnvironment:  # noqa: ANN401 - AEC, or converted
    """The parallel form of an AEC environment, or ours of what PettingZoo converted.

    Raises:
        EnvironmentRefusedError: Its agents take turns with actions that are not Discrete.
    """
    if hasattr(environment, "aec_env"):
        converted = environment
    elif environment.metadata.get("is_parallelizable"):
        converted = aec_to_parallel(environment)
    else:
        return Turns(environment)
    # A subclass is somebody's own, and an environment that was parallel at first comes out as such.
    if type(converted) is aec_to_parallel_wrapper:
        return Cycles(converted.aec_env)
    if type(converted) is turn_based_aec_to_parallel_wrapper:
        return Turns(converted.aec_env)
    return converted  # type: ignore[no-any-return]


class Cycles(aec_to_parallel_wrapper):  # type: ignore[misc]
    """The parallel API over an AEC environment whose agents act at once, a cycle a step.

    PettingZoo's own conversion asks `last` before every agent's action, which has the agent observe
    what nobody looks at, and goes through wrappers that check each call's order and each action.
    The rolling loop resets before it steps and takes actions out of their space; so neither is
    needed, and took nearly half of a step of mpe2's `simple_spread`.

    Args:
        environment: In the AEC API; wrappers around it that only check are taken off.
    """

    def __init__(self, environment: Any) -> None:  # noqa: ANN401 - an AECEnv
        while type(environment) in _CHECKS:
            environment = environment.env
        super().__init__(environment)

    def step(self, actions: PerAgent) -> tuple[PerAgent, PerAgent, PerAgent, PerAgent, PerAgent]:
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


class Turns(turn_based_aec_to_parallel_wrapper):  # type: ignore[misc]
    """The parallel API over an AEC environment whose agents take turns, a turn a step.

    All agents observe every step. Who waits has one action left by its mask, the first of its
    space, which does nothing: its probability is 1, so that no gradient goes through it, while
    values learn what the others' turns bring. Rewards are of the turn in which they are paid.

    Args:
        environment: In the AEC API.

    Raises:
        EnvironmentRefusedError: Actions are not Discrete, so that nothing says that one must wait.
    """

    def __init__(self, environment: Any) -> None:  # noqa: ANN401 - an AECEnv
        super().__init__(environment)
        self._any: dict[AgentID, NDArray[np.int8]] = {}
        self._first: dict[AgentID, NDArray[np.int8]] = {}
        for agent in self.possible_agents:
            space = self.action_space(agent)
            if not isinstance(space, gymnasium.spaces.Discrete):
                raise EnvironmentRefusedError(
                    f"{environment}: its agents take turns, and {agent} acts in {space}; a mask "
                    "says who has to wait, so take one whose actions are Discrete"
                )
            self._any[agent] = np.ones(int(space.n), np.int8)
            self._first[agent] = np.eye(1, int(space.n), dtype=np.int8)[0]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[PerAgent, PerAgent]:
        """Observations and infos, with masks in either."""
        return self._masked(*super().reset(seed, options))

    def step(self, actions: PerAgent) -> tuple[PerAgent, PerAgent, PerAgent, PerAgent, PerAgent]:
        """Has the agent act whose turn it is; the actions of the others are not looked at.

        Returns:
            Observations, rewards, terminations, truncations and infos, with masks in the first or
            the last.
        """
        observations, rewards, terminations, truncations, infos = super().step(actions)
        # Who has ended may be among the agents until its turn comes.
        ended = {agent for agent in observations if terminations[agent] or truncations[agent]}
        self.agents: list[AgentID] = [agent for agent in self.aec_env.agents if agent not in ended]
        observations, infos = self._masked(observations, infos)
        return observations, rewards, terminations, truncations, infos

    def _masked(self, observations: PerAgent, infos: PerAgent) -> tuple[PerAgent, PerAgent]:
        turn = self.aec_env.agent_selection if self.agents else None
        seen, told = {}, {}
        for agent, observed in observations.items():
            waits = agent != turn
            info = infos.get(agent, {})
            if isinstance(observed, Mapping) and MASK_KEY in observed:
                seen[agent] = {**observed, MASK_KEY: self._first[agent]} if waits else observed
                told[agent] = info
            else:
                mask = self._first[agent] if waits else info.get(MASK_KEY, self._any[agent])
                seen[agent], told[agent] = observed, {**info, MASK_KEY: mask}
        return seen, told
