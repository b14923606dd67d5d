"""V-trace against hand-computed numbers, and against the returns that it becomes on policy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_slot import column, flags

from learner.losses import returns
from learner.losses.vtrace import vtrace

LOG2 = float(np.log(2.0))


def trace(rewards, values, *, log_ratios=None, successors=None, gamma=0.5, **given_):
    """V-trace of one slot; `values` has an entry more than rewards."""
    none = np.zeros(rewards.shape, np.bool_)
    found = vtrace(
        log_ratios=np.zeros(rewards.shape, np.float32) if log_ratios is None else log_ratios,
        rewards=rewards,
        values=values[:-1],
        successors=values[1:] if successors is None else successors,
        gamma=gamma,
        **{"terminated": none, "truncated": none, "valid": ~none, **given_},
    )
    return [part[:, 0].tolist() for part in found]


def test_ratios_weigh_and_fade_as_the_paper_says():
    # Ratios 1/2, 4, 1: rho is 1/2, 2, 1 under the bound 2, and c is 1/2, 1, 1 under the bound 1.
    # deltas: 1 + 0.5 * 4 - 2 = 1, 2 + 0.5 * 6 - 4 = 1, 3 + 0.5 * 8 - 6 = 1
    # v - V backwards: 1 * 1 = 1; 2 * 1 + 0.5 * 1 * 1 = 2.5; 0.5 * 1 + 0.5 * 0.5 * 2.5 = 1.125
    # A = r + 0.5 v' - V: 1 + 0.5 * 6.5 - 2 = 2.25; 2 + 0.5 * 7 - 4 = 1.5; 3 + 0.5 * 8 - 6 = 1
    targets, advantages, rho = trace(
        column(1, 2, 3),
        column(2, 4, 6, 8),
        log_ratios=column(-LOG2, 2 * LOG2, 0),
        rho_clip=2.0,
        c_clip=1.0,
    )
    assert rho == pytest.approx([0.5, 2.0, 1.0])
    assert targets == pytest.approx([3.125, 6.5, 7.0])
    assert advantages == pytest.approx([2.25, 1.5, 1.0])


def test_termination_has_no_value_behind_it_and_cuts():
    # deltas: 1, 2 + 0 - 4 = -2, 1; v - V: 1 - 0.5 * 2 = 0, -2, 1
    targets, advantages, _ = trace(column(1, 2, 3), column(2, 4, 6, 8), terminated=flags(0, 1, 0))
    assert targets == [2.0, 2.0, 7.0]
    assert advantages == [0.0, -2.0, 1.0]


def test_truncation_bootstraps_with_the_last_observation_and_cuts():
    # The last observation of the episode is worth 10, what the next row sees is another's.
    # deltas: 1, 2 + 0.5 * 10 - 4 = 3, 1; v - V: 1 + 0.5 * 3 = 2.5, 3, 1
    targets, advantages, _ = trace(
        column(1, 2, 3),
        column(2, 4, 6, 8),
        successors=column(4, 10, 8),
        truncated=flags(0, 1, 0),
    )
    assert targets == [4.5, 7.0, 7.0]
    assert advantages == [2.5, 3.0, 1.0]


def test_where_both_are_set_terminated_wins():
    both, one = (
        trace(column(1, 2), column(2, 4, 6), terminated=flags(1, 0), truncated=flags(*also))
        for also in ((1, 0), (0, 0))
    )
    assert both == one


def test_a_row_that_is_no_step_is_nothing_and_lets_nothing_through():
    # Row 1 ended by a time limit; row 2 holds its last observation (value 6) and is no step.
    targets, advantages, rho = trace(
        column(1, 2, 99, 3),
        column(2, 4, 6, 7, 8),
        log_ratios=column(0, 0, 50, 0),
        truncated=flags(0, 1, 0, 0),
        valid=flags(1, 1, 0, 1),
    )
    assert targets == [3.5, 5.0, 0.0, 7.0]
    assert advantages == [1.5, 1.0, 0.0, 0.0]
    assert rho == [1.0, 1.0, 0.0, 1.0]


def test_a_fragment_that_is_filled_up_ends_where_its_rows_do():
    short = trace(column(1, 2), column(2, 4, 6))
    filled = trace(column(1, 2, 0, 0), column(2, 4, 6, 0, 0), valid=flags(1, 1, 0, 0))
    assert [part[:2] for part in filled] == short


def test_ratios_beyond_what_a_float_holds_are_bounded():
    targets, _, rho = trace(column(1), column(2, 4), log_ratios=column(500.0))
    assert rho == [1.0]
    assert targets == [3.0]


@pytest.mark.parametrize("wrong", ["log_ratios", "terminated", "successors"])
def test_shapes_that_differ_are_refused(wrong):
    with pytest.raises(ValueError, match=r"all must be \[T, B\]"):
        trace(column(1, 2), column(2, 4, 6), **{wrong: column(1)})


def random_rollout(seed):
    generator = np.random.default_rng(seed)
    shape = (7, 3)
    found = {
        "rewards": generator.normal(size=shape).astype(np.float32),
        "values": generator.normal(size=shape).astype(np.float32),
        "successors": generator.normal(size=shape).astype(np.float32),
        "terminated": generator.random(shape) < 0.15,
        "truncated": generator.random(shape) < 0.15,
        "valid": generator.random(shape) < 0.85,
    }
    # Inside an episode, what follows a step is what the next row sees.
    goes_on = ~(found["terminated"] | found["truncated"])[:-1] & found["valid"][1:]
    found["successors"][:-1] = np.where(goes_on, found["values"][1:], found["successors"][:-1])
    return found


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0.1, 1))
def test_on_policy_it_is_generalised_advantage_estimation(seed, trace_lambda, gamma):
    data = random_rollout(seed)
    found = vtrace(
        **data, log_ratios=np.zeros((7, 3), np.float32), gamma=gamma, trace_lambda=trace_lambda
    )
    gae = returns.generalised_advantages(**data, gamma=gamma, gae_lambda=trace_lambda)
    np.testing.assert_allclose(found.advantages, gae, atol=1e-5)
    np.testing.assert_allclose(
        found.targets, np.where(data["valid"], data["values"] + gae, 0), atol=1e-5
    )


@given(st.integers(0, 10_000))
def test_on_policy_targets_are_n_step_returns(seed):
    data = random_rollout(seed)
    found = vtrace(**data, log_ratios=np.zeros((7, 3), np.float32), gamma=0.9)
    for slot in range(3):
        for begin in range(7):
            if not data["valid"][begin, slot]:
                continue
            assert found.targets[begin, slot] == pytest.approx(
                n_step_return(data, begin, slot, 0.9), abs=1e-5
            )


def n_step_return(data, begin, slot, gamma):
    """The sum of rewards up to the fragment's or episode's end, and what is left at its end."""
    total, weight = 0.0, 1.0
    for t in range(begin, 7):
        total += weight * data["rewards"][t, slot]
        weight *= gamma
        ends = data["terminated"][t, slot] or data["truncated"][t, slot]
        if ends or t == 6 or not data["valid"][t + 1, slot]:
            left = 0.0 if data["terminated"][t, slot] else data["successors"][t, slot]
            return total + weight * left
    raise AssertionError
