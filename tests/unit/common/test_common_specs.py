from __future__ import annotations

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from common import spaces, specs
from common.errors import InvalidFieldError
from protos.wiserl.v1 import environment_pb2, space_pb2

TWO = space_pb2.Space(discrete=space_pb2.DiscreteSpace(n=2))
BOX = spaces.Box(np.float32([-1.0]), np.float32([1.0]))

names = st.text(st.characters(codec="utf-8"), max_size=6)
space = st.sampled_from(
    [
        BOX,
        spaces.Discrete(3, -1),
        spaces.MultiDiscrete((2, 4)),
        spaces.MultiBinary((2,)),
        spaces.Dict({"a": spaces.Discrete(2)}),
    ]
)
maskable = st.sampled_from([spaces.Discrete(3), spaces.MultiDiscrete((2, 2))])


@st.composite
def any_spec(draw):
    limit = draw(st.none() | st.integers(1, 2**64 - 1))
    state = draw(st.none() | space)
    if not draw(st.booleans()):
        mask = draw(st.booleans())
        action = draw(maskable if mask else space)
        group = specs.AgentGroup("", ("",), draw(space), action, mask)
        return specs.EnvironmentSpec((group,), max_episode_steps=limit, global_state=state)
    agents = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    cut = draw(st.integers(1, len(agents)))
    parts = [part for part in (agents[:cut], agents[cut:]) if part]
    groups = tuple(
        specs.AgentGroup(f"g{i}", tuple(part), draw(space), draw(space))
        for i, part in enumerate(parts)
    )
    return specs.EnvironmentSpec(groups, True, limit, state)


values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | names,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


def single(**changes: object) -> environment_pb2.EnvironmentSpec:
    group = environment_pb2.AgentGroup(agents=[""], observation=TWO, action=TWO)
    return environment_pb2.EnvironmentSpec(**{"groups": [group], **changes})  # type: ignore[arg-type]


def multi(*groups: tuple[str, list[str]]) -> environment_pb2.EnvironmentSpec:
    message = environment_pb2.EnvironmentSpec(multi_agent=True)
    for name, agents in groups:
        message.groups.add(name=name, agents=agents, observation=TWO, action=TWO)
    return message


def refused_field(message: environment_pb2.EnvironmentSpec) -> str:
    with pytest.raises(InvalidFieldError) as caught:
        specs.from_proto(message)
    return caught.value.field


def same(ours: specs.ArgumentValue, theirs: specs.ArgumentValue) -> bool:
    """Equal in type too (True is not 1), and NaN is NaN."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float) and math.isnan(ours):
        return math.isnan(theirs)
    return type(ours) is type(theirs) and ours == theirs


@hypothesis.given(any_spec())
def test_a_spec_comes_back_equal(spec):
    data = specs.to_proto(spec).SerializeToString()
    assert specs.from_proto(environment_pb2.EnvironmentSpec.FromString(data)) == spec


@hypothesis.given(any_spec())
def test_a_spec_does_not_differ_from_itself(spec):
    assert spec.differences(spec) == []


@hypothesis.given(any_spec(), any_spec())
def test_differences_are_told_exactly_where_there_are_some(ours, theirs):
    assert bool(ours.differences(theirs)) == (ours != theirs)


def test_differences_say_what_the_run_has():
    ours = specs.single_agent(BOX, spaces.Discrete(2), max_episode_steps=500)
    theirs = specs.single_agent(BOX, spaces.Discrete(3), max_episode_steps=200)
    steps, action = ours.differences(theirs)
    assert steps == "max_episode_steps is 200, the run has 500"
    assert action.startswith("group '': action is Discrete(n=3")
    assert "the run has Discrete(n=2" in action


def test_a_single_agent_has_no_agent_axis_and_several_have():
    one = specs.single_agent(BOX, spaces.Discrete(2))
    assert one.axis(one.agent) == ()
    team = specs.EnvironmentSpec(
        (specs.AgentGroup("walker", ("w0", "w1"), BOX, BOX),), multi_agent=True
    )
    assert team.axis(team.groups[0]) == (2,)
    with pytest.raises(ValueError, match="no single agent"):
        _ = team.agent


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (environment_pb2.EnvironmentSpec(), "groups"),
        (multi(("a", [])), "groups[0].agents"),
        (multi(("a", ["x"]), ("a", ["y"])), "groups"),
        (multi(("a", ["x"]), ("b", ["x"])), "groups"),
        (multi(("a", [str(i) for i in range(1025)])), "groups"),
        (single(max_episode_steps=0), "max_episode_steps"),
        (single(global_state=space_pb2.Space()), "global_state.kind"),
        (
            single(groups=[environment_pb2.AgentGroup(agents=[""], observation=TWO)]),
            "groups[0].action.kind",
        ),
        (
            single(groups=[environment_pb2.AgentGroup(agents=[""], action=TWO)]),
            "groups[0].observation.kind",
        ),
        (
            single(
                groups=[environment_pb2.AgentGroup(agents=["a", "b"], observation=TWO, action=TWO)]
            ),
            "multi_agent",
        ),
        (
            single(
                groups=[
                    environment_pb2.AgentGroup(
                        name="walker", agents=[""], observation=TWO, action=TWO
                    )
                ]
            ),
            "groups[0]",
        ),
        (
            single(
                groups=[
                    environment_pb2.AgentGroup(
                        agents=[""],
                        observation=TWO,
                        action=spaces.to_proto(BOX),
                        action_mask=True,
                    )
                ]
            ),
            "groups[0].action_mask",
        ),
    ],
)
def test_a_malformed_spec_is_named(message, field):
    assert refused_field(message) == field


@hypothesis.given(st.dictionaries(names, values, max_size=4))
def test_arguments_come_back_with_their_types(arguments):
    sent = environment_pb2.EnvironmentReference(
        id="CartPole-v1", arguments=specs.arguments_to_proto(arguments)
    )
    reference = environment_pb2.EnvironmentReference.FromString(sent.SerializeToString())
    received = specs.arguments_from_proto(reference)
    assert received.keys() == arguments.keys()
    assert all(same(arguments[name], received[name]) for name in arguments)


def test_a_tuple_arrives_as_a_list():
    message = environment_pb2.EnvironmentReference(
        arguments=specs.arguments_to_proto({"size": (1, 2)})  # type: ignore[dict-item]
    )
    assert specs.arguments_from_proto(message) == {"size": [1, 2]}


def deep(depth: int) -> specs.ArgumentValue:
    value: specs.ArgumentValue = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (None, "arguments[x]"),
        ({"a": 1}, "arguments[x]"),
        (2**63, "arguments[x]"),
        ([1, [object()]], "arguments[x][1][0]"),
        (deep(specs.MAX_DEPTH + 1), "arguments[x]" + "[0]" * specs.MAX_DEPTH),
    ],
)
def test_an_argument_that_cannot_travel_is_named(value, field):
    with pytest.raises(InvalidFieldError) as caught:
        specs.arguments_to_proto({"x": value})
    assert caught.value.field == field


def test_an_argument_without_a_value_or_nested_too_deeply_is_named():
    message = environment_pb2.EnvironmentReference()
    message.arguments["x"].list_value.values.add()
    with pytest.raises(InvalidFieldError) as caught:
        specs.arguments_from_proto(message)
    assert caught.value.field == "arguments[x][0]"

    inner = message.arguments["y"]
    for _ in range(specs.MAX_DEPTH + 1):
        inner = inner.list_value.values.add()
    del message.arguments["x"]
    with pytest.raises(InvalidFieldError) as caught:
        specs.arguments_from_proto(message)
    assert caught.value.field == "arguments[y]" + "[0]" * specs.MAX_DEPTH
