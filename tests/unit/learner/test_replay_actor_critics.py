"""What holds for the update of every algorithm with one agent's actor and critics over replay."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from learner_support import assert_same, box, continuous_spec, parameters, undocumented
from transitions_support import CHOICES, MASKED, OFFSET, ddpg, sac, td3, transitions_of

from common import specs
from common.errors import InvalidFieldError, UnsupportedSpaceError
from learner.networks.heads import ByAutograd

EVERY = pytest.mark.parametrize("make", [ddpg, td3, sac])
WITH_SPACES = pytest.mark.parametrize(
    ("make", "spec"),
    [(ddpg, OFFSET), (td3, OFFSET), (sac, OFFSET), (sac, CHOICES), (sac, MASKED)],
    ids=["ddpg", "td3", "sac", "sac of choices", "sac of masked choices"],
)


@WITH_SPACES
def test_an_update_by_hand_is_one_by_autograd(make, spec):
    by_hand, by_autograd = (make(spec, prioritised=True) for _ in range(2))
    by_autograd._actor = ByAutograd(by_autograd.behaviour.actor)
    by_autograd._critics = ByAutograd(by_autograd._critic_network)
    by_autograd._target = ByAutograd(by_autograd._target_critics.network)
    if make is not sac:
        by_autograd._target_actor = ByAutograd(by_autograd._target_policy.network)
        by_autograd._judge = ByAutograd(by_autograd._critic_network, 1)
    weights = np.random.default_rng(0).random(8).astype(np.float32)
    for seed in range(4):
        batch = transitions_of(by_hand, seed=seed, weights=weights)
        errors = [algorithm.update(batch, 0.0) for algorithm in (by_hand, by_autograd)]
        torch.testing.assert_close(*errors, rtol=1e-4, atol=1e-5)
    found, expected = by_hand.tensors(), by_autograd.tensors()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5, msg=name)


@WITH_SPACES
def test_a_restored_algorithm_goes_on_bit_for_bit(make, spec):
    first = make(spec, prioritised=True)
    for seed in range(3):
        first.update(transitions_of(first, seed=seed), 0.0)
    restored = make(spec, prioritised=True, seed=17)
    restored.load_tensors(parameters(first))
    restored.load_values(json.loads(json.dumps(first.values())))
    for seed in range(3, 7):
        batch = transitions_of(first, seed=seed)
        assert torch.equal(first.update(batch, 0.2), restored.update(batch, 0.2))
    assert_same(parameters(first), parameters(restored))
    assert first.values() == restored.values()


def test_a_state_of_another_algorithm_is_refused_by_name():
    with pytest.raises(InvalidFieldError, match="another algorithm, environment or network"):
        td3().load_tensors(ddpg().tensors())
    with pytest.raises(InvalidFieldError, match=r"of shape \(16, 3\), needed is \(16, 4\)"):
        ddpg(specs.single_agent(box(4), OFFSET.agent.action)).load_tensors(ddpg().tensors())


@EVERY
def test_learning_rates_fall_where_asked(make):
    constant, linear = make(), make(learning_rate_schedule="linear")
    for algorithm in (constant, linear):
        algorithm.update(transitions_of(algorithm), 0.75)
    names = [
        name for name in ("_actor_adam", "_critic_adam", "_alpha_adam") if name in vars(linear)
    ]
    assert len(names) == (3 if make is sac else 2)
    for name in names:
        rate = getattr(constant, name).learning_rate
        assert getattr(linear, name).learning_rate == pytest.approx(0.25 * rate)


@EVERY
def test_actions_are_random_at_first(make):
    algorithm = make(learning_starts=100)
    assert [algorithm.scalars(n)["random_share"] for n in (0, 99, 100)] == [1.0, 1.0, 0.0]
    longer = make(learning_starts=100, random_steps=300)
    assert [longer.scalars(n)["random_share"] for n in (0, 299, 300)] == [1.0, 1.0, 0.0]
    assert make(random_steps=0).scalars(0)["random_share"] == 0.0


@EVERY
def test_every_setting_is_documented(make):
    assert undocumented(make().Config) == []


@EVERY
def test_several_agents_are_refused(make):
    spec = continuous_spec()
    group = dataclasses.replace(spec.groups[0], name="a", agents=("x", "y"))
    several = dataclasses.replace(spec, multi_agent=True, groups=(group,))
    with pytest.raises(UnsupportedSpaceError, match=f"{make.__name__} trains a single agent"):
        make(several)
