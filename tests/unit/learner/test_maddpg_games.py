"""Games of one step that MADDPG solves from uniformly random play."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from joint_support import joint_transitions, maddpg, several
from learner_support import box, image

from common import spaces, specs
from common.signature import ColumnKey, Role

SEEN = ColumnKey(Role.OBSERVATION, "agent")
DONE = ColumnKey(Role.ACTION, "agent")


def two(action, observation=None):
    """Two agents that see two numbers each, if not something else."""
    agents = ("agent_0", "agent_1")
    return several(specs.AgentGroup("agent", agents, observation or box(2), action))


def as_it_is(seen):
    """What agents see."""
    return seen


def as_pictures(seen):
    """[..., 6, 6, 1] of one-hot [..., 2]: a half of a picture is bright, the left or the right."""
    bright = np.repeat(seen[..., None, :, None], 6, -3).repeat(3, -2)
    return (20 + 200 * bright).astype(np.uint8)


def play(algorithm, rewards_of, *, updates, rows=256, shown=as_it_is):
    """Trains on games of random players, each over after a step.

    `rewards_of` takes what there is to see, one-hot [rows, 2, 2], and actions [rows, 2, ...].
    """
    for seed in range(updates):
        batch = joint_transitions(algorithm, rows=rows, seed=seed)
        seen = np.eye(2, dtype=np.float32)[np.random.default_rng(seed).integers(0, 2, (rows, 2))]
        batch.columns[SEEN][:] = shown(seen)
        batch.returns[:] = rewards_of(seen, batch.columns[DONE])
        batch.discounts[:] = 0.0
        algorithm.update(batch, 0.0)


def best(algorithm, shown=as_it_is):
    """What both do, [4, 2, ...], where they see (0, 0), (0, 1), (1, 0) and (1, 1)."""
    seen = np.eye(2, dtype=np.float32)[np.array([[0, 0], [0, 1], [1, 0], [1, 1]])]
    policy = algorithm.behaviour
    with torch.no_grad():
        heads = policy.actor(policy.parts({SEEN: torch.from_numpy(shown(seen))}))
        (actions,) = policy._actions
        return actions.greedy(heads.transpose(0, 1), None).numpy()


SMALL = {"hidden_sizes": (32,), "actor_learning_rate": 1e-2, "critic_learning_rate": 1e-2}


@pytest.mark.parametrize(
    ("shown", "observation", "rate", "updates"),
    [(as_it_is, box(2), 1e-2, 250), (as_pictures, image(6, 6, 1), 3e-3, 500)],
)
def test_a_team_learns_to_coordinate_on_what_each_alone_sees(shown, observation, rate, updates):
    rates = {"actor_learning_rate": rate, "critic_learning_rate": rate}
    algorithm = maddpg(two(spaces.Discrete(3), observation), **SMALL | rates)
    payoff = np.array([[1.0, 0.0, 4.0], [5.0, 1.0, 0.0]])  # by what is seen, and done

    def rewards(seen, actions):
        worth = payoff[seen.argmax(2), actions]
        return worth.prod(1, keepdims=True).repeat(2, 1)

    play(algorithm, rewards, updates=updates, shown=shown)
    np.testing.assert_array_equal(best(algorithm, shown), [[2, 2], [2, 0], [0, 2], [0, 0]])


def test_a_team_finds_the_best_continuous_actions():
    algorithm = maddpg(two(box(1, low=0.0, high=1.0)), **SMALL)

    def rewards(_seen, actions):
        first, second = actions[:, 0], actions[:, 1]
        cost = (first - 0.8) ** 2 * (1 + second) + (second - 0.3) ** 2 * (1 + first)
        return (-4.0 * cost).repeat(2, 1)

    play(algorithm, rewards, updates=300)
    found = best(algorithm)[..., 0]
    np.testing.assert_allclose(found, np.tile([0.8, 0.3], (4, 1)), atol=0.1)


def test_each_side_is_trained_on_its_own_reward():
    # The prisoner's dilemma: to defect (1) pays for oneself whatever the other one does, to
    # cooperate (0) pays for both together.
    algorithm = maddpg(two(spaces.Discrete(2)), **SMALL)
    payoff = np.array([[3.0, 0.0], [5.0, 1.0]])

    def rewards(_seen, actions):
        one, other = actions[:, 0], actions[:, 1]
        return np.stack([payoff[one, other], payoff[other, one]], 1)

    play(algorithm, rewards, updates=150)
    assert (best(algorithm) == 1).all()

    together = maddpg(two(spaces.Discrete(2)), **SMALL)
    play(together, lambda s, a: rewards(s, a).sum(1, keepdims=True).repeat(2, 1), updates=150)
    assert (best(together) == 0).all()
