"""VDN, QMIX and IQL on games whose values are known.

Every joint action is in the batch once, which is what exploring with epsilon 1 gives on the mean:
so the values that are learned are those of the papers, and no luck is in it but the first weights.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from common.signature import ColumnKey, Role
from learner.algorithms import qmix
from learner.experience.episodes import Episodes
from sampler.environments import matrix_games, multi_agent

if TYPE_CHECKING:
    from common import specs

CPU = torch.device("cpu")
GROUP = "agent"


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def every_episode(game: type[matrix_games.MatrixGame], actions: int) -> Episodes:
    """All there are, side by side."""
    length = game.max_cycles
    joint = list(itertools.product(range(actions), repeat=2))
    played = [_play(game(), plan) for plan in itertools.product(joint, repeat=length)]
    columns = {key: np.stack([episode[key] for episode in played], 1) for key in played[0]}
    return Episodes(columns, np.ones((length, len(played)), np.bool_))


def _play(game: matrix_games.TwoStep, plan: Any) -> dict[ColumnKey, Any]:
    seen, _ = game.reset()
    observed, states, rewards, ends = [seen], [game.state()], [], []
    for acts in plan:
        seen, reward, terminated, _, _ = game.step(
            dict(zip(game.possible_agents, acts, strict=True))
        )
        observed.append(seen)
        states.append(game.state())
        rewards.append(list(reward.values()))
        ends.append(list(terminated.values()))
    alive = [True] * len(plan) + [False]
    return {
        ColumnKey(Role.OBSERVATION, GROUP): np.array([list(one.values()) for one in observed]),
        ColumnKey(Role.GLOBAL_STATE): np.array(states),
        ColumnKey(Role.ACTION, GROUP): np.array(plan),
        ColumnKey(Role.REWARD, GROUP): np.array(rewards, np.float32),
        ColumnKey(Role.TERMINATED, GROUP): np.array(ends),
        ColumnKey(Role.ALIVE, GROUP): np.array([[one, one] for one in alive]),
    }


def trained(name: str, game: type[matrix_games.MatrixGame], updates: int, **settings: Any) -> Any:
    algorithm = {"iql": qmix.IQL, "vdn": qmix.VDN, "qmix": qmix.QMIX}[name]
    given = {
        "learning_rate": 1e-2,
        "learning_rate_schedule": "linear",
        "target_update_interval": 20,
        "recurrent": False,
        **settings,
    }
    made = algorithm(specification(game), algorithm.Config(**given), device=CPU, seed=0)
    batch = every_episode(game, matrix_game_actions(game))
    for i in range(updates):
        made.update(batch, i / updates)
    return made


def specification(game: type[matrix_games.MatrixGame]) -> specs.EnvironmentSpec:
    return multi_agent.specification(game())


def matrix_game_actions(game: type[matrix_games.MatrixGame]) -> int:
    return int(game().action_space("agent_0").n)


@torch.no_grad()
def team_values(algorithm: Any, where: int) -> np.ndarray:
    """Q_tot of every joint action in a state, [A, A]."""
    state = torch.eye(4)[where][None]
    values, _ = algorithm.behaviour.values([state[:, None].expand(1, 2, 4)], None, None)
    first, second = values[0]
    joint = torch.cartesian_prod(first, second)[None]
    states = state[None].expand(1, len(joint[0]), 4)
    if algorithm._normaliser is not None:
        states = algorithm._normaliser(states)
    return algorithm._networks.team(joint, states).reshape(len(first), -1).numpy()


@torch.no_grad()
def greedy_return(algorithm: Any, game: type[matrix_games.MatrixGame]) -> float:
    environment, total = game(), 0.0
    seen, _ = environment.reset()
    while environment.agents:
        observed = torch.tensor(np.array(list(seen.values())))[None]
        values, _ = algorithm.behaviour.values([observed], None, None)
        acts = values[0].argmax(1).tolist()
        actions = dict(zip(environment.possible_agents, acts, strict=True))
        seen, reward, *_ = environment.step(actions)
        total += reward["agent_0"]
    return total


def test_vdn_learns_the_two_step_games_sums_and_takes_7():
    vdn = trained("vdn", matrix_games.TwoStep, 400)
    np.testing.assert_allclose(team_values(vdn, 2), [[-1.5, 2.5], [2.5, 6.5]], atol=0.1)
    np.testing.assert_allclose(team_values(vdn, 1), np.full((2, 2), 7.0), atol=0.1)
    assert greedy_return(vdn, matrix_games.TwoStep) == 7.0


@pytest.mark.parametrize("settings", [{}, {"loss": "huber", "double": False}])
def test_qmix_learns_the_two_step_games_values_and_takes_8(settings):
    found = trained("qmix", matrix_games.TwoStep, 400, **settings)
    np.testing.assert_allclose(team_values(found, 2), matrix_games.TWO_STEP, atol=0.1)
    expected = np.array([[6.93, 6.93], [7.92, 7.92]])
    np.testing.assert_allclose(team_values(found, 0), expected, atol=0.1)
    assert greedy_return(found, matrix_games.TwoStep) == 8.0


@pytest.mark.parametrize("name", ["vdn", "qmix"])
def test_a_monotonic_team_value_must_fail_where_the_best_is_not_monotonic(name):
    found = trained(name, matrix_games.NonMonotonic, 300)
    assert greedy_return(found, matrix_games.NonMonotonic) == 0.0
    assert np.abs(team_values(found, 0) - matrix_games.NON_MONOTONIC).max() > 3.0


def test_independent_values_are_means_over_what_the_other_does():
    iql = trained("iql", matrix_games.TwoStep, 400)
    state = torch.eye(4)[2][None, None].expand(1, 2, 4)
    with torch.no_grad():
        values, _ = iql.behaviour.values([state], None, None)
    np.testing.assert_allclose(values[0].numpy(), [[0.5, 4.5], [0.5, 4.5]], atol=0.1)


def test_networks_with_a_memory_learn_the_game_too():
    found = trained("qmix", matrix_games.TwoStep, 400, recurrent=True, memory_size=32)
    batch = found._minibatches.of(every_episode(matrix_games.TwoStep, 2), CPU)
    with torch.no_grad():
        own = found._networks.values
        values = own.episodes(own.observations(batch.leaves), 3)
        team = found._networks.team(
            values[:-1].gather(3, batch.actions.unsqueeze(3)).squeeze(3), batch.states[:-1]
        )
    second = every_episode(matrix_games.TwoStep, 2).columns[ColumnKey(Role.REWARD, GROUP)][1, :, :1]
    np.testing.assert_allclose(team[1].numpy(), second, atol=0.1)
