"""Every algorithm learns what a time limit and a terminal state make of the same rewards.

The task is a walk round two states that pays 1 a step, whatever is done. Under gamma 0.9 it is
worth 10 everywhere where it is only cut off every other step, and 1.9 and 1 where it is over then.
The data differ in one flag. An algorithm that takes the one for the other, or both for the same, is
wrong by the factor 5.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learner_support import (
    ACTION,
    CPU,
    IS_FIRST,
    LOG_PROB,
    OBSERVATION,
    REWARD,
    TERMINATED,
    TRUNCATED,
    VALID,
    box,
    round_of,
)

from common import spaces, specs
from common.errors import UnsupportedSpaceError
from learner.algorithms import registry
from learner.algorithms.base import OnPolicyAlgorithm
from learner.algorithms.dqn import DQN
from learner.algorithms.off_policy import OffPolicyAlgorithm
from learner.algorithms.on_policy import PolicyGradientAlgorithm
from learner.algorithms.qmix import IQL
from learner.algorithms.replay_actor_critic import ReplayActorCritic
from learner.algorithms.rollout import rollout_of
from learner.experience.transitions import Transitions
from learner.experience.windows import windows

pytestmark = [pytest.mark.learning, pytest.mark.timeout(300)]

GAMMA = 0.9
ACTIONS = {"discrete": spaces.Discrete(2), "continuous": box(1, low=-1.0, high=1.0)}
WORTH = {TRUNCATED: (10.0, 10.0), TERMINATED: (1.9, 1.0)}
"""Of the two states, by what ends an episode after the second one."""

ON_POLICY = {
    "learning_rate": 1e-2,
    "learning_rate_schedule": "constant",
    "hidden_sizes": (16,),
}
# What is to be found is a number, quickly: large steps, small networks, targets that hurry.
SETTINGS = {
    "ppo": ON_POLICY | {"n_minibatches": 1},
    "appo": ON_POLICY | {"n_minibatches": 1},
    "dqn": {"learning_rate": 1e-2, "target_update_interval": 5, "hidden_sizes": (16,)},
    "ddpg": {"critic_learning_rate": 1e-2, "target_tau": 0.2, "hidden_sizes": (16,)},
    "td3": {"critic_learning_rate": 1e-2, "target_tau": 0.2, "hidden_sizes": (16,)},
    # Without a bonus for entropy, which would be worth something in itself.
    "sac": {
        "critic_learning_rate": 1e-2,
        "target_tau": 0.2,
        "hidden_sizes": (16,),
        "entropy_coefficient": 0.0,
    },
    # Of several agents: test_maddpg.py and test_mappo.py compute the same by hand.
    "ippo": {},
    "maddpg": {},
    "mappo": {},
    "trpo": {"critic_learning_rate": 1e-2, "hidden_sizes": (16,), "n_minibatches": 1},
}
RECURRENT = {"recurrent_units": 8}


def algorithm_of(name: str, kind: str, **settings):
    """The algorithm of a name over the task's two states."""
    found = registry.resolve(name)
    given = {"gamma": GAMMA, **SETTINGS.get(name, ON_POLICY), **settings}
    if issubclass(found, OnPolicyAlgorithm):
        given |= {"n_envs": 4, "n_steps": 12}
        given |= {"normalise_observations": False, "scale_rewards": False}
    spec = specs.single_agent(box(2, low=0.0, high=1.0), ACTIONS[kind])
    return found(spec, found.Config(**given), device=CPU, seed=0)


def cases():
    """Every algorithm for one agent with every kind of action that it takes."""
    for name in sorted(registry.BUILT_IN):
        if issubclass(registry.resolve(name), IQL):  # of several agents: test_qmix.py
            continue
        for kind in ACTIONS:
            try:
                algorithm_of(name, kind)
            except UnsupportedSpaceError:
                continue
            yield pytest.param(name, kind, {}, id=f"{name}-{kind}")
    for kind in ACTIONS:
        yield pytest.param("ppo", kind, RECURRENT, id=f"recurrent-ppo-{kind}")


def rows_of(rows: int, slots: int, ending):
    """Columns of walks that end every other step and are reset one row late."""
    step = np.arange(rows + 1) % 3
    at_second = step == 1
    observation = np.eye(2, dtype=np.float32)[at_second.astype(int)]
    flags = {
        ending: at_second[:-1],
        VALID: step[:-1] != 2,
        IS_FIRST: step[:-1] == 0,
    }
    columns = {key: np.repeat(flag[:, None], slots, 1) for key, flag in flags.items()}
    columns[OBSERVATION] = np.repeat(observation[:, None], slots, 1)
    columns[REWARD] = columns[VALID].astype(np.float32)
    return columns


def taught_by_rounds(algorithm, ending, updates: int):
    """What an actor-critic thinks of the two states after so many rounds."""
    for seed in range(updates):
        batch = round_of(algorithm, seed=seed)
        batch.columns.update(rows_of(algorithm.n_steps, algorithm.n_envs, ending))
        batch.columns[LOG_PROB][:] = -0.7
        algorithm.update(batch, 0.0)
    data = rollout_of(batch, algorithm.signature, algorithm.behaviour.distribution, device=CPU)
    values = algorithm._values(data, algorithm.behaviour.preprocess(data.leaves))
    return values.view(algorithm.n_steps + 1, -1)[:2].T


def taught_by_replay(algorithm, ending, updates: int):
    """What critics think of the two states, and any actions in them."""
    generator = np.random.default_rng(0)
    rows = rows_of(96, 1, ending)
    over, cut = (rows.get(key, np.zeros((96, 1), np.bool_)).T for key in (TERMINATED, TRUNCATED))
    found = windows(rows[REWARD].T, over, cut, rows[VALID].T, gamma=GAMMA, n_step=1)
    observed = rows[OBSERVATION][:, 0]
    count = len(found.begin)
    for _ in range(updates):
        batch = Transitions(
            rows=found.begin,
            writes=np.zeros(count, np.int64),
            columns={
                OBSERVATION: observed[found.begin],
                ACTION: actions(algorithm, generator, count),
            },
            next_columns={OBSERVATION: observed[found.begin + found.lengths]},
            returns=found.returns,
            discounts=found.discounts,
            weights=np.ones(count, np.float32),
        )
        algorithm.update(batch, 0.0)
    states = torch.eye(2)
    with torch.no_grad():
        if isinstance(algorithm, DQN):
            return algorithm._values([states]).T
        if algorithm.spec.agent.action == ACTIONS["discrete"]:
            return algorithm._critics([states]).T
        taken = actions(algorithm, generator, 2 * 50)
        return algorithm._critics([states.repeat(50, 1), torch.from_numpy(taken)]).view(50, -1)


def actions(algorithm, generator, count: int):
    """Any."""
    space = algorithm.spec.agent.action
    if isinstance(space, spaces.Discrete):
        return generator.integers(0, space.n, count)
    return generator.uniform(-1.0, 1.0, (count, 1)).astype(np.float32)


@pytest.mark.parametrize("ending", WORTH, ids=["truncated", "terminated"])
@pytest.mark.parametrize(("name", "kind", "settings"), list(cases()))
def test_what_is_cut_off_is_worth_more_than_what_is_over(name, kind, settings, ending):
    torch.set_num_threads(1)
    algorithm = algorithm_of(name, kind, **settings)
    match algorithm:
        case PolicyGradientAlgorithm():
            found = taught_by_rounds(algorithm, ending, 100)
        case DQN() | ReplayActorCritic():
            found = taught_by_replay(algorithm, ending, 500)
        case _:
            pytest.fail(f"say here how {name} is taught and asked")
    expected = torch.tensor(WORTH[ending])
    if isinstance(algorithm, OffPolicyAlgorithm) and kind == "continuous":
        expected = expected.repeat_interleave(found.shape[1] // 2)
    torch.testing.assert_close(found, expected.expand_as(found), rtol=0.1, atol=0.0)
