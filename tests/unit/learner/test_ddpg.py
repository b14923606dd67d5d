"""DDPG's and TD3's update on transitions made by hand, and their policies in ONNX Runtime."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from learner_support import ACTION, OBSERVATION, box, image, parameters
from transitions_support import (
    OFFSET,
    answers,
    ddpg,
    feeds_of,
    make_linear,
    onnx_answers,
    td3,
    transitions_of,
)

from common import spaces, specs
from common.errors import InvalidFieldError, UnsupportedSpaceError
from common.signature import ColumnKey, Extent, Role
from learner.algorithms.ddpg import TD3Config
from learner.publishing.publisher import Publisher

STATE = "state/ornstein_uhlenbeck"
SPECS = {
    "numbers": OFFSET,
    "pixels": specs.single_agent(image(10, 10, 3), box(2, low=-1.0, high=1.0)),
    "dict": specs.single_agent(
        spaces.Dict({"camera": image(10, 10, 3), "speed": box(2, dtype=np.float64)}),
        box(2, 2, low=0.0, high=1.0, dtype=np.float64),
    ),
}
BOTH = pytest.mark.parametrize("make", [ddpg, td3])
UNITS = specs.single_agent(box(2), box(1, low=-1.0, high=1.0))
"""Actions that the environment takes as networks give them."""


def linear(algorithm):
    """An algorithm whose networks are linear, from two numbers and an action of one.

    pi(s) = tanh(s_0), pi_target(s) = tanh(s_1), Q_1 = s_0 + 2 a, Q_2 = s_1 - a, and of the targets
    Q_1 = 4 s_0 + a, Q_2 = 3 s_1 + 2 a.
    """
    make_linear(algorithm.behaviour.actor, [[1.0, 0.0]])
    make_linear(algorithm._target_policy.network, [[0.0, 1.0]])
    online, target = [[[1.0, 0.0, 2.0]], [[0.0, 1.0, -1.0]]], [[[4.0, 0.0, 1.0]], [[0.0, 3.0, 2.0]]]
    count = algorithm.n_critics
    make_linear(algorithm._critic_network, *online[:count])
    make_linear(algorithm._target_critics.network, *target[:count])
    return algorithm


def hand_made(algorithm, **changes):
    """One transition goes on, one terminated, one was cut off after two steps."""
    given = {
        "returns": np.array([1.0, 2.0, 3.0], np.float32),
        "discounts": np.array([0.9, 0.0, 0.81], np.float32),
        "weights": np.array([1.0, 0.5, 0.25], np.float32),
        **changes,
    }
    batch = transitions_of(algorithm, rows=3, **given)
    batch.columns[OBSERVATION] = np.array([[0.5, 1.0], [1.0, 0.0], [0.0, -1.0]], np.float32)
    batch.columns[ACTION] = np.array([[0.5], [-0.5], [1.0]], np.float32)
    batch.next_columns[OBSERVATION] = np.array([[1.0, 0.2], [5.0, 5.0], [-1.0, 0.4]], np.float32)
    return batch


VALUES = np.array([[0.5 + 2 * 0.5, 1.0 - 0.5], [1.0 - 2 * 0.5, 0.5], [2.0, -1.0 - 1.0]])
"""Q_1 and Q_2 of the actions taken."""


def targets_by_hand(next_actions, count: int):
    """Targets of the transitions made by hand, from the actions that are valued for next ones."""
    valued = [
        [4 * 1.0 + next_actions[0], 3 * 0.2 + 2 * next_actions[0]],
        [0.0, 0.0],
        [4 * -1.0 + next_actions[2], 3 * 0.4 + 2 * next_actions[2]],
    ]
    least = [min(row[:count]) for row in valued]
    return np.array([1 + 0.9 * least[0], 2.0, 3 + 0.81 * least[2]])


@BOTH
def test_errors_are_those_of_targets_by_hand(make):
    config = {"hidden_sizes": (), "prioritised": True}
    if make is td3:
        config["target_noise"] = 0.0
    algorithm = linear(make(UNITS, **config))
    errors = algorithm.update(hand_made(algorithm), 0.0)
    count = algorithm.n_critics
    targets = targets_by_hand(np.tanh([0.2, 5.0, 0.4]), count)
    expected = np.abs(VALUES[:, :count] - targets[:, None])
    np.testing.assert_allclose(errors.numpy(), expected.mean(1), rtol=1e-5)
    losses = expected**2 / 2 * np.array([[1.0], [0.5], [0.25]])
    found = algorithm.metrics()
    assert found["train/critic_loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert found["train/q_value"] == pytest.approx(VALUES[:, :count].mean(), rel=1e-5)


def test_the_twin_minimum_is_of_each_transition():
    algorithm = linear(td3(UNITS, hidden_sizes=(), target_noise=0.0))
    batch = hand_made(algorithm)
    data = algorithm.minibatch(batch)
    # Q_1 is the larger one in the first transition, the smaller one in the last.
    actions = np.tanh([0.2, 5.0, 0.4])
    expected = [1 + 0.9 * (0.6 + 2 * actions[0]), 2.0, 3 + 0.81 * (-4 + actions[2])]
    np.testing.assert_allclose(algorithm._targets(data), expected, rtol=1e-5)


def test_every_critic_goes_down_its_own_error():
    algorithm = linear(td3(UNITS, hidden_sizes=(), target_noise=0.0, prioritised=True))
    batch = hand_made(algorithm)
    algorithm.update(batch, 0.0)
    targets = targets_by_hand(np.tanh([0.2, 5.0, 0.4]), 2)
    rows = np.concatenate([batch.columns[OBSERVATION], batch.columns[ACTION]], 1)
    for k, (layer,) in enumerate(algorithm._critic_network.heads):
        slopes = (VALUES[:, k] - targets) * np.array([1.0, 0.5, 0.25]) / 3
        np.testing.assert_allclose(layer.weight.grad[0], slopes @ rows, rtol=1e-5)
        np.testing.assert_allclose(layer.bias.grad[0], slopes.sum(), rtol=1e-5)


@BOTH
def test_the_actor_goes_up_the_first_critic(make):
    config = {"hidden_sizes": ()}
    if make is td3:
        config["policy_delay"] = 1
    algorithm = linear(make(UNITS, **config))
    data = algorithm.minibatch(hand_made(algorithm))
    algorithm._improve(data)
    # dQ_1/da is 2 everywhere; da/dhead is 1 - tanh^2.
    slopes = -2.0 * (1 - np.tanh([0.5, 1.0, 0.0]) ** 2) / 3
    (layer,) = algorithm.behaviour.actor.heads[0]
    expected = slopes @ np.array([[0.5, 1.0], [1.0, 0.0], [0.0, -1.0]])
    np.testing.assert_allclose(layer.weight.grad[0], expected, rtol=1e-5)
    loss = algorithm._actor_means.take()["train/actor_loss"]
    values = np.array([0.5, 1.0, 0.0]) + 2 * np.tanh([0.5, 1.0, 0.0])
    assert loss == pytest.approx(-values.mean(), rel=1e-5)


def test_target_actions_are_smoothed_by_clipped_noise_within_the_bounds():
    algorithm = td3(UNITS, target_noise=0.2, target_noise_clip=0.5)
    drawn = np.array([[0.0], [1.0], [-9.0], [9.0], [-9.0]], np.float32)
    algorithm.normal = lambda *_: torch.from_numpy(drawn.copy())
    found = algorithm.smoothed(torch.tensor([[0.3], [0.3], [0.3], [0.7], [-0.8]]))
    np.testing.assert_allclose(found[:, 0], [0.3, 0.5, -0.2, 1.0, -1.0], rtol=1e-5)


def test_smoothing_is_normal_noise_of_the_given_deviation():
    algorithm = td3(UNITS, target_noise=0.2, target_noise_clip=0.5)
    found = algorithm.smoothed(torch.zeros(200_000, 1)).numpy()
    # A normal of deviation 0.2 clipped at 2.5 deviations.
    assert found.std() == pytest.approx(0.2 * 0.9886, rel=0.01)
    assert np.abs(found).max() == pytest.approx(0.5)
    assert (np.abs(found) == np.abs(found).max()).mean() == pytest.approx(0.0124, rel=0.1)


def test_actor_and_targets_wait_for_the_critics():
    algorithm = td3(policy_delay=3)
    batch = transitions_of(algorithm)
    first = parameters(algorithm)
    for update in range(1, 7):
        algorithm.update(batch, 0.0)
        now = parameters(algorithm)
        changed = {name for name in now if not torch.equal(now[name], first[name])}
        slow = {name for name in changed if name.startswith(("behaviour", "target", "optim"))}
        slow = {name for name in slow if not name.startswith("optimiser.critics")}
        assert any(name.startswith("critics.") for name in changed)
        assert bool(slow) == (update % 3 == 0), (update, slow)
        first = now


def test_targets_go_a_share_of_the_way():
    algorithm = ddpg(target_tau=0.25)
    before = parameters(algorithm)
    algorithm.update(transitions_of(algorithm), 0.0)
    after = algorithm.tensors()
    for online, target in (("behaviour.actor", "target_actor"), ("critics", "target_critics")):
        for part in ("heads.0.0.weight", "heads.0.2.bias"):
            old, new = before[f"{target}.{part}"], after[f"{online}.{part}"]
            torch.testing.assert_close(after[f"{target}.{part}"], old + 0.25 * (new - old))


def test_critics_see_what_the_environment_got_between_minus_one_and_one():
    algorithm = ddpg(OFFSET)
    batch = transitions_of(algorithm, rows=3)
    batch.columns[ACTION] = np.array([[-1.0, 10.0], [1.0, 6.0], [2.0, 4.0]], np.float32)
    found = algorithm.behaviour.bounds.to_unit(algorithm.minibatch(batch).actions)
    np.testing.assert_allclose(found, [[-1.0, 1.0], [0.0, 0.0], [0.5, -0.5]])


@BOTH
@pytest.mark.parametrize("name", SPECS)
def test_every_space_trains_and_says_how_it_went(name, make):
    algorithm = make(SPECS[name], n_step=3)
    before = parameters(algorithm)
    for seed in range(2):
        algorithm.update(transitions_of(algorithm, seed=seed), 0.5)
    metrics = algorithm.metrics()
    assert metrics.keys() == {
        "train/critic_loss",
        "train/q_value",
        "train/critic_gradient_norm",
        "train/actor_loss",
        "train/actor_gradient_norm",
        "train/learning_rate",
        "train/n_updates",
    }
    assert metrics["train/n_updates"] == 2.0
    assert all(np.isfinite(number) for number in metrics.values()), metrics
    after = algorithm.tensors()
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert algorithm.metrics() == {}


def test_what_is_stored_is_what_the_environment_got_and_no_state_of_noise():
    columns = {
        column.key: column for column in ddpg(exploration="ornstein_uhlenbeck").signature.columns
    }
    action = columns[ACTION]
    assert (action.dtype, action.shape, action.extent) == (np.float32, (2,), Extent.ROWS)
    assert {key.role for key in columns} == {
        Role.OBSERVATION,
        Role.ACTION,
        Role.REWARD,
        Role.TERMINATED,
        Role.TRUNCATED,
        Role.IS_FIRST,
        Role.VALID,
        Role.EPISODE_END,
    }


def test_the_process_remembers_and_forgets_at_an_episodes_begin():
    algorithm = ddpg(exploration="ornstein_uhlenbeck", ou_theta=0.25)
    (state,) = algorithm.signature.inputs_of(Role.STATE)
    assert state.initial_state.tolist() == [0.0, 0.0]
    feeds = feeds_of(algorithm, 4, random_share=0.0, noise_scale=0.5)
    feeds["reset"][:] = [False, True, False, True]
    found = answers(algorithm, feeds)
    normal, former = feeds["noise/normal"], feeds[STATE]
    kept = np.where(feeds["reset"][:, None], 0.0, former)
    after = 0.75 * kept + normal
    np.testing.assert_allclose(found["next_state/ornstein_uhlenbeck"], after, rtol=1e-6)
    greedy = algorithm.behaviour.bounds.to_unit(torch.from_numpy(found["greedy_action"]))
    expected = np.clip(greedy.numpy() + 0.5 * after, -1.0, 1.0)
    np.testing.assert_allclose(found["action"], expected * [2, 4] + [1, 6], rtol=1e-5, atol=1e-5)


def test_the_process_wanders_as_far_as_it_should():
    algorithm = ddpg(exploration="ornstein_uhlenbeck", ou_theta=0.15)
    feeds = feeds_of(algorithm, 5000, random_share=0.0, noise_scale=1.0)
    generator = np.random.default_rng(1)
    for _ in range(60):
        feeds["noise/normal"] = generator.standard_normal((5000, 2)).astype(np.float32)
        feeds[STATE] = answers(algorithm, feeds)["next_state/ornstein_uhlenbeck"]
    assert feeds[STATE].std() == pytest.approx(1 / np.sqrt(0.15 * 1.85), rel=0.03)


@pytest.mark.parametrize("exploration", ["gaussian", "ornstein_uhlenbeck"])
def test_the_published_policy_does_what_torch_does(exploration, graph_cache):
    algorithm = ddpg(exploration=exploration)
    publisher = Publisher(algorithm.behaviour, cache=graph_cache)
    algorithm.update(transitions_of(algorithm), 0.0)
    model = publisher.publish(1).model
    feeds = feeds_of(algorithm, 256, random_share=0.5, noise_scale=0.3)
    found, expected = onnx_answers(algorithm, model, feeds), answers(algorithm, feeds)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    space = OFFSET.agent.action
    for name in ("action", "greedy_action"):
        assert (found[name] >= space.low).all()
        assert (found[name] <= space.high).all()


def test_the_published_policy_explores_as_its_scalars_say(graph_cache):
    algorithm = td3(OFFSET)
    model = Publisher(algorithm.behaviour, cache=graph_cache).publish(1).model
    count = 20_000

    def departures(**scalars):
        found = onnx_answers(algorithm, model, feeds_of(algorithm, count, **scalars))
        return (found["action"] - found["greedy_action"]) / [2.0, 4.0], found["action"]

    none, _ = departures(random_share=0.0, noise_scale=0.0)
    np.testing.assert_allclose(none, 0.0, atol=1e-5)
    noisy, _ = departures(random_share=0.0, noise_scale=0.1)
    assert noisy.std() == pytest.approx(0.1, rel=0.02)
    _, uniform = departures(random_share=1.0, noise_scale=0.1)
    for column, low, high in ((0, -1.0, 3.0), (1, 2.0, 10.0)):
        frequencies, _ = np.histogram(uniform[:, column], 10, (low, high))
        assert (np.abs(frequencies - count / 10) < 5 * np.sqrt(count * 0.09)).all()
    half, _ = departures(random_share=0.5, noise_scale=0.0)
    moved = (np.abs(half).max(1) > 1e-4).mean()
    assert moved == pytest.approx(0.5, abs=5 * np.sqrt(0.25 / count))


@BOTH
@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (spaces.Discrete(3), "takes actions of a bounded Box.*take dqn, sac or ppo"),
        (box(2), "a Box without bounds; take ppo"),
    ],
)
def test_other_actions_are_refused_with_what_could_be_done(make, action, reason):
    with pytest.raises(UnsupportedSpaceError, match=reason):
        make(specs.single_agent(box(4), action))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"random_steps": -1}, "random_steps: -1 must not be negative"),
        ({"actor_learning_rate": 0.0}, "actor_learning_rate: 0.0 must be above 0"),
        ({"exploration_noise": -0.1}, "exploration_noise: -0.1 must not be negative"),
        ({"ou_theta": 0.0}, r"ou_theta: 0.0 must be in \(0, 1\]"),
        ({"target_tau": 0.0}, r"target_tau: 0.0 must be in \(0, 1\]"),
        ({"policy_delay": 0}, "policy_delay: 0 must be at least 1"),
        ({"target_noise_clip": -1.0}, "target_noise_clip: -1.0 must not be negative"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm: 0.0 must be above 0"),
        ({"hidden_sizes": (0,)}, "must be at least 1 each"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, reason):
    with pytest.raises(InvalidFieldError, match=reason):
        TD3Config(**config)


def test_observations_are_read_in_the_order_of_the_policys_inputs():
    algorithm = ddpg(SPECS["dict"])
    batch = transitions_of(algorithm)
    turned = dict(reversed(batch.next_columns.items()))
    swapped = dataclasses.replace(batch, next_columns=turned)
    one, other = (algorithm.minibatch(each).next_parts for each in (batch, swapped))
    assert all(map(torch.equal, one, other))
    assert one[1].shape == batch.next_columns[ColumnKey(Role.OBSERVATION, "", "camera")].shape
