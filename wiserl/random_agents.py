"""Has some agents of an environment act at random in place of a policy: an opponent to beat."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from common.errors import InvalidFieldError
from common.spaces import MASK_KEY, flat_mask
from common.specs import role_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from common.specs import EnvironmentSpec
    from sampler.environments.multi_agent import AgentID, ParallelEnvironment, PerAgent


def named(spec: EnvironmentSpec, names: Collection[str]) -> tuple[str, ...]:
    """The agents that are named, by themselves or by their team, in their order.

    Raises:
        InvalidFieldError: There is no such agent or team, or only a single agent.
    """
    if names and not spec.multi_agent:
        raise InvalidFieldError(
            "random", "is of the agents of an environment that has several; this one has a single"
        )
    teams = dict.fromkeys(role_of(agent) for agent in spec.agents)
    for name in names:
        if name not in spec.agents and name not in teams:
            raise InvalidFieldError(
                "random",
                f"{name!r} is no agent ({', '.join(spec.agents)}) and no team ({', '.join(teams)})",
            )
    return tuple(agent for agent in spec.agents if agent in names or role_of(agent) in names)


class RandomAgents:
    """An environment in which some agents draw their actions; what is not said here it says itself.

    They draw uniformly from what their masks leave, by a generator that each episode seeds: the
    same seed plays the same episode.

    Args:
        environment: The environment.
        agents: Who draws.
    """

    def __init__(self, environment: ParallelEnvironment, agents: Collection[str]) -> None:
        self._environment = environment
        self._spaces: dict[AgentID, gymnasium.Space[Any]] = {
            agent: copy.deepcopy(environment.action_space(agent))
            for agent in environment.possible_agents
            if str(agent) in agents
        }
        self._masks: dict[AgentID, Any] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the environment has
        """What the environment has."""
        return getattr(self._environment, name)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
        """Resets environment and generators."""
        if seed is not None:
            for number, space in enumerate(self._spaces.values()):
                space.seed(int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))
        observations, infos = self._environment.reset(seed=seed, options=options)
        self._look(observations, infos)
        return observations, infos

    def step(self, actions: PerAgent) -> Any:  # noqa: ANN401
        """Steps with what the policy says for the others."""
        chosen = {
            agent: _drawn(self._spaces[agent], self._masks.get(agent))
            if agent in self._spaces
            else action
            for agent, action in actions.items()
        }
        answer = self._environment.step(chosen)
        self._look(answer[0], answer[4])
        return answer

    def close(self) -> None:
        """Closes the environment."""
        self._environment.close()

    def _look(self, observations: PerAgent, infos: PerAgent) -> None:
        self._masks = {
            agent: _mask(observations.get(agent), infos.get(agent, {})) for agent in self._spaces
        }


def _mask(observation: Any, info: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever they are
    if isinstance(observation, dict) and MASK_KEY in observation:
        return observation[MASK_KEY]
    return info.get(MASK_KEY)


def _drawn(space: gymnasium.Space[Any], mask: Any) -> Any:  # noqa: ANN401 - an action
    """An action that a mask leaves, all of them alike."""
    if mask is None:
        return space.sample()
    sizes: Sequence[int] = [space.n] if _is_discrete(space) else space.nvec.ravel()  # type: ignore[attr-defined]
    picks = [
        space.np_random.choice(np.flatnonzero(part) if part.any() else len(part))
        for part in np.split(flat_mask(mask), np.cumsum(sizes)[:-1])
    ]
    start = space.start  # type: ignore[attr-defined]
    if _is_discrete(space):
        return int(start) + int(picks[0])
    return (np.array(picks).reshape(space.shape or ()) + start).astype(space.dtype)


def _is_discrete(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, gymnasium.spaces.Discrete)
