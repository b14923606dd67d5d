"""What holds for every algorithm that learns by policy gradients, in rounds or as they come."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from learner_support import (
    ACTION,
    LOG_PROB,
    RAW_ACTION,
    REWARD,
    SPECS,
    TERMINATED,
    TRUNCATED,
    VALID,
    appo,
    assert_same,
    box,
    constant_critic,
    continuous_spec,
    discrete_spec,
    impala,
    parameters,
    ppo,
    round_of,
    trpo,
    undocumented,
)

from common import spaces, specs
from common.errors import InvalidFieldError, UnsupportedSpaceError

ALL = pytest.mark.parametrize("make", [ppo, trpo, appo, impala])
IN_ROUNDS = pytest.mark.parametrize("make", [ppo, trpo])
EPOCHS = {ppo: "epochs", trpo: "critic_epochs"}


@ALL
@pytest.mark.parametrize("name", ["discrete", "continuous"])
def test_the_same_seed_and_rounds_give_the_same_bits(make, name):
    first, second = make(SPECS[name], seed=3), make(SPECS[name], seed=3)
    torch.manual_seed(99)
    assert_same(parameters(first), parameters(second))
    for seed in range(3):
        batch = round_of(first, seed=seed)
        assert first.update(batch, 0.1) == second.update(batch, 0.1)
    assert_same(parameters(first), parameters(second))


@ALL
@pytest.mark.parametrize("name", ["discrete", "continuous", "image"])
def test_a_restored_algorithm_goes_on_bit_for_bit(make, name):
    first = make(SPECS[name])
    first.update(round_of(first, seed=0), 0.0)
    restored = make(SPECS[name], seed=17)
    restored.load_tensors(parameters(first))
    restored.load_values(json.loads(json.dumps(first.values())))
    for seed in (1, 2):
        batch = round_of(first, seed=seed)
        assert first.update(batch, 0.2) == restored.update(batch, 0.2)
    assert_same(parameters(first), parameters(restored))


@ALL
@pytest.mark.parametrize("name", ["discrete", "continuous"])
def test_rows_that_are_no_steps_enter_nothing(make, name):
    clean, poisoned = make(SPECS[name]), make(SPECS[name])
    batch = round_of(clean)
    batch.columns[TRUNCATED][2, 1] = True
    batch.columns[VALID][3, 1] = False
    expected = clean.update(batch, 0.0)
    other = {key: array.copy() for key, array in batch.columns.items()}
    for key in (REWARD, LOG_PROB, RAW_ACTION):
        if key in other:
            other[key][3, 1] = np.nan
    other[ACTION][3, 1] = 99
    assert poisoned.update(dataclasses.replace(batch, columns=other), 0.0) == expected
    assert_same(parameters(clean), parameters(poisoned))


@ALL
def test_a_round_without_a_valid_row_changes_nothing(make):
    algorithm = make(continuous_spec())
    before = parameters(algorithm)
    batch = round_of(algorithm)
    batch.columns[VALID][:] = False
    assert algorithm.update(batch, 0.0) == {}
    assert_same(before, parameters(algorithm))


@IN_ROUNDS
@pytest.mark.parametrize(
    ("ending", "expected"), [(TRUNCATED, 0.0), (TERMINATED, 81.0 / 8.0)], ids=["cut", "over"]
)
def test_a_time_limit_bootstraps_and_a_terminal_state_does_not(make, ending, expected):
    # Rewards of 1 for ever under gamma 0.9 are worth 10, which the values say: only where the task
    # itself ends are they wrong, by gamma * 10 in the last row. One row of 8 is off by 9.
    once = {EPOCHS[make]: 1, "n_minibatches": 1}
    algorithm = make(discrete_spec(), gamma=0.9, gae_lambda=0.0, **once)
    constant_critic(algorithm, 10.0)
    batch = round_of(algorithm)
    batch.columns[REWARD][:] = 1.0
    batch.columns[ending][-1] = True
    metrics = algorithm.update(batch, 0.0)
    assert metrics["train/value_loss"] == pytest.approx(expected, abs=1e-4)


@IN_ROUNDS
def test_what_pays_becomes_more_likely(make):
    faster = {"learning_rate": 1e-2, "epochs": 4} if make is ppo else {"max_kl": 0.05}
    algorithm = make(discrete_spec(), n_steps=64, **faster)
    batch = round_of(algorithm)
    batch.columns[LOG_PROB][:] = np.log(0.5)
    batch.columns[REWARD][:] = batch.columns[ACTION]
    batch.columns[TERMINATED][:] = True
    algorithm.update(batch, 0.0)
    with torch.no_grad():
        head = algorithm.behaviour.head(torch.randn(100, 4))
    assert (torch.softmax(head, -1)[:, 1] > 0.55).float().mean() > 0.9


@IN_ROUNDS
def test_an_uneven_round_is_refused_before_anything_changes(make):
    algorithm = make(discrete_spec(), n_envs="auto", n_steps=5)
    assert algorithm.n_envs is None
    before = parameters(algorithm)
    batch = round_of(make(discrete_spec(), n_envs=3, n_steps=5, n_minibatches=1))
    with pytest.raises(InvalidFieldError, match="does not divide the 15 rows"):
        algorithm.update(batch, 0.0)
    assert_same(before, parameters(algorithm))


@ALL
def test_every_setting_is_documented(make):
    assert undocumented(make(discrete_spec()).Config) == []


@ALL
def test_what_it_cannot_learn_in_is_refused(make):
    group = specs.AgentGroup("g", ("a", "b"), box(2), spaces.Discrete(2))
    with pytest.raises(UnsupportedSpaceError, match=f"{make.__name__} trains a single agent"):
        make(specs.EnvironmentSpec((group,), multi_agent=True))
    with pytest.raises(UnsupportedSpaceError, match="Dict"):
        make(specs.single_agent(box(2), spaces.Dict({"a": spaces.Discrete(2)})))
