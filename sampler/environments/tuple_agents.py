"""Gymnasium environments whose Tuple spaces have an entry for each agent, as parallel ones.

Level-based foraging and its kin: observations and actions are tuples, the reward is a list, and the
episode ends for all agents at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from common.errors import WiseRLError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sampler.environments.multi_agent import PerAgent


def has_agents(environment: gymnasium.Env[Any, Any]) -> bool:
    """Whether both spaces are Tuples of as many entries, which are taken for agents."""
    observed, acted = environment.observation_space, environment.action_space
    tuples = isinstance(observed, gymnasium.spaces.Tuple), isinstance(acted, gymnasium.spaces.Tuple)
    return all(tuples) and len(observed.spaces) == len(acted.spaces)  # type: ignore[attr-defined]


class TupleAgents:
    """The parallel API over such an environment; its agents are `agent_0`, `agent_1` and so on.

    Args:
        environment: See `has_agents`.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any]) -> None:
        self.environment = environment
        self.unwrapped = environment.unwrapped
        self.metadata: Mapping[str, Any] = environment.metadata
        self.render_mode = environment.render_mode
        self._observation_spaces = environment.observation_space.spaces  # type: ignore[attr-defined]
        self._action_spaces = environment.action_space.spaces  # type: ignore[attr-defined]
        names = [f"agent_{i}" for i in range(len(self._action_spaces))]
        self.possible_agents: Sequence[str] = names
        self.agents: Sequence[str] = []
        self._number = {agent: i for i, agent in enumerate(names)}
        known = environment.spec.max_episode_steps if environment.spec is not None else None
        if known is not None:
            self.max_episode_steps = known

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Of an agent."""
        space: gymnasium.Space[Any] = self._observation_spaces[self._number[agent]]
        return space

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Of an agent."""
        space: gymnasium.Space[Any] = self._action_spaces[self._number[agent]]
        return space

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[PerAgent, PerAgent]:
        """Observations and infos by agent."""
        observations, info = self.environment.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return self._each(observations), dict.fromkeys(self.possible_agents, info)

    def step(self, actions: PerAgent) -> tuple[PerAgent, PerAgent, PerAgent, PerAgent, PerAgent]:
        """Observations, rewards, ends and infos by agent.

        Raises:
            WiseRLError: The reward is not a number for each agent.
        """
        chosen = tuple(actions[agent] for agent in self.possible_agents)
        observations, rewards, terminated, truncated, info = self.environment.step(chosen)
        each: Any = rewards
        if np.shape(each) != (len(self.possible_agents),):
            raise WiseRLError(
                f"the reward is {each!r}; an environment with Tuple spaces gives a list with a "
                f"number for each of its {len(self.possible_agents)} agents"
            )
        if terminated or truncated:
            self.agents = []
        return (
            self._each(observations),
            self._each(each),
            dict.fromkeys(self.possible_agents, bool(terminated)),
            dict.fromkeys(self.possible_agents, bool(truncated)),
            dict.fromkeys(self.possible_agents, info),
        )

    def state(self) -> Any:  # noqa: ANN401 - the parallel API's
        """None is kept."""
        raise NotImplementedError

    def render(self) -> Any:  # noqa: ANN401 - whatever its render mode gives
        """A picture."""
        return self.environment.render()

    def close(self) -> None:
        """Ends it."""
        self.environment.close()

    def _each(self, values: Any) -> PerAgent:  # noqa: ANN401 - a tuple of anything
        return dict(zip(self.possible_agents, values, strict=True))
