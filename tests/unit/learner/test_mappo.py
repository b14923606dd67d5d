"""MAPPO and IPPO: one graph for all agents, who counts, what critics see, normalised values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from joint_support import TEAM
from learner_support import discrete_spec, parameters, undocumented
from team_round_support import OVER, made, rolled, with_a_death

from common.errors import InvalidFieldError, UnsupportedSpaceError
from common.signature import ColumnKey, Role
from learner.algorithms import registry
from learner.losses import value
from learner.networks.normalisation import ValueNormaliser
from learner.publishing import sessions
from learner.publishing.examples import example_inputs
from learner.publishing.publisher import Publisher

NAMES = ["mappo", "ippo"]
SHARING = ["shared", "per_role", "per_agent"]


@pytest.mark.parametrize("policies", SHARING)
@pytest.mark.parametrize("name", NAMES)
def test_at_a_fresh_version_the_ratio_is_1_and_an_update_changes_both_networks(name, policies):
    algorithm = made(name, policies=policies, n_minibatches=3)
    before = parameters(algorithm)
    metrics = algorithm.update(with_a_death(rolled(algorithm)), 0.0)
    assert metrics["train/fresh_ratio_error"] < 1e-5
    assert np.isfinite(list(metrics.values())).all()
    changed = [key for key, one in algorithm.tensors().items() if not torch.equal(one, before[key])]
    for part in ("behaviour.head", "critic.layers", "returns.moments"):
        assert any(key.startswith(part) for key in changed), part


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_on_from_its_state_bit_for_bit(name):
    one, other = made(name), made(name)
    one.update(rolled(one), 0.0)
    other.load_tensors(parameters(one))
    other.load_values(one.values())
    batch = rolled(one, seed=1)
    for algorithm in (one, other):
        algorithm.update(batch, 0.5)
    for key, tensor in one.tensors().items():
        assert torch.equal(tensor, other.tensors()[key]), key


@pytest.mark.timeout(400)  # an export takes minutes on a machine that is busy
@pytest.mark.parametrize("policies", ["shared", "per_role"])
def test_one_graph_acts_for_all_agents_as_torch_does(policies, graph_cache):
    behaviour = made(policies=policies).behaviour
    model = Publisher(behaviour, cache=graph_cache).publish(1).model
    feeds = example_inputs(behaviour, np.random.default_rng(3), 64)
    names = [output.name for output in behaviour.outputs]
    found = sessions.run(sessions.session_of(model), names, feeds)
    with torch.no_grad():
        expected = behaviour(*(torch.from_numpy(array) for array in feeds.values()))
    for output, tensor in zip(behaviour.outputs, expected, strict=True):
        assert found[output.name].shape == (64, *output.shape)
        np.testing.assert_allclose(found[output.name], tensor.numpy(), rtol=1e-4, atol=1e-4)
    mask = feeds["action_mask/walker"] | ~feeds["action_mask/walker"].any(2, keepdims=True)
    for name in ("action/walker", "greedy_action/walker"):
        assert np.take_along_axis(mask, (found[name] - 7)[..., None], 2).all()


def test_agents_that_are_gone_count_in_nothing():
    """Whatever stands in the rows of a dead agent, and in those of no step, changes nothing."""
    one, other = made(team_reward="none"), made(team_reward="none")
    batch = with_a_death(rolled(one))
    changed = with_a_death(rolled(one))
    for role in (Role.REWARD, Role.OBSERVATION, Role.RECORD):
        for key, column in changed.columns.items():
            if key.role == role and key.group == "walker":
                column[2:4, 0, 0] += 1.0
    # Of the entry behind the cut only what the others see is looked at.
    changed.columns[ColumnKey(Role.OBSERVATION, "walker")][4, 0, 0] += 1.0
    changed.columns[ColumnKey(Role.REWARD, "walker")][4, 0] += 1.0
    data = one._rollout(batch)
    assert data.valid.reshape(6, 3, 4)[:, 0].tolist() == [
        [True] * 4,
        [True] * 4,
        [False, True, True, True],
        [False, True, True, True],
        [False] * 4,
        [True] * 4,
    ]
    assert one.update(batch, 0.0) == other.update(changed, 0.0)
    for key, tensor in one.tensors().items():
        assert torch.equal(tensor, other.tensors()[key]), key


def test_an_agents_own_end_ends_its_returns_and_a_time_limit_bootstraps():
    algorithm = made(team_reward="none", gamma=0.5, gae_lambda=1.0, normalise_values=False)
    with torch.no_grad():
        for one in algorithm._critic.parameters():
            one.zero_()
        algorithm._critic.layers.layers.biases[-1].fill_(8.0)
    batch = with_a_death(rolled(algorithm))
    for group in ("walker", "scout"):
        batch.columns[ColumnKey(Role.REWARD, group)][:] = 1.0
    data = algorithm._rollout(batch)
    targets = algorithm._estimates(data, data.leaves).targets.reshape(6, 3, 4)
    cut = 1 + 0.5 * (1 + 0.5 * (1 + 0.5 * (1 + 0.5 * 8.0)))
    torch.testing.assert_close(targets[0, 0], torch.tensor([1.5, cut, cut, cut]))
    torch.testing.assert_close(targets[1, 0, 0], torch.tensor(1.0))
    torch.testing.assert_close(targets[3, 0, 1:], torch.full((3,), 5.0))


def test_critics_see_the_state_the_own_observation_and_zeros_for_who_is_gone():
    def seen(algorithm, batch):
        """By actors and by critics, [7, 3, 4, ...]."""
        leaves = algorithm._rollout(batch).leaves
        rows = algorithm.behaviour.encoder(leaves), algorithm._critic.view(leaves)
        return (each.reshape(7, 3, 4, -1) for each in rows)

    central = made()
    own, judged = seen(central, with_a_death(rolled(central)))
    batch = with_a_death(rolled(central))
    states = torch.from_numpy(batch.columns[ColumnKey(Role.GLOBAL_STATE)])
    assert judged.shape[3] == 3 + own.shape[3]
    torch.testing.assert_close(judged[0, :, 2, :3], states[0])
    torch.testing.assert_close(judged[0, ..., 3:], own[0])
    assert judged[2:5, 0, 0].abs().sum() == 0  # dead, and not cut off
    torch.testing.assert_close(judged[4, 0, 1:, 3:], own[4, 0, 1:])  # cut off
    joint = made(state="observations")
    own, judged = seen(joint, with_a_death(rolled(joint)))
    width = own.shape[3]
    assert judged.shape[3] == 5 * width
    torch.testing.assert_close(judged[0, 1, 3, : 4 * width], own[0, 1].flatten())
    assert judged[2, 0, 1, :width].abs().sum() == 0
    alone = made("ippo")
    own, judged = seen(alone, rolled(alone))
    torch.testing.assert_close(own, judged)


def test_final_observations_follow_their_rows():
    algorithm = made(spec=TEAM)
    batch = rolled(algorithm)
    key = ColumnKey(Role.OBSERVATION, "agent")
    finals = {key: np.full((1, 3, 4), 2.0, np.float32)}
    finals[ColumnKey(Role.ALIVE, "agent")] = np.zeros((1, 3), np.bool_)
    batch = dataclasses.replace(
        batch, final_rows=np.array([2]), final_slots=np.array([1]), final_columns=finals
    )
    batch.columns[ColumnKey(Role.TERMINATED, "agent")][2, 1, 0] = True
    batch.columns[OVER][2, 1] = True
    data = algorithm._rollout(batch)
    assert data.final_rows.tolist() == [2, 2, 2]
    assert data.final_slots.tolist() == [3, 4, 5]
    assert data.leaves[0][-1].unique().tolist() == [2.0]
    judged = algorithm._critic.view(data.leaves)
    assert judged[-3].abs().sum() == 0
    assert judged[-2, -4:].tolist() == [2.0] * 4
    assert data.truncated.reshape(6, 3, 3)[2, 1].all()


@pytest.mark.parametrize(
    ("reward", "expected"), [("none", [1, 2, 6]), ("mean", [3] * 3), ("sum", [9] * 3)]
)
def test_rewards_are_an_agents_own_or_the_teams(reward, expected):
    algorithm = made(spec=TEAM, team_reward=reward)
    batch = rolled(algorithm)
    batch.columns[ColumnKey(Role.REWARD, "agent")][:] = [1.0, 2.0, 6.0]
    assert algorithm._rollout(batch).rewards[0, :3].tolist() == expected


def test_the_agents_of_a_step_stay_in_one_minibatch():
    algorithm = made(n_minibatches=2)
    order, weights, _ = algorithm._order(algorithm._rollout(with_a_death(rolled(algorithm))))
    assert sorted(order.reshape(-1).tolist()) == list(range(6 * 3 * 4))
    assert (order.reshape(-1, 4) // 4 == order.reshape(-1, 4)[:, :1] // 4).all()
    assert weights.sum() == 6 * 3 * 4 - 2 - 4


def test_a_policy_of_ones_own_is_told_nothing_and_sharers_their_number():
    rows = torch.zeros(4, made().behaviour.encoder.seen.features)
    for policies, different in (("shared", 4), ("per_role", 4), ("per_agent", 4)):
        head = made(policies=policies).behaviour.head
        with torch.no_grad():
            head.layers.biases[0].normal_()
            assert len(head(rows).unique(dim=0)) == different
    assert made(policies="per_agent").behaviour.head.ids is None
    assert made(policies="per_role").behaviour.head.layers.weights[0].shape[0] == 3


def test_normalised_values_by_hand():
    moments = ValueNormaliser(decay=0.9)
    assert moments.normalise(torch.tensor([3.0])).item() == 3.0
    moments.update(np.array([1.0, 3.0], np.float32))
    assert (moments.mean, moments.deviation) == pytest.approx((2.0, 1.0))
    moments.update(np.array([6.0]))
    mean = (0.9 * 2.0 + 6.0) / 1.9
    square = (0.9 * 5.0 + 36.0) / 1.9
    assert moments.mean == pytest.approx(mean)
    assert moments.deviation == pytest.approx(np.sqrt(square - mean**2))
    returns = torch.tensor([-4.0, 7.0])
    torch.testing.assert_close(moments.denormalise(moments.normalise(returns)), returns)
    moments.update(np.empty(0))
    assert moments.mean == pytest.approx(mean)
    other = ValueNormaliser(decay=0.9)
    other.load_tensors(moments.tensors())
    assert other.mean == moments.mean


def test_the_value_loss_is_hubers_and_clipped():
    values, returns, old = torch.tensor([[0.0, 20.0, 1.0], [0.0, 0.0, 3.0], [0.0, 20.0, 0.0]])
    losses = value.clipped_huber(values, returns, old, 10.0, 0.2)
    expected = [0.0, 10.0 * (20.0 - 5.0), 0.5 * 2.8**2]
    torch.testing.assert_close(losses, torch.tensor(expected))
    torch.testing.assert_close(value.huber(values, returns, 10.0)[2], torch.tensor(2.0))


def test_it_learns_on_normalised_returns():
    algorithm = made(spec=TEAM, epochs=1)
    batch = rolled(algorithm)
    batch.columns[ColumnKey(Role.REWARD, "agent")][:] += 100.0
    algorithm.update(batch, 0.0)
    assert algorithm._returns.mean > 100.0
    data = algorithm._rollout(batch)
    targets = algorithm._as_values(algorithm._estimates(data, data.leaves).targets)
    assert targets.abs().max() < 20.0
    assert "returns.moments" in algorithm.tensors()
    assert "returns.moments" not in made(normalise_values=False).tensors()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"share_encoder": True}, "must be False"),
        ({"normalise_observations": True}, "must be False"),
        ({"value_huber_delta": 0.0}, "must be above 0"),
    ],
)
def test_settings_that_cannot_work(settings, said):
    with pytest.raises(InvalidFieldError, match=said):
        made(**settings)


@pytest.mark.parametrize("name", NAMES)
def test_environments_that_it_does_not_take(name):
    with pytest.raises(UnsupportedSpaceError, match="this one has a single agent; take ppo"):
        made(name, discrete_spec())
    with pytest.raises(UnsupportedSpaceError, match="no global state"):
        made("mappo", TEAM, state="global")


def test_the_global_state_travels_only_where_it_is_looked_at():
    def recorded(algorithm):
        return Role.GLOBAL_STATE in {c.key.role for c in algorithm.signature.columns}

    assert recorded(made())
    assert not recorded(made(state="observations"))
    assert not recorded(made("ippo"))


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_explained(name):
    assert undocumented(registry.resolve(name).Config) == []
