"""Environments with several agents in PettingZoo's parallel API, reset one step late.

The order of agents is that of the environment's `possible_agents`, group after group. The parallel
API has no autoreset: the pool resets a copy when its last agent has ended, in a row that is no
step.

An agent may end before the episode does, and may join late. `alive` says who acts in a row. What an
agent saw last stands in the entry after its last step; from then on its entries are zeros, and all
its actions are available.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from common.errors import UnsupportedSpaceError
from common.specs import EnvironmentSpec, role_of
from sampler.environments import actions as action_space_of
from sampler.environments import metrics, spaces
from sampler.environments.observations import WrongObservationError, writer
from sampler.environments.stepping import Observed, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import gymnasium
    from numpy.typing import NDArray

    from common.specs import AgentGroup
    from sampler.environments.stepping import Live, Tape

AgentID: TypeAlias = Any
"""What an environment calls an agent by; mostly text."""

PerAgent: TypeAlias = "Mapping[AgentID, Any]"

_LIMITS = ("max_episode_steps", "_max_episode_steps", "max_cycles")
"""Attributes in which environments keep their step limit; PettingZoo has no one place for it."""


class ParallelEnvironment(Protocol):
    """PettingZoo's parallel API, as far as it is used here.

    Attributes:
        possible_agents: All agents there may ever be.
        agents: Those that act in the coming step.
        metadata: As Gymnasium has it.
        render_mode: As Gymnasium has it.
    """

    possible_agents: Sequence[AgentID]
    agents: Sequence[AgentID]
    metadata: Mapping[str, Any]
    render_mode: str | None

    def observation_space(self, agent: AgentID) -> gymnasium.Space[Any]:
        """Of an agent."""

    def action_space(self, agent: AgentID) -> gymnasium.Space[Any]:
        """Of an agent."""

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[PerAgent, PerAgent]:
        """Observations and infos."""

    def step(self, actions: PerAgent) -> tuple[PerAgent, PerAgent, PerAgent, PerAgent, PerAgent]:
        """Observations, rewards, terminations, truncations and infos."""

    def render(self) -> Any:  # noqa: ANN401 - whatever its render mode gives
        """A picture."""

    def state(self) -> Any:  # noqa: ANN401 - a value of `state_space`
        """The global state, where there is a `state_space`."""

    def close(self) -> None:
        """Ends it."""


def is_parallel(environment: object) -> bool:
    """Whether it speaks the parallel API."""
    return hasattr(environment, "possible_agents") and not hasattr(environment, "agent_iter")


def specification(environment: ParallelEnvironment) -> EnvironmentSpec:
    """The spec of a copy; resets it once, to see what its infos tell.

    Raises:
        UnsupportedSpaceError: It has a space that the contract lacks, or no agents.
    """
    _, infos = environment.reset(seed=0)
    if not environment.possible_agents:
        raise UnsupportedSpaceError("the environment has no possible_agents; name at least one")
    groups: list[AgentGroup] = []
    for agent in environment.possible_agents:
        found = spaces.agent_group(
            role_of(str(agent)),
            (str(agent),),
            environment.observation_space(agent),
            environment.action_space(agent),
            infos.get(agent, {}),
        )
        for i, group in enumerate(groups):
            if _spaces(group) == _spaces(found):
                groups[i] = _grown(group, found)
                break
        else:
            groups.append(found)
    return EnvironmentSpec(
        tuple(_named_apart(groups)), True, _step_limit(environment), _state_space(environment)
    )


def _spaces(group: AgentGroup) -> tuple[object, ...]:
    return group.observation, group.action, group.action_mask


def _grown(group: AgentGroup, other: AgentGroup) -> AgentGroup:
    return type(group)(group.name, group.agents + other.agents, *_spaces(group))  # type: ignore[arg-type]


def _named_apart(groups: Sequence[AgentGroup]) -> Iterator[AgentGroup]:
    """The same groups, where two have one name each named after its first agent."""
    counts = collections.Counter(group.name for group in groups)
    for group in groups:
        name = group.name if counts[group.name] == 1 else group.agents[0]
        yield type(group)(name, group.agents, *_spaces(group))  # type: ignore[arg-type]


def _step_limit(environment: ParallelEnvironment) -> int | None:
    for one in (environment, getattr(environment, "unwrapped", environment)):
        for name in _LIMITS:
            limit = getattr(one, name, None)
            if isinstance(limit, int | np.integer) and limit > 0:
                return int(limit)
    return None


def _state_space(environment: ParallelEnvironment) -> Any:  # noqa: ANN401 - a space or None
    """The space of the global state, None where the environment has no such state."""
    space = getattr(environment, "state_space", None)
    if space is None:
        return None
    try:
        environment.state()
    except NotImplementedError:
        return None
    return spaces.convert(space, "state space")


class _Stage:
    """Carries what one copy after the other says into the arrays, and answers its actions.

    Args:
        environment: One of the copies; the others are alike.
        spec: What they are.
        live: Where it goes.
        actions: What the policy answers, `[B, n, ...]` by group.
    """

    def __init__(
        self,
        environment: ParallelEnvironment,
        spec: EnvironmentSpec,
        live: Live,
        actions: Mapping[str, NDArray[Any]],
    ) -> None:
        ids = {str(agent): agent for agent in environment.possible_agents}
        self._agents = [ids[name] for name in spec.agents]
        self._alive = live.alive
        self._seen = [
            live.groups[group.name].of_agent(place) if group.name in live.groups else Observed({})
            for group in spec.groups
            for place in range(len(group.agents))
        ]
        self._writers = [
            writer(environment.observation_space(agent), seen)
            for agent, seen in zip(self._agents, self._seen, strict=True)
        ]
        self._actions = [
            (
                actions[group.name],
                action_space_of.for_each(environment.action_space(ids[group.agents[0]])),
            )
            for group in spec.groups
            if group.name in actions
        ]
        self._write_state = None
        if live.state:
            self._write_state = writer(environment.state_space, Observed(live.state))  # type: ignore[attr-defined]

    def reset(self, position: int, environment: ParallelEnvironment, seed: int | None) -> None:
        """Begins an episode of a copy."""
        observations, infos = environment.reset(seed=seed)
        self._alive[position] = False
        self._see(position, environment, observations, infos, ())

    def step(
        self, position: int, environment: ParallelEnvironment
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], PerAgent]:
        """Steps a copy.

        Returns:
            [A] rewards, terminations and truncations, and the infos.
        """
        answered = (
            act for array, to_actions in self._actions for act in to_actions(array[position])
        )
        acting = self._alive[position].tolist()
        chosen = {
            agent: act
            for agent, act, acts in zip(self._agents, answered, acting, strict=True)
            if acts
        }
        observations, rewards, terminations, truncations, infos = environment.step(chosen)
        width = len(self._agents)
        reward = np.zeros(width)
        terminated, truncated = np.zeros(width, np.bool_), np.zeros(width, np.bool_)
        for number, agent in enumerate(self._agents):
            if acting[number]:
                reward[number] = rewards[agent]
                terminated[number] = terminations[agent]
                truncated[number] = truncations[agent]
        gone = {self._agents[number] for number in np.flatnonzero(terminated | truncated)}
        self._see(position, environment, observations, infos, gone)
        return reward, terminated, truncated, infos

    def _see(
        self,
        position: int,
        environment: ParallelEnvironment,
        observations: PerAgent,
        infos: PerAgent,
        gone: Sequence[AgentID] | set[AgentID],
    ) -> None:
        acts = {agent for agent in environment.agents if agent not in gone}
        alive = self._alive[position]
        for number, agent in enumerate(self._agents):
            if agent in observations and (alive[number] or agent in acts):
                self._writers[number](position, observations[agent], infos.get(agent, {}))
            elif agent in acts:
                raise WrongObservationError(
                    f"the environment gives no observation of {agent}, which is among its agents; "
                    "mend its step or reset"
                )
            else:
                self._blank(position, self._seen[number])
            alive[number] = agent in acts
        if self._write_state is not None:
            self._write_state(position, environment.state(), {})

    def _blank(self, position: int, seen: Observed) -> None:
        for array in seen.leaves.values():
            array[position] = 0
        if seen.mask is not None:
            seen.mask[position] = True

    def is_over(self, position: int) -> bool:
        """Whether no agent of a copy is left."""
        return not self._alive[position].any()


class MultiAgentEnvironments:
    """K separate copies, each with a seed of its own.

    Args:
        environments: The copies.

    Raises:
        UnsupportedSpaceError: They have a space that the contract lacks.
    """

    late = True
    together = False

    def __init__(self, environments: Sequence[ParallelEnvironment]) -> None:
        self.copies = len(environments)
        self._environments = list(environments)
        self.spec = specification(self._environments[0])

    def reset(self, seeds: Sequence[int], live: Live, counters: memoryview[int]) -> None:
        """Begins the first episode of every copy with its seed."""
        stage = _Stage(self._environments[0], self.spec, live, {})
        for position, environment in enumerate(self._environments):
            stage.reset(position, environment, seeds[position])
            counters[1] += 1

    def stepper(self, tape: Tape, positions: Sequence[int]) -> Callable[[int], None]:
        """Steps the copies at `positions` only; the others idle."""
        environments = [self._environments[position] for position in positions]
        stage = _Stage(environments[0], self.spec, tape.live, tape.actions)
        pending = tape.pending.tolist()

        def step_row(row: int) -> None:
            tape.starting[:] = False
            for position, environment in enumerate(environments):
                if pending[position]:
                    stage.reset(position, environment, None)
                    pending[position] = False
                    tape.starting[position] = True
                else:
                    reward, terminated, truncated, infos = stage.step(position, environment)
                    tape.rewards[row, position] = reward
                    tape.terminated[row, position] = terminated
                    tape.truncated[row, position] = truncated
                    if stage.is_over(position):
                        tape.ended[row, position] = pending[position] = True
                        tape.endings.append((row, position, metrics.of_agents(infos)))
                tape.counters[0] += 1

        return step_row

    def close(self) -> None:
        """Closes every copy."""
        for environment in self._environments:
            environment.close()


class MultiAgentPlayers:
    """Copies for an evaluation; see `Players`.

    Args:
        environments: The copies.
        spec: What they are.
        live: Where what is to be seen goes.
        actions: What the policy answers, `[B, n, ...]` by group.
    """

    def __init__(
        self,
        environments: Sequence[ParallelEnvironment],
        spec: EnvironmentSpec,
        live: Live,
        actions: Mapping[str, NDArray[Any]],
    ) -> None:
        self._environments = environments
        self._stage = _Stage(environments[0], spec, live, actions)

    def reset(self, position: int, seed: int) -> None:
        """See `Players`."""
        self._stage.reset(position, self._environments[position], seed)

    def step(self, position: int) -> Outcome:
        """See `Players`."""
        reward, terminated, truncated, infos = self._stage.step(
            position, self._environments[position]
        )
        over = self._stage.is_over(position)
        ended = bool(terminated.any() and not truncated.any())
        return Outcome(reward, over, ended, metrics.of_agents(infos) if over else {})
