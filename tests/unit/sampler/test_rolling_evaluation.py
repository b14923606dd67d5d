"""Evaluations: one greedy episode for each seed, beside everything else."""

from __future__ import annotations

import gymnasium
import numpy as np
import pool_models
import pytest
from pool_rolls import config, evaluate, ready, roll

from sampler import evaluation
from sampler import policy as policies
from sampler.inline_pool import InlinePool
from sampler.pool import PoolError


def greedy_return(model, seed):
    """What a bare loop over Gymnasium gets, with the whole model."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=seed)
    total, noise = 0.0, np.full((1, 2), 0.5, np.float32)
    while True:
        fed = {"observation": observation[None], "noise": noise}
        (action,) = session.run(["greedy"], fed)
        observation, reward, terminated, truncated, _ = environment.step(int(action[0]))
        total += reward
        if terminated or truncated:
            return total


def test_episodes_are_those_of_a_bare_loop_in_the_order_of_the_seeds():
    pool = InlinePool(config("CartPole-v1", envs_per_worker=2))
    ready(pool, pool_models.mlp)
    _, model = pool_models.mlp(pool.spec)
    seeds = [11, 3, 2**40, 0, 7]
    episodes = evaluate(pool, seeds)
    assert [one.seed for one in episodes] == seeds
    expected = [greedy_return(model, seed) for seed in seeds]
    assert [one.episode.episode_return for one in episodes] == expected
    assert [one.episode.length for one in episodes] == expected
    assert all(one.episode.terminated for one in episodes)
    assert all(one.episode.slot == one.episode.end_row == 0 for one in episodes)


def test_an_evaluation_leaves_training_as_it_is():
    pools = [InlinePool(config("Seeded", envs_per_worker=2)) for _ in range(2)]
    for pool in pools:
        ready(pool, pool_models.uniform_choice)
        roll(pool, 5)
    evaluate(pools[0], [1, 2, 3])
    one, other = (roll(pool, 5) for pool in pools)
    for name, array in one.columns.items():
        np.testing.assert_array_equal(array, other[name])


def test_noise_of_an_episode_follows_from_its_seed_alone():
    """Here the greedy action is drawn, for want of another; company does not change it."""
    alone = InlinePool(config("Seeded", envs_per_worker=1))
    company = InlinePool(config("Seeded", envs_per_worker=3))
    for pool in (alone, company):
        ready(pool, pool_models.uniform_choice)
    one = {e.seed: e.episode.episode_return for e in evaluate(alone, [5])}
    many = {e.seed: e.episode.episode_return for e in evaluate(company, [1, 2, 3, 4, 5, 6])}
    assert one[5] == many[5]


def test_recurrent_episodes_begin_with_the_initial_state():
    pool = InlinePool(config("Counting", envs_per_worker=1))
    ready(pool, pool_models.recurrent_counter)
    pool.set_scalars([pool_models.learner_pb2.Scalar(key="epsilon", values=[0.5])])
    first, second = evaluate(pool, [1, 2])
    # A copy is used again: its next episode is another one of the environment's, reset with a seed.
    assert first.episode.length == second.episode.length == 3
    assert first.episode.episode_return == pytest.approx(3.3)
    assert dict(first.episode.metrics) == {"is_success": 1.0, "steps": 3.0}


def test_another_version_can_be_evaluated_beside_the_one_that_collects():
    pool = InlinePool(config("CartPole-v1", envs_per_worker=4))
    ready(pool, pool_models.mlp, version=9)
    _, older = pool_models.mlp(pool.spec, seed=1)
    pool.set_evaluation_policy(4, older)
    played = evaluate(pool, range(6), version=4)
    assert [one.episode.episode_return for one in played] == [
        greedy_return(older, seed) for seed in range(6)
    ]
    assert roll(pool, 2).batch.version == 9
    with pytest.raises(ValueError, match="version 5"):
        evaluate(pool, [1], version=5)


def test_an_environment_without_a_limit_is_cut(monkeypatch):
    monkeypatch.setattr(evaluation, "STEP_LIMIT", 20)
    pool = InlinePool(config("Boxed"))
    ready(pool, lambda spec: pool_models.constant(spec, [[0, 0]], pool_models.FLOAT))
    (played,) = evaluate(pool, [1])
    assert (played.episode.length, played.episode.terminated) == (20, False)
    assert played.episode.episode_return == 5.0


def test_an_evaluation_environment_must_have_the_training_environments_spaces():
    pool = InlinePool(config("Counting", evaluation_environment=config("Masked").environment))
    ready(pool, pool_models.uniform_choice)
    with pytest.raises(
        PoolError, match=r"to evaluate in, is not as the training environment: .*observation is"
    ):
        evaluate(pool, [1])


def test_greedy_graphs_are_not_fed_noise():
    pool = InlinePool(config("CartPole-v1"))
    ready(pool, pool_models.mlp)
    greedy = policies.Policy(1, pool._orders.greedy_model(1))
    assert greedy.inputs == {"observation"}
