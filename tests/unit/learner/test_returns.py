"""GAE and discounted sums against hand-computed numbers and a naive sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_slot import column, flags

from learner.losses import returns, value


def advantages(rewards, values, *, terminated=None, truncated=None, valid=None, successors=None):
    """GAE of one slot with gamma 0.5 and lambda 0.5; `values` has an entry more than rewards."""
    shape = (len(rewards), 1)
    none = np.zeros(shape, np.bool_)
    found = returns.generalised_advantages(
        rewards=rewards,
        values=values[:-1],
        successors=values[1:] if successors is None else successors,
        terminated=none if terminated is None else terminated,
        truncated=none if truncated is None else truncated,
        valid=~none if valid is None else valid,
        gamma=0.5,
        gae_lambda=0.5,
    )
    return found[:, 0].tolist()


def test_an_unbroken_fragment_by_hand():
    # deltas: 1 + 0.5 * 4 - 2 = 1, 2 + 0.5 * 6 - 4 = 1, 3 + 0.5 * 8 - 6 = 1; decay 0.25
    assert advantages(column(1, 2, 3), column(2, 4, 6, 8)) == [1.3125, 1.25, 1.0]


def test_termination_has_no_value_behind_it_and_cuts():
    # deltas: 1, 2 + 0 - 4 = -2, 1
    found = advantages(column(1, 2, 3), column(2, 4, 6, 8), terminated=flags(0, 1, 0))
    assert found == [0.5, -2.0, 1.0]


def test_truncation_bootstraps_and_cuts():
    found = advantages(column(1, 2, 3), column(2, 4, 6, 8), truncated=flags(0, 1, 0))
    assert found == [1.25, 1.0, 1.0]


def test_where_both_are_set_terminated_wins():
    both = advantages(
        column(1, 2, 3), column(2, 4, 6, 8), terminated=flags(0, 1, 0), truncated=flags(0, 1, 0)
    )
    assert both == advantages(column(1, 2, 3), column(2, 4, 6, 8), terminated=flags(0, 1, 0))


def test_a_row_that_is_no_step_has_no_advantage_and_lets_none_through():
    # Row 1 ended by a time limit; row 2 holds its last observation (value 6) and is no step.
    found = advantages(
        column(1, 2, 99, 3),
        column(2, 4, 6, 7, 8),
        truncated=flags(0, 1, 0, 0),
        valid=flags(1, 1, 0, 1),
    )
    assert found == [1.25, 1.0, 0.0, 0.0]


def test_the_recursion_ends_where_the_budget_does():
    # Row 1 is the last within the budget: it bootstraps, though its episode went on.
    found = advantages(column(1, 2, 3), column(2, 4, 6, 8), valid=flags(1, 1, 0))
    assert found == [1.25, 1.0, 0.0]


def test_rewards_in_rows_that_are_no_steps_may_be_anything():
    found = advantages(column(1, np.nan, 3), column(2, 4, 6, 8), valid=flags(1, 0, 1))
    assert found == [1.0, 0.0, 1.0]


def test_a_final_observation_stands_for_the_next_row():
    values = np.array([[2, 2], [4, 4], [6, 6]], np.float32)
    found = returns.successor_values(
        values, np.array([0]), np.array([1]), np.array([10], np.float32)
    )
    assert found.tolist() == [[4, 10], [6, 6]]
    assert values[1, 1] == 4


@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 1.0])
def test_the_true_constant_value_leaves_no_advantage(gae_lambda):
    # Rewards of 1 for ever are worth 1 / (1 - gamma), a time limit or not.
    shape = (6, 3)
    worth = np.full(shape, 1 / (1 - 0.9), np.float32)
    truncated = np.zeros(shape, np.bool_)
    truncated[2, 1] = True
    found = returns.generalised_advantages(
        rewards=np.ones(shape, np.float32),
        values=worth,
        successors=worth,
        terminated=np.zeros(shape, np.bool_),
        truncated=truncated,
        valid=np.ones(shape, np.bool_),
        gamma=0.9,
        gae_lambda=gae_lambda,
    )
    np.testing.assert_allclose(found, 0.0, atol=1e-5)


def test_a_constant_value_that_ignores_the_end_is_wrong_by_what_it_bootstraps():
    # Terminated in the last of 3 rows, lambda 1: A_t = gamma^(3 - t) * (0 - V).
    found = returns.generalised_advantages(
        rewards=np.ones((3, 1), np.float32),
        values=np.full((3, 1), 10.0, np.float32),
        successors=np.full((3, 1), 10.0, np.float32),
        terminated=flags(0, 0, 1),
        truncated=flags(0, 0, 0),
        valid=flags(1, 1, 1),
        gamma=0.9,
        gae_lambda=1.0,
    )
    np.testing.assert_allclose(found[:, 0], [-7.29, -8.1, -9.0], rtol=1e-5)


def test_shapes_must_be_the_same():
    with pytest.raises(ValueError, match="shapes differ"):
        advantages(column(1, 2), column(1, 2, 3), terminated=flags(0, 0, 0))


@given(st.integers(0, 2**32 - 1))
def test_gae_is_the_sum_that_it_abbreviates(seed):
    generator = np.random.default_rng(seed)
    shape = (int(generator.integers(1, 9)), 2)
    terminated, truncated = generator.random((2, *shape)) < 0.2
    valid = generator.random(shape) < 0.8
    rewards, values, successors = generator.standard_normal((3, *shape)).astype(np.float32)
    gamma, gae_lambda = generator.random(2)
    found = returns.generalised_advantages(
        rewards=rewards,
        values=values,
        successors=successors,
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    for t in range(shape[0]):
        for slot in range(shape[1]):
            expected, weight = 0.0, 1.0
            for later in range(t, shape[0]):
                if not valid[later, slot]:
                    break
                bootstrap = 0.0 if terminated[later, slot] else gamma * successors[later, slot]
                expected += weight * (rewards[later, slot] + bootstrap - values[later, slot])
                weight *= gamma * gae_lambda
                if terminated[later, slot] or truncated[later, slot]:
                    break
            assert found[t, slot] == pytest.approx(expected, abs=1e-5)


def test_discounted_sums_go_on_between_fragments_and_start_over_at_ends():
    sums, running = returns.discounted_sums(
        column(1, 2, 99, 4, 8), flags(0, 1, 0, 0, 0), flags(1, 1, 0, 1, 1), np.array([10.0]), 0.5
    )
    # 0.5 * 10 + 1, 0.5 * 6 + 2 and the end, not a step, 4, 0.5 * 4 + 8
    assert sums[[0, 1, 3, 4], 0].tolist() == [6.0, 5.0, 4.0, 10.0]
    assert running.tolist() == [10.0]


def test_explained_variance_by_hand():
    targets = np.array([1.0, 2.0, 3.0], np.float32)
    assert value.explained_variance(targets, targets) == 1.0
    assert value.explained_variance(np.full(3, 5.0, np.float32), targets) == 0.0
    assert value.explained_variance(-targets, targets) == pytest.approx(-3.0)
    assert np.isnan(value.explained_variance(targets, np.ones(3, np.float32)))
