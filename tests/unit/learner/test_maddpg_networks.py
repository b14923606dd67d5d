"""MADDPG over images and with a user's own networks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from joint_support import CAMERAS, MIXED, OWN_NETWORK, joint_transitions, maddpg
from learner_support import assert_same, parameters
from transitions_support import answers, onnx_answers

from common.signature import ColumnKey, Role
from learner.publishing.examples import example_inputs
from learner.publishing.publisher import Publisher

SHARING = ["shared", "per_role", "per_agent"]


@pytest.mark.parametrize("policies", SHARING)
def test_images_go_through_convolutions_that_learn(policies):
    first, restored = (
        maddpg(CAMERAS, policies=policies, prioritised=True, seed=seed) for seed in (0, 3)
    )
    before = parameters(first)
    for seed in range(2):
        first.update(joint_transitions(first, seed=seed), 0.0)
    after = parameters(first)
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    # Two kinds of cameras, a convolution and a layer each.
    cameras = {"shared": 2, "per_role": 3, "per_agent": 4}[policies]
    for part in ("actor", "target_actor", "critics", "target_critics"):
        found = [key for key in after if key.startswith((f"{part}.", f"behaviour.{part}."))]
        assert sum("encoders" in key for key in found) == cameras * 4, part
    restored.load_tensors(after)
    restored.load_values(json.loads(json.dumps(first.values())))
    batch = joint_transitions(first, seed=2)
    assert torch.equal(first.update(batch, 0.0), restored.update(batch, 0.0))
    assert_same(parameters(first), parameters(restored))


def test_a_network_of_ones_own_is_the_actors_and_the_critics():
    algorithm = maddpg(MIXED, network=OWN_NETWORK)
    before = parameters(algorithm)
    algorithm.update(joint_transitions(algorithm), 0.0)
    own = [key for key in before if key.endswith("network.layer.weight") and "exp_avg" not in key]
    assert len([key for key in own if "target" not in key]) == 2 * 4  # of four agents
    assert not any(torch.equal(before[key], algorithm.tensors()[key]) for key in own)


@pytest.mark.timeout(400)  # an export takes minutes on a machine that is busy
def test_the_published_policy_does_what_torch_does(graph_cache):
    algorithm = maddpg(CAMERAS, policies="per_role")
    publisher = Publisher(algorithm.behaviour, cache=graph_cache)
    algorithm.update(joint_transitions(algorithm), 0.0)
    model = publisher.publish(1).model
    feeds = example_inputs(algorithm.behaviour, np.random.default_rng(0), 32)
    found = onnx_answers(algorithm, model, feeds)
    for name, array in answers(algorithm, feeds).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-4, err_msg=name)


def test_own_actions_in_the_joint_critic_are_those_of_a_whole_pass():
    algorithm = maddpg(CAMERAS)
    data = algorithm.joint(joint_transitions(algorithm))
    own = torch.rand_like(data.actions)
    found = algorithm._critics.of_own(data.parts, data.acting, data.actions, own)
    for agent in range(len(CAMERAS.agents)):
        actions = data.actions.clone()
        actions[agent] = own[agent]
        whole = algorithm._critics(data.parts, data.acting, actions)
        torch.testing.assert_close(found[agent], whole[agent], rtol=1e-4, atol=1e-5)


def test_critics_give_actors_no_gradient_through_what_they_see():
    algorithm = maddpg(CAMERAS)
    before = parameters(algorithm)
    algorithm._improve(algorithm.joint(joint_transitions(algorithm)))
    after = algorithm.tensors()
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert any("encoders" in key for key in changed)
    assert not any("critic" in key for key in changed)


def test_what_an_agent_sees_that_does_not_act_changes_nothing():
    one, other = maddpg(CAMERAS), maddpg(CAMERAS)
    key = ColumnKey(Role.OBSERVATION, "walker", "camera")
    for algorithm, shown in ((one, 0), (other, 255)):
        batch = joint_transitions(algorithm)
        batch.columns[ColumnKey(Role.ALIVE, "walker")][:, 1] = False
        batch.next_columns[ColumnKey(Role.ALIVE, "walker")][:, 1] = False
        batch.discounts[:, 1] = 0.0
        batch.columns[key][:, 1] = batch.next_columns[key][:, 1] = shown
        algorithm.update(batch, 0.0)
    assert_same(parameters(one), parameters(other))


def test_a_policys_norm_is_that_of_its_encoder_too():
    algorithm = maddpg(CAMERAS, max_gradient_norm=1e-3)
    algorithm._improve(algorithm.joint(joint_transitions(algorithm)))
    actor = algorithm.behaviour.actor
    for policy in range(len(CAMERAS.agents)):
        own = [one.grad[policy] for one in actor.layers.parameters()]
        own += [one.grad for one in actor.seen.encoders()[policy].parameters()]
        norm = torch.cat([one.reshape(-1) for one in own]).norm()
        assert norm.item() == pytest.approx(1e-3, rel=1e-2)
    algorithm._criticise(algorithm.joint(joint_transitions(algorithm)))
    seen = [one.grad.reshape(-1) for one in algorithm._critics.seen.parameters()]
    assert torch.cat(seen).norm().item() == pytest.approx(1e-3, rel=1e-2)
