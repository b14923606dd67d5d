"""mpe2's simple_spread, all copies at once: the numbers of mpe2's own, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpe2._mpe_utils import core
from mpe2.simple_spread import simple_spread

from common import specs
from protos.wiserl.v1 import environment_pb2
from sampler.environments import building, registry, spread
from sampler.environments.multi_agent import MultiAgentEnvironments
from sampler.environments.stepping import Live, Observed, Tape

COPIES, ROWS = 3, 40


def recipe(**arguments: Any) -> registry.Recipe:
    """Of simple_spread."""
    return registry.resolve(
        environment_pb2.EnvironmentReference(
            id=spread.ENVIRONMENT, arguments=specs.arguments_to_proto(arguments)
        )
    )


def room(environments: Any, copies: int) -> Live:
    """Where copies write what is to be seen."""
    (group,) = environments.spec.groups
    agents = len(group.agents)
    seen = np.zeros((copies, agents, *group.observation.shape), np.float32)
    state = np.zeros((copies, *environments.spec.global_state.shape), np.float32)
    alive = np.zeros((copies, agents), np.bool_)
    return Live({group.name: Observed({"": seen})}, alive, {"": state})


def rolled(environments: Any, positions: list[int]) -> list[np.ndarray]:
    """All that copies say in some segments of random actions, in which agents often collide."""
    counters = memoryview(np.zeros(2, np.int64))
    first = room(environments, environments.copies)
    environments.reset([7, 8, 9][: environments.copies], first, counters)
    found = [array.copy() for array in first.arrays()]
    live = room(environments, len(positions))
    live.alive[:] = True
    (name,) = live.groups
    agents = live.alive.shape[1]
    pending = np.zeros(len(positions), np.bool_)
    random = np.random.default_rng(3)
    for _ in range(2):
        actions = {name: np.zeros((len(positions), agents), np.int64)}
        shape = (ROWS, len(positions))
        flags = [np.zeros((*shape, agents), np.bool_) for _ in range(2)]
        tape = Tape(
            live=live,
            actions=actions,
            rewards=np.zeros((*shape, agents)),
            terminated=flags[0],
            truncated=flags[1],
            ended=np.zeros(shape, np.bool_),
            starting=np.zeros(len(positions), np.bool_),
            pending=pending,
            resets_fed=True,
            endings=[],
            lives_lost=[],
            finals=None,
            counters=counters,
        )
        step = environments.stepper(tape, positions)
        for row in range(ROWS):
            actions[name][:] = random.integers(0, 5, actions[name].shape)
            step(row)
            found += [array.copy() for array in (*live.arrays(), tape.starting)]
        found += [tape.rewards, *flags, tape.ended, np.array([end[:2] for end in tape.endings])]
        # One of them is reset though its episode goes on, so that they no longer end together.
        pending = tape.ended[-1].copy()
        pending[0] = True
    return [*found, np.array(counters.tolist())]


@pytest.mark.parametrize("positions", [[0, 1, 2], [2, 0]], ids=["all", "some"])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"N": 5, "max_cycles": 7, "local_ratio": 0.3}, {"N": 1}],
    ids=["by_default", "five", "alone"],
)
def test_everything_is_that_of_separate_copies_bit_for_bit(arguments, positions):
    known = recipe(**arguments)
    one, other = (building.build(known, COPIES, each) for each in ("auto", "plain"))
    assert isinstance(one, spread.SpreadEnvironments)
    assert isinstance(other, MultiAgentEnvironments)
    assert one.spec == other.spec
    for got, expected in zip(rolled(one, positions), rolled(other, positions), strict=True):
        np.testing.assert_array_equal(got, expected, strict=True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"continuous_actions": True},
        {"curriculum": True},
        {"terminate_on_success": True},
        {"num_agent_neighbors": 1},
        {"benchmark_data": True},
        {"render_mode": "rgb_array"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_other_rules_are_played_one_by_one(arguments):
    assert isinstance(building.build(recipe(**arguments), 1, "auto"), MultiAgentEnvironments)


def test_an_environment_that_is_wrapped_or_another_one_is_none_of_these():
    wrapped = registry.dataclasses.replace(recipe(), wrappers=(("same", lambda made: made),))
    assert spread.vectorised(wrapped, 2) is None
    other = environment_pb2.EnvironmentReference(id="mpe2/simple_tag_v3")
    assert spread.vectorised(registry.resolve(other), 2) is None


@pytest.mark.parametrize(
    ("owner", "name", "changed"),
    [
        (core.World, "get_collision_force", lambda *_: [None, None]),
        (simple_spread.Scenario, "is_collision", lambda *_: False),
        (simple_spread.Scenario, "global_reward", lambda *_: 0.0),
    ],
    ids=["forces", "collisions", "rewards"],
)
def test_a_release_with_other_numbers_is_stepped_one_by_one(
    monkeypatch, capsys, owner, name, changed
):
    monkeypatch.setattr(owner, name, changed)
    assert isinstance(building.build(recipe(), 2, "auto"), MultiAgentEnvironments)
    assert "spread_is_stepped_one_by_one" in capsys.readouterr().err
