"""MADDPG's update on transitions made by hand, and its policies in ONNX Runtime."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from joint_support import (
    CHOOSERS,
    MIXED,
    PAIR,
    TEAM,
    joint_transitions,
    maddpg,
    make_linear,
    several,
)
from learner_support import assert_same, box, continuous_spec, parameters, undocumented
from transitions_support import answers, onnx_answers

from common import spaces, specs
from common.errors import InvalidFieldError, UnsupportedSpaceError
from common.signature import ColumnKey, Role
from learner.algorithms.maddpg import MADDPGConfig
from learner.algorithms.policy_sharing import places_within, policies_of
from learner.publishing.examples import example_inputs
from learner.publishing.publisher import Publisher

SEEN = ColumnKey(Role.OBSERVATION, "agent")
DONE = ColumnKey(Role.ACTION, "agent")
ALIVE = ColumnKey(Role.ALIVE, "agent")


def pair(**config):
    """Linear networks for two agents whose actions are what networks give.

    With o the observations, mu_0 = tanh(o_0), mu_1 = tanh(2 o_1), and of the targets
    mu_0 = tanh(3 o_0), mu_1 = tanh(-o_1). Q_0 = o_0 + 2 a_0 - a_1 and Q_1 = o_1 + a_0 + 3 a_1, of
    the targets Q_0 = 4 o_1 + a_0 + a_1 and Q_1 = o_0 - a_1.
    """
    algorithm = maddpg(PAIR, hidden_sizes=(), output_penalty=0.0, **config)
    make_linear(algorithm.behaviour.actor.layers, [[[1.0]], [[2.0]]])
    make_linear(algorithm._target_actor.network.layers, [[[3.0]], [[-1.0]]])
    own = [[1.0, 0.0, 2.0, -1.0], [0.0, 1.0, 1.0, 3.0]]
    target = [[0.0, 4.0, 1.0, 1.0], [1.0, 0.0, 0.0, -1.0]]
    for network, rows in (
        (algorithm._critics, own),
        (algorithm._target_critics.network, target),
    ):
        make_linear(network.layers, np.array(rows, np.float32)[:, :, None])
    return algorithm


def hand_made(algorithm, **changes):
    """Goes on; ends for agent 0 alone; is cut off for both; agent 1 was gone before."""
    yes, no = True, False

    def numbers(*rows):
        return np.array(rows, np.float32)[..., None]

    given = {
        "columns": {
            SEEN: numbers([0.5, 1.0], [1.0, -1.0], [0.2, 0.4], [0.3, 0.0]),
            DONE: numbers([0.5, -0.5], [0.1, 0.2], [-1.0, 1.0], [0.6, 0.0]),
            ALIVE: np.array([[yes, yes], [yes, yes], [yes, yes], [yes, no]]),
        },
        "next_columns": {
            SEEN: numbers([0.1, 0.2], [0.3, 0.4], [-0.5, 0.6], [0.7, 0.0]),
            ALIVE: np.array([[yes, yes], [no, yes], [no, no], [yes, no]]),
        },
        "returns": np.array([[1.0, -1.0], [2.0, 0.5], [3.0, 0.0], [4.0, 0.0]], np.float32),
        "discounts": np.array([[0.9, 0.9], [0.0, 0.9], [0.9, 0.9], [0.9, 0.9]], np.float32),
        **changes,
    }
    return joint_transitions(algorithm, rows=4, **given)


def first_target(o_0, o_1):
    """Of agent 0 less its reward, where both go on."""
    return 0.9 * (4 * o_1 + np.tanh(3 * o_0) + np.tanh(-o_1))


TARGETS = np.array(
    [
        [1 + first_target(0.1, 0.2), -1 + 0.9 * (0.1 - np.tanh(-0.2))],
        # Agent 0 terminated: nothing follows for it, and it is zeros to the other one's critic.
        [2.0, 0.5 + 0.9 * (0.0 - np.tanh(-0.4))],
        # A time limit: both bootstrap with what they would have done.
        [3 + first_target(-0.5, 0.6), 0.9 * (-0.5 - np.tanh(-0.6))],
        # Agent 1 is zeros to the other one's critic.
        [4 + 0.9 * np.tanh(2.1), np.nan],
    ]
)
VALUES = np.array(
    [
        [0.5 + 2 * 0.5 + 0.5, 1.0 + 0.5 - 1.5],
        [1.0 + 0.2 - 0.2, -1.0 + 0.1 + 0.6],
        [0.2 - 2.0 - 1.0, 0.4 - 1.0 + 3.0],
        [0.3 + 1.2, np.nan],
    ]
)


def test_targets_are_those_by_hand():
    algorithm = pair()
    found = algorithm._targets(algorithm.joint(hand_made(algorithm))).numpy().T
    known = np.isfinite(TARGETS)
    np.testing.assert_allclose(found[known], TARGETS[known], rtol=1e-5)


def test_losses_and_errors_are_of_the_agents_that_acted():
    algorithm = pair(prioritised=True)
    weights = np.array([1.0, 0.5, 0.25, 1.0], np.float32)
    errors = algorithm.update(hand_made(algorithm, weights=weights), 0.0)
    off = np.abs(VALUES - TARGETS)
    np.testing.assert_allclose(errors, np.nanmean(off, 1), rtol=1e-5)
    losses = np.nanmean(off**2 / 2 * weights[:, None], 0)
    metrics = algorithm.metrics()
    assert metrics["train/critic_loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert metrics["train/q_value"] == pytest.approx(np.nanmean(VALUES, 0).mean(), rel=1e-5)


def test_every_critic_goes_down_its_own_error():
    algorithm = pair()
    batch = hand_made(algorithm)
    algorithm._criticise(algorithm.joint(batch))
    rows = np.concatenate([batch.columns[key][..., 0] for key in (SEEN, DONE)], 1)
    for agent, gradient in enumerate(algorithm._critics.layers.weights[0].grad):
        slopes = (VALUES - TARGETS)[:, agent]
        acted = np.isfinite(slopes)
        expected = slopes[acted] @ rows[acted] / acted.sum()
        np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-5)


def test_continuous_actors_go_up_their_own_critic_alone():
    algorithm = pair()
    before = algorithm._critics.layers.weights[0].clone()
    batch = hand_made(algorithm)
    algorithm._improve(algorithm.joint(batch))
    seen = batch.columns[SEEN][..., 0]
    # dQ_0/da_0 is 2 and dQ_1/da_1 is 3; that Q_1 rises with a_0 is nothing to agent 0.
    for agent, (slope, factor, count) in enumerate([(2.0, 1.0, 4), (3.0, 2.0, 3)]):
        own = seen[:count, agent]
        expected = -slope * (1 - np.tanh(factor * own) ** 2) @ own / count
        gradient = algorithm.behaviour.actor.layers.weights[0].grad[agent]
        assert gradient.item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(before, algorithm._critics.layers.weights[0])


def choosers(critics):
    """Two agents that choose by logits (1, 0), and critics over (o_0, o_1, a_0, a_1)."""
    algorithm = maddpg(CHOOSERS, hidden_sizes=(), output_penalty=0.0)
    make_linear(
        algorithm.behaviour.actor.layers, np.zeros((2, 1, 2), np.float32), torch.tensor([1.0, 0.0])
    )
    make_linear(algorithm._critics.layers, np.array(critics, np.float32)[:, :, None])
    return algorithm


def test_the_straight_through_gradient_reaches_the_own_action_only():
    # Both critics value what the other agent does, and nothing else.
    algorithm = choosers([[0, 0, 0, 0, 5.0, -5.0], [0, 0, 5.0, -5.0, 0, 0]])
    algorithm._improve(algorithm.joint(joint_transitions(algorithm)))
    assert torch.count_nonzero(algorithm.behaviour.actor.layers.biases[0].grad) == 0


def test_the_straight_through_gradient_is_that_of_the_noisy_softmax():
    algorithm = choosers([[0, 0, 5.0, 0, 0, 0], [0, 0, 0, 0, 0, 7.0]])
    gumbel = torch.randn(2, 8, 2, generator=torch.Generator().manual_seed(0))
    algorithm._gumbel = lambda _shape: gumbel
    algorithm._improve(algorithm.joint(joint_transitions(algorithm)))
    soft = torch.softmax(gumbel + torch.tensor([1.0, 0.0]), -1)
    slope = soft[..., 0] * soft[..., 1]
    expected = torch.stack([-5.0 * slope[0].mean(), 7.0 * slope[1].mean()])
    found = algorithm.behaviour.actor.layers.biases[0].grad[:, 0, 0]
    torch.testing.assert_close(found, expected)
    # What the critics see is the draw itself, not its softmax.
    drawn = (gumbel + torch.tensor([1.0, 0.0])).argmax(-1)
    loss = -(5.0 * (drawn[0] == 0).float().mean() + 7.0 * (drawn[1] == 1).float().mean()) / 2
    assert algorithm._actor_means.take()["train/actor_loss"] == pytest.approx(loss.item())


def test_large_logits_cost():
    algorithm = choosers([[0.0] * 6] * 2)
    config = dataclasses.replace(algorithm.config, output_penalty=0.1)
    algorithm.config = config
    algorithm._improve(algorithm.joint(joint_transitions(algorithm)))
    # The mean over two logits of their squares, at (1, 0).
    found = algorithm.behaviour.actor.layers.biases[0].grad[0, 0]
    np.testing.assert_allclose(found, [0.1, 0.0], rtol=1e-5)


def test_gumbel_noise_is_standard():
    drawn = maddpg()._gumbel(torch.Size((3, 50_000, 2))).numpy()
    assert drawn.mean() == pytest.approx(np.euler_gamma, abs=0.01)
    assert drawn.std() == pytest.approx(np.pi / np.sqrt(6), rel=0.01)


def test_gradients_are_clipped_for_each_agent_by_itself():
    algorithm = pair(max_gradient_norm=0.5)
    batch = hand_made(algorithm)
    batch.returns[:, 0] *= 1000.0
    algorithm._criticise(algorithm.joint(batch))
    grads = [parameter.grad for parameter in algorithm._critics.parameters()]
    norms = [torch.cat([grad[agent].reshape(-1) for grad in grads]).norm() for agent in range(2)]
    assert norms[0].item() == pytest.approx(0.5, rel=1e-4)
    assert 0.05 < norms[1].item() <= 0.5001


def test_own_actions_in_the_joint_critic_are_those_of_a_whole_pass():
    algorithm = maddpg(MIXED)
    data = algorithm.joint(joint_transitions(algorithm))
    own = torch.rand_like(data.actions)
    found = algorithm._critics.of_own(data.parts, data.acting, data.actions, own)
    for agent in range(4):
        actions = data.actions.clone()
        actions[agent] = own[agent]
        whole = algorithm._critics(data.parts, data.acting, actions)
        torch.testing.assert_close(found[agent], whole[agent], rtol=1e-4, atol=1e-5)


def test_rewards_are_standardised_for_each_agent_from_those_that_it_got():
    algorithm = pair(standardise_rewards=True)
    rewards = hand_made(algorithm).returns
    found = algorithm.joint(hand_made(algorithm)).rewards.numpy().T
    np.testing.assert_allclose(found[:, 0], (rewards[:, 0] - 2.5) / rewards[:, 0].std(), rtol=1e-5)
    own = rewards[:3, 1]
    np.testing.assert_allclose(found[:3, 1], (own - own.mean()) / own.std(), rtol=1e-5)


@pytest.mark.parametrize("sharing", ["per_agent", "per_role", "shared"])
def test_every_space_trains_and_goes_on_bit_for_bit(sharing):
    given = {"policies": sharing, "prioritised": True, "standardise_rewards": True}
    first, restored = maddpg(MIXED, **given), maddpg(MIXED, seed=3, **given)
    before = parameters(first)
    for seed in range(2):
        first.update(joint_transitions(first, seed=seed), 0.5)
    metrics = first.metrics()
    assert metrics["train/n_updates"] == 2.0
    assert all(np.isfinite(number) for number in metrics.values()), metrics
    after = parameters(first)
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    restored.load_tensors(after)
    restored.load_values(json.loads(json.dumps(first.values())))
    for seed in range(2, 5):
        batch = joint_transitions(first, seed=seed)
        assert torch.equal(first.update(batch, 0.0), restored.update(batch, 0.0))
    assert_same(parameters(first), parameters(restored))


def test_who_shares_a_policy():
    assert policies_of(MIXED, "per_agent") == (0, 1, 2, 3)
    assert policies_of(MIXED, "per_role") == (0, 1, 0, 2)
    assert policies_of(MIXED, "shared") == (0, 0, 0, 0)
    assert places_within((0, 1, 0, 2)) == (0, 0, 1, 0)


def test_agents_that_share_a_policy_are_told_apart():
    algorithm = maddpg(TEAM, policies="shared")
    heads = algorithm.behaviour.actor([torch.ones(1, 3, 4)])
    assert len(torch.unique(heads, dim=0)) == 3
    assert len(algorithm.behaviour.actor.layers.weights[0]) == 1
    assert algorithm._critics.layers.weights[0].shape[0] == 3


@pytest.mark.parametrize("sharing", ["per_agent", "per_role"])
def test_the_published_policy_does_what_torch_does(sharing, graph_cache):
    algorithm = maddpg(MIXED, policies=sharing)
    publisher = Publisher(algorithm.behaviour, cache=graph_cache)
    algorithm.update(joint_transitions(algorithm), 0.0)
    model = publisher.publish(1).model
    feeds = example_inputs(algorithm.behaviour, np.random.default_rng(0), 256)
    feeds["action_mask/walker"][..., 1] = True
    expected = answers(algorithm, feeds)
    found = onnx_answers(algorithm, model, feeds)
    assert found["action/walker"].shape == (256, 3)
    assert found["action/scout"].shape == (256, 1, 2, 1)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    for name in ("action/walker", "greedy_action/walker"):
        allowed = np.take_along_axis(
            feeds["action_mask/walker"], found[name][..., None] - 7, axis=2
        )
        assert allowed.all()
    low, high = MIXED.groups[1].action.low, MIXED.groups[1].action.high
    assert ((found["action/scout"] >= low) & (found["action/scout"] <= high)).all()


def test_exploration_is_the_softmax_or_noise_around_the_best_action():
    algorithm = maddpg(MIXED)
    feeds = example_inputs(algorithm.behaviour, np.random.default_rng(0), 40_000)
    for name in ("observation/walker", "observation/scout/place"):
        feeds[name][:] = feeds[name][:1]
    feeds["observation/scout/kind"][:] = 1
    feeds["action_mask/walker"][:] = [True, True, False]
    feeds["scalar/random_share"][:] = 0.0
    feeds["scalar/noise_scale"][:] = 0.1
    with torch.no_grad():
        algorithm.behaviour.actor.layers.biases[-1][:, 0, :2] += torch.tensor([1.0, 0.0])
        given = {
            ColumnKey(Role.OBSERVATION, "walker"): feeds["observation/walker"][:1],
            ColumnKey(Role.OBSERVATION, "scout", "kind"): feeds["observation/scout/kind"][:1],
            ColumnKey(Role.OBSERVATION, "scout", "place"): feeds["observation/scout/place"][:1],
        }
        parts = algorithm.behaviour.parts(
            {key: torch.from_numpy(array) for key, array in given.items()}
        )
        heads = algorithm.behaviour.actor(parts)[:, 0]
    found = answers(algorithm, feeds)
    chances = torch.softmax(heads[:3, :2], -1)[:, 0].numpy()
    np.testing.assert_allclose((found["action/walker"] == 7).mean(0), chances, atol=0.01)
    centre, reach = np.array([0.5, 6.0]), np.array([0.5, 4.0])
    noise = (found["action/scout"] - found["greedy_action/scout"])[:, 0, :, 0] / reach
    greedy = (found["greedy_action/scout"][0, 0, :, 0] - centre) / reach
    np.testing.assert_allclose(greedy, np.tanh(heads[3, :2].numpy()), rtol=1e-4)
    assert noise.std() == pytest.approx(0.1, rel=0.05)


def test_actions_are_random_at_first():
    algorithm = maddpg(MIXED, learning_starts=500)
    assert algorithm.scalars(499) == {"random_share": 1.0, "noise_scale": 0.1}
    assert algorithm.scalars(500)["random_share"] == 0.0
    assert maddpg(TEAM).scalars(0) == {"random_share": 1.0}
    feeds = example_inputs(algorithm.behaviour, np.random.default_rng(0), 20_000)
    feeds["scalar/random_share"][:] = 1.0
    found = answers(algorithm, feeds)["action/scout"][:, 0, :, 0]
    np.testing.assert_allclose(found.mean(0), [0.5, 6.0], rtol=0.02)
    np.testing.assert_allclose(found.std(0), [1 / np.sqrt(12), 8 / np.sqrt(12)], rtol=0.02)


def test_no_global_state_travels():
    spec = dataclasses.replace(TEAM, global_state=box(12))
    roles = {column.key.role for column in maddpg(spec).signature.columns}
    assert Role.GLOBAL_STATE not in roles
    assert Role.ALIVE in roles


def test_a_single_agent_is_refused():
    with pytest.raises(UnsupportedSpaceError, match=r"maddpg trains .* take ddpg, td3 or sac"):
        maddpg(continuous_spec())


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (spaces.MultiDiscrete((2, 2)), "these are MultiDiscrete; make them one of the two"),
        (box(2), "these are a Box of float32, or one without bounds"),
    ],
)
def test_actions_that_it_cannot_take_are_refused(action, reason):
    with pytest.raises(UnsupportedSpaceError, match=reason):
        maddpg(several(specs.AgentGroup("a", ("a_0", "a_1"), box(2), action)))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"n_step": 3}, "n_step: 3 must be 1"),
        ({"output_penalty": -1.0}, "output_penalty: -1.0 must not be negative"),
        ({"exploration_noise": -1.0}, "exploration_noise: -1.0 must not be negative"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, reason):
    with pytest.raises(InvalidFieldError, match=reason):
        MADDPGConfig(**config)


def test_defaults_stand_with_their_explanations():
    assert undocumented(MADDPGConfig) == []
