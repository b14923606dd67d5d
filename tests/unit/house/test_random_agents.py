"""Agents that draw their actions in place of a policy."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from gymnasium import spaces
from team_environments import Expedition

from common.errors import InvalidFieldError
from learner.metrics import Evaluation
from sampler.environments.multi_agent import specification
from wiserl import random_agents, sides
from wiserl.random_agents import RandomAgents, named

TOLD = {"walker_0": 0, "walker_1": 0, "scout": np.zeros(2, np.float32)}


def test_agents_are_named_by_themselves_or_by_their_team():
    spec = specification(Expedition())
    assert spec.agents == ("walker_0", "walker_1", "scout")
    assert named(spec, ["walker"]) == ("walker_0", "walker_1")
    assert named(spec, ["scout", "walker_1"]) == ("walker_1", "scout")
    assert named(spec, []) == ()
    with pytest.raises(InvalidFieldError, match=r"'guide' is no agent \(walker_0, .*\(walker, sco"):
        named(spec, ["guide"])


def played(seed, agents=("walker_0", "scout")):
    """What the environment was told in an episode."""
    environment = Expedition()
    drawing = RandomAgents(environment, agents)
    observations, _ = drawing.reset(seed=seed)
    assert observations.keys() == set(environment.possible_agents)
    while drawing.agents:
        step = environment.steps
        told = {agent: TOLD[agent] for agent in drawing.agents}
        if "walker_1" in told:
            told["walker_1"] = step % 3
        drawing.step(told)
    return environment.received


def test_they_draw_what_their_masks_leave_and_the_others_act_as_told():
    for row, actions in enumerate(played(3)):
        # Their masks leave walkers one action a row: the environment refuses the scout's others.
        assert actions["walker_0"] == row % 3
        if "walker_1" in actions:
            assert actions["walker_1"] == row % 3
        assert actions["scout"].any()


def test_the_seed_says_what_they_draw_each_for_itself():
    first, again, other = (played(seed)[0]["scout"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()

    class Twins(Expedition):
        def action_space(self, agent):
            return SHARED

    drawing = RandomAgents(Twins(masked=False), ("walker_0", "walker_1"))
    drawing.reset(seed=0)
    one, two = (
        [random_agents._drawn(drawing._spaces[agent], None) for _ in range(20)]
        for agent in ("walker_0", "walker_1")
    )
    assert one != two


SHARED = spaces.Discrete(3)


@pytest.mark.parametrize(
    ("space", "mask", "expected"),
    [
        (spaces.Discrete(3, start=5), np.array([1, 0, 1], np.int8), {5, 7}),
        (spaces.Discrete(2), [0, 0], {0, 1}),
        (
            spaces.MultiDiscrete([2, 3], start=[1, 0]),
            (np.array([0, 1]), np.array([1, 0, 1])),
            {(2, 0), (2, 2)},
        ),
    ],
)
def test_masked_draws_are_uniform_over_what_is_left(space, mask, expected):
    space.seed(0)
    drawn = [random_agents._drawn(space, mask) for _ in range(400)]
    assert all(space.contains(one) for one in drawn)
    counts = collections.Counter(one if isinstance(one, int) else tuple(one) for one in drawn)
    assert set(counts) == expected
    # 400 fair draws: 5 deviations.
    assert abs(min(counts.values()) - 200) < 50


def test_a_table_tells_sides_from_chance():
    def evaluation(*returns):
        of_agents = dict(zip(("hunter_0", "hunter_1", "prey_0"), returns, strict=True))
        mean = tuple(np.mean(returns, axis=0))
        return Evaluation(1, 1, True, (1, 2), mean, (5, 5), of_agents)

    assert list(sides.described(evaluation((1.0, 3.0), (2.0, 2.0), (-1.0, -1.0)))) == [
        "  hunter_0       2.00 +- 1.00",
        "  hunter_1       2.00 +- 0.00",
        "  prey_0        -1.00 +- 0.00",
        "  hunter         2.00 +- 0.50",
    ]
    chance = evaluation((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))
    policy = evaluation((1.0, 3.0), (1.0, 3.0), (-2.0, -2.0))
    lines = list(sides.beside_chance(policy, chance, ["prey"]))
    assert lines[1].split() == ["hunter_0", "2.00", "0.00", "+2.00", "[+0.04,", "+3.96]"]
    assert lines[3].split() == ["prey_0", "(random)", "-2.00", "0.00", "-2.00", "[-2.00,", "-2.00]"]
    assert lines[4].split()[:2] == ["hunter", "2.00"]
    alone = Evaluation(1, 1, True, (1,), (2.0,), (5,))
    assert list(sides.described(alone)) == []
    assert list(sides.described(evaluation(*[(1.0, 2.0)] * 3))) == []
