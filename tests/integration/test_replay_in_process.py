"""Replay over the in-process pump: real samplers that are held and go on, without threads."""

import pytest
import torch

from learner.algorithms.dqn import DQN, DQNConfig
from learner.experience.replay import ReplaySettings, ReplayStore
from learner.front.coordinator import Coordinator
from learner.front.settings import FrontSettings, RunIdentity
from learner.publishing.publisher import Publisher
from learner.rate_limiter import LimiterSettings, RateLimiter
from protos.wiserl.v1 import environment_pb2
from sampler.pool import PoolConfig
from wiserl.in_process import InProcessFront

ROWS, BUDGET = 8, 500


def collected(graph_cache, *, window, seed=1):
    """Spends a budget, with gradient steps that are only counted; the rows, and how it went."""
    environment = environment_pb2.EnvironmentReference(id="CartPole-v1")
    coordinator = Coordinator(
        RunIdentity("run-1", "dqn", environment, environment),
        FrontSettings(BUDGET, seed=seed, expect_samplers=2),
    )
    pool = PoolConfig(environment, environment, workers=2, envs_per_worker=1)
    front = InProcessFront(coordinator, pool, samplers=2)
    algorithm = DQN(
        front.wait(lambda c: c.spec), DQNConfig(), device=torch.device("cpu"), seed=seed
    )
    store = ReplayStore(
        algorithm.signature.columns,
        ReplaySettings(capacity=4096, block_rows=ROWS, gamma=0.99),
        seed=seed,
    )
    limiter = RateLimiter(LimiterSettings(0.5, 100, window), can_sample=lambda: store.size > 0)
    with front.locked():
        coordinator.open_run(algorithm.signature, fragment_rows=ROWS)
        publisher = Publisher(algorithm.behaviour, cache=graph_cache)
        coordinator.publish(publisher.publish(1), algorithm.scalars(0))
        coordinator.open_replay(front.now(), store, limiter, fragments_in_flight=6)
    turns = 0
    while steps := front.wait(lambda c: c.updates_due() or (0 if c.budget_met else None)):
        coordinator.updated(steps)
        turns += 1
    front.close()
    return store, limiter, coordinator, turns


@pytest.mark.parametrize("window", [1, 40])
def test_samplers_and_updates_take_turns_until_the_budget_is_met(graph_cache, window):
    store, limiter, coordinator, turns = collected(graph_cache, window=window)
    assert store.inserted == coordinator.environment_steps == BUDGET
    assert limiter.updates == (BUDGET - 100) // 2
    assert turns > 3
    assert coordinator.take_ended()
    # Both samplers, and all four slots, had their turns.
    assert {(key.sampler, key.slot) for key in store.dump().keys} == {
        (sampler, slot) for sampler in range(2) for slot in range(2)
    }


def test_the_same_seed_gives_the_same_rows_in_the_same_order(graph_cache):
    first, second, other = (
        collected(graph_cache, window=10, seed=seed)[0].dump() for seed in (1, 1, 2)
    )
    assert first.keys == second.keys
    assert all((first.columns[key] == second.columns[key]).all() for key in first.columns)
    assert any((first.columns[key] != other.columns[key]).any() for key in first.columns)
