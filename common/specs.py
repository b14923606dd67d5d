"""What an environment is to both sides: agent groups, their spaces, the step limit."""

from __future__ import annotations

import dataclasses
import re

from common import spaces
from common.errors import InvalidFieldError
from protos.wiserl.v1 import environment_pb2

MAX_AGENTS = 1024
MAX_DEPTH = 8
"""How deep lists may nest in an environment's arguments."""

ArgumentValue = bool | int | float | str | list["ArgumentValue"]


def role_of(agent: str) -> str:
    """What an agent is by its name: `adversary` of `adversary_0`."""
    return re.sub(r"[_-]?\d+$", "", agent) or agent


@dataclasses.dataclass(frozen=True)
class AgentGroup:
    """Agents with identical spaces, in the order of the agent axis."""

    name: str
    agents: tuple[str, ...]
    observation: spaces.Space
    action: spaces.Space
    action_mask: bool = False


@dataclasses.dataclass(frozen=True)
class EnvironmentSpec:
    """An environment as a sampler found it.

    Attributes:
        groups: One without a name for a single agent.
        multi_agent: Whether columns and graph tensors of a group have the agent axis.
        max_episode_steps: The step limit, where known.
        global_state: The space of the global state, where there is one.
    """

    groups: tuple[AgentGroup, ...]
    multi_agent: bool = False
    max_episode_steps: int | None = None
    global_state: spaces.Space | None = None

    @property
    def agent(self) -> AgentGroup:
        """The one group of a single-agent environment.

        Raises:
            ValueError: There are several agents.
        """
        if self.multi_agent:
            raise ValueError("a multi-agent environment has no single agent")
        return self.groups[0]

    @property
    def agents(self) -> tuple[str, ...]:
        """The names of all agents, group after group; none for a single agent."""
        if not self.multi_agent:
            return ()
        return tuple(agent for group in self.groups for agent in group.agents)

    def places(self) -> dict[str, slice]:
        """Where the agents of each group, by its name, stand in `agents`."""
        places, start = {}, 0
        for group in self.groups:
            places[group.name] = slice(start, start + len(group.agents))
            start += len(group.agents)
        return places

    def axis(self, group: AgentGroup) -> tuple[int, ...]:
        """What shapes of a group begin with: `(agents,)`, or `()` for a single agent."""
        return (len(group.agents),) if self.multi_agent else ()

    def differences(self, other: EnvironmentSpec) -> list[str]:
        """What differs from another spec, in words, empty where nothing does."""
        found = _unequal(self, other, but="groups")
        if len(self.groups) != len(other.groups):
            found.append(f"{len(other.groups)} agent groups, the run has {len(self.groups)}")
        for ours, theirs in zip(self.groups, other.groups, strict=False):
            found += [f"group {ours.name!r}: {text}" for text in _unequal(ours, theirs)]
        return found


def _unequal(
    ours: EnvironmentSpec | AgentGroup, theirs: EnvironmentSpec | AgentGroup, but: str = ""
) -> list[str]:
    names = [field.name for field in dataclasses.fields(ours) if field.name != but]
    pairs = [(name, getattr(ours, name), getattr(theirs, name)) for name in names]
    return [f"{name} is {b!r}, the run has {a!r}" for name, a, b in pairs if a != b]


def single_agent(
    observation: spaces.Space,
    action: spaces.Space,
    *,
    max_episode_steps: int | None = None,
    action_mask: bool = False,
) -> EnvironmentSpec:
    """The spec of an environment with one agent."""
    group = AgentGroup("", ("",), observation, action, action_mask)
    return EnvironmentSpec((group,), max_episode_steps=max_episode_steps)


def to_proto(spec: EnvironmentSpec) -> environment_pb2.EnvironmentSpec:
    """The spec as a message."""
    message = environment_pb2.EnvironmentSpec(multi_agent=spec.multi_agent)
    for group in spec.groups:
        message.groups.add(
            name=group.name,
            agents=group.agents,
            observation=spaces.to_proto(group.observation),
            action=spaces.to_proto(group.action),
            action_mask=group.action_mask,
        )
    if spec.max_episode_steps is not None:
        message.max_episode_steps = spec.max_episode_steps
    if spec.global_state is not None:
        message.global_state.CopyFrom(spaces.to_proto(spec.global_state))
    return message


def from_proto(message: environment_pb2.EnvironmentSpec) -> EnvironmentSpec:
    """The spec of a message.

    Raises:
        InvalidFieldError: No groups, groups or agents that share a name, several agents or named
            ones without `multi_agent`, a mask of actions that cannot be masked, or a space that
            cannot be one.
    """
    groups = tuple(_group(group, f"groups[{i}]") for i, group in enumerate(message.groups))
    if not groups:
        raise InvalidFieldError("groups", "is empty; a spec needs at least one agent group")
    agents = [agent for group in groups for agent in group.agents]
    if len(agents) > MAX_AGENTS:
        raise InvalidFieldError("groups", f"{len(agents)} agents exceed the limit of {MAX_AGENTS}")
    if len({group.name for group in groups}) < len(groups) or len(set(agents)) < len(agents):
        raise InvalidFieldError("groups", "two groups or two agents share a name")
    if not message.multi_agent and len(agents) > 1:
        raise InvalidFieldError("multi_agent", f"is false, but there are {len(agents)} agents")
    if not message.multi_agent and (groups[0].name or agents[0]):
        raise InvalidFieldError(
            "groups[0]", "has a name; without multi_agent the group's and the agent's are empty"
        )
    state = None
    if message.HasField("global_state"):
        state = _space(message, "global_state")
    steps = message.max_episode_steps if message.HasField("max_episode_steps") else None
    if steps == 0:
        raise InvalidFieldError("max_episode_steps", "is 0; leave it out where there is no limit")
    return EnvironmentSpec(groups, message.multi_agent, steps, state)


def _group(message: environment_pb2.AgentGroup, field: str) -> AgentGroup:
    if not message.agents:
        raise InvalidFieldError(f"{field}.agents", "is empty; name at least one agent")
    try:
        observation, action = _space(message, "observation"), _space(message, "action")
    except InvalidFieldError as error:
        raise error.under(field) from None
    if message.action_mask and not isinstance(action, spaces.Discrete | spaces.MultiDiscrete):
        raise InvalidFieldError(
            f"{field}.action_mask",
            f"a {type(action).__name__} action cannot be masked; use Discrete or MultiDiscrete",
        )
    return AgentGroup(message.name, tuple(message.agents), observation, action, message.action_mask)


def _space(
    message: environment_pb2.AgentGroup | environment_pb2.EnvironmentSpec, name: str
) -> spaces.Space:
    try:
        return spaces.from_proto(getattr(message, name))
    except InvalidFieldError as error:
        raise error.under(name) from None


def arguments_to_proto(arguments: dict[str, ArgumentValue]) -> dict[str, environment_pb2.Argument]:
    """Keyword arguments of an environment as messages.

    Raises:
        InvalidFieldError: A value that is no bool, integer of 64 bits, float, string or list of
            such, or lists nested too deeply.
    """
    return {
        name: _argument(value, f"arguments[{name}]", MAX_DEPTH) for name, value in arguments.items()
    }


def arguments_from_proto(
    reference: environment_pb2.EnvironmentReference,
) -> dict[str, ArgumentValue]:
    """Keyword arguments of an environment from messages.

    Raises:
        InvalidFieldError: An argument without a value, or lists nested too deeply.
    """
    return {
        name: _argument_value(value, f"arguments[{name}]", MAX_DEPTH)
        for name, value in reference.arguments.items()
    }


def _argument(value: ArgumentValue, field: str, depth: int) -> environment_pb2.Argument:
    match value:
        case bool():
            return environment_pb2.Argument(bool_value=value)
        case int() if -(2**63) <= value < 2**63:
            return environment_pb2.Argument(int_value=value)
        case float():
            return environment_pb2.Argument(double_value=value)
        case str():
            return environment_pb2.Argument(string_value=value)
        case list() | tuple() if depth > 0:
            values = [_argument(item, f"{field}[{i}]", depth - 1) for i, item in enumerate(value)]
            items = environment_pb2.ArgumentList(values=values)
            return environment_pb2.Argument(list_value=items)
        case _:
            raise InvalidFieldError(
                field,
                f"{value!r} cannot travel; use a bool, 64-bit integer, float, string or list of "
                f"such, at most {MAX_DEPTH} lists deep",
            )


def _argument_value(message: environment_pb2.Argument, field: str, depth: int) -> ArgumentValue:
    match message.WhichOneof("kind"):
        case None:
            raise InvalidFieldError(field, "has no value; set one of its kinds")
        case "list_value" if depth == 0:
            raise InvalidFieldError(field, f"lists nest deeper than {MAX_DEPTH}")
        case "list_value":
            values = enumerate(message.list_value.values)
            return [_argument_value(item, f"{field}[{i}]", depth - 1) for i, item in values]
        case kind:
            value: ArgumentValue = getattr(message, kind)
            return value
