"""What an environment is to both sides: agent groups, their spaces, the step limit."""

from __future__ import annotations

import dataclasses

from common import spaces
from common.errors import InvalidFieldError
from protos.wiserl.v1 import environment_pb2

MAX_AGENTS = 1024

ArgumentValue = bool | int | float | str | list["ArgumentValue"]


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

    def axis(self, group: AgentGroup) -> tuple[int, ...]:
        """The agent axis that shapes of a group begin with: `(agents,)`, or `()` for a single agent."""
        return (len(group.agents),) if self.multi_agent else ()

    def differences(self, other: EnvironmentSpec) -> list[str]:
        """What differs from another spec, in words, empty where nothing does."""
        found = [
            f"{field.name} is {getattr(other, field.name)!r}, the run has {getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.name != "groups" and getattr(self, field.name) != getattr(other, field.name)
        ]
        if len(self.groups) != len(other.groups):
            found.append(f"{len(other.groups)} agent groups, the run has {len(self.groups)}")
        for ours, theirs in zip(self.groups, other.groups, strict=False):
            found += [
                f"group {ours.name!r}: {field.name} is {getattr(theirs, field.name)!r}, "
                f"the run has {getattr(ours, field.name)!r}"
                for field in dataclasses.fields(ours)
                if getattr(ours, field.name) != getattr(theirs, field.name)
            ]
        return found


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
        InvalidFieldError: No groups, groups or agents that share a name, several agents without
            `multi_agent`, or a space that cannot be one.
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
        InvalidFieldError: A value that is no bool, integer, float, string or list of such.
    """
    return {name: _argument(value, f"arguments[{name}]") for name, value in arguments.items()}


def arguments_from_proto(
    reference: environment_pb2.EnvironmentReference,
) -> dict[str, ArgumentValue]:
    """Keyword arguments of an environment from messages."""
    return {name: _argument_value(value) for name, value in reference.arguments.items()}


def _argument(value: ArgumentValue, field: str) -> environment_pb2.Argument:
    match value:
        case bool():
            return environment_pb2.Argument(bool_value=value)
        case int():
            return environment_pb2.Argument(int_value=value)
        case float():
            return environment_pb2.Argument(double_value=value)
        case str():
            return environment_pb2.Argument(string_value=value)
        case list() | tuple():
            items = environment_pb2.ArgumentList(values=[_argument(item, field) for item in value])
            return environment_pb2.Argument(list_value=items)
        case _:
            raise InvalidFieldError(
                field,
                f"{value!r} cannot travel; use a bool, integer, float, string or list of such",
            )


def _argument_value(message: environment_pb2.Argument) -> ArgumentValue:
    match message.WhichOneof("kind"):
        case None:
            raise InvalidFieldError("arguments", "an argument without a value")
        case "list_value":
            return [_argument_value(item) for item in message.list_value.values]
        case kind:
            value: ArgumentValue = getattr(message, kind)
            return value
