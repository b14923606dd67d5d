"""PPO's update on rounds made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learner_support import (
    ACTION,
    CPU,
    LOG_PROB,
    OBSERVATION,
    REWARD,
    SPECS,
    TERMINATED,
    TRUNCATED,
    VALID,
    assert_same,
    box,
    continuous_spec,
    discrete_spec,
    parameters,
    ppo,
    round_of,
    with_finals,
)
from torch import nn

from common import spaces
from common.errors import InvalidFieldError
from common.signature import ColumnKey, Role
from learner.algorithms.ppo import PPOConfig


def updated(algorithm, batch, progress=0.0):
    """The state after an update."""
    algorithm.update(batch, progress)
    return parameters(algorithm)


@pytest.mark.parametrize("name", SPECS)
def test_every_space_trains_and_says_how_it_went(name):
    algorithm = ppo(SPECS[name])
    before = parameters(algorithm)
    metrics = algorithm.update(round_of(algorithm), 0.5)
    assert metrics["train/learning_rate"] == pytest.approx(0.5 * 2.5e-4)
    assert metrics["train/n_updates"] == 2.0
    assert all(np.isfinite(number) for number in metrics.values()), metrics
    assert ("train/std" in metrics) == isinstance(SPECS[name].agent.action, spaces.Box)
    after = algorithm.tensors()
    unchanged = {key for key, tensor in before.items() if torch.equal(tensor, after[key])} - {
        "behaviour.encoder.images.0.dense.0.bias"
    }
    assert unchanged == set()


def test_metrics_have_the_usual_names():
    algorithm = ppo(continuous_spec())
    assert algorithm.update(round_of(algorithm), 0.0).keys() == {
        "train/approx_kl",
        "train/clip_fraction",
        "train/clip_range",
        "train/entropy_loss",
        "train/explained_variance",
        "train/fresh_ratio_error",
        "train/gradient_norm",
        "train/learning_rate",
        "train/loss",
        "train/n_updates",
        "train/policy_gradient_loss",
        "train/std",
        "train/value_loss",
    }


def test_another_seed_gives_other_parameters_and_another_order():
    first, second = ppo(discrete_spec(), seed=0), ppo(discrete_spec(), seed=1)
    assert not torch.equal(
        first.behaviour.state_dict()["head.0.weight"],
        second.behaviour.state_dict()["head.0.weight"],
    )
    assert first.values()["shuffle"] != second.values()["shuffle"]


def test_the_global_generator_is_left_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    ppo(discrete_spec())
    assert torch.equal(torch.rand(3), expected)


def test_a_state_of_another_network_is_refused_by_name():
    wide, usual = ppo(discrete_spec(), hidden_sizes=(8,)), ppo(discrete_spec())
    with pytest.raises(InvalidFieldError, match="another algorithm, environment or network"):
        usual.load_tensors(wide.tensors())
    other = ppo(discrete_spec(box(5)))
    with pytest.raises(InvalidFieldError, match=r"of shape \(64, 5\), needed is \(64, 4\)"):
        usual.load_tensors(other.tensors())


def test_an_observation_of_a_row_that_is_no_step_counts_for_no_statistic():
    algorithm, other = ppo(continuous_spec()), ppo(continuous_spec())
    batch = round_of(algorithm)
    batch.columns[TRUNCATED][2, 1] = True
    batch.columns[VALID][3, 1] = False
    algorithm.update(batch, 0.0)
    batch.columns[OBSERVATION][3, 1] = 1e3
    other.update(batch, 0.0)
    name = "observations.mean"
    assert torch.equal(algorithm.tensors()[name], other.tensors()[name])


def test_what_lies_beyond_the_budget_is_not_learnt_from():
    full, cut = ppo(discrete_spec(), n_minibatches=1), ppo(discrete_spec(), n_minibatches=1)
    batch = round_of(full)
    batch.columns[VALID][4:, 2] = False
    batch.columns[VALID][:, 3] = False
    expected = updated(full, batch)
    for column in (ACTION, REWARD):
        batch.columns[column][:, 3] = 1
        batch.columns[column][4:, 2] = 1
    assert_same(expected, updated(cut, batch))


def test_a_minibatch_without_a_valid_row_is_skipped():
    algorithm = ppo(discrete_spec(), n_minibatches=32, epochs=1)
    batch = round_of(algorithm)
    batch.columns[VALID][:] = False
    batch.columns[VALID][0, :3] = True
    metrics = algorithm.update(batch, 0.0)
    assert algorithm.tensors()["optimiser.step"].item() == 3.0
    assert np.isfinite(metrics["train/loss"])


def test_a_final_observation_is_what_a_step_led_to():
    dense, sparse = ppo(discrete_spec(), n_minibatches=1), ppo(discrete_spec(), n_minibatches=1)
    batch = round_of(dense)
    batch.columns[TRUNCATED][3, 2] = True
    batch.columns[VALID][4, 2] = False
    batch.columns[TRUNCATED][-1, 0] = True
    expected = updated(dense, batch)
    # The same, told apart: what stands in the next row is anything.
    finals = [batch.columns[OBSERVATION][4, 2].copy(), batch.columns[OBSERVATION][8, 0].copy()]
    batch.columns[OBSERVATION][4, 2] = 7.0
    batch.columns[OBSERVATION][8, 0] = 7.0
    found = updated(sparse, with_finals(batch, [3, 7], [2, 0], finals))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=name)


def test_statistics_are_frozen_through_a_round_and_take_it_in_afterwards():
    algorithm = ppo(continuous_spec())
    normaliser = algorithm.behaviour.preprocess.normaliser
    seen = []
    original = algorithm._minibatches

    def spied(*arguments):
        seen.append(normaliser.mean.clone())
        return original(*arguments)

    algorithm._minibatches = spied
    batch = round_of(algorithm)
    batch.columns[OBSERVATION] += 5.0
    algorithm.update(batch, 0.0)
    assert [mean.tolist() for mean in seen] == [[0.0, 0.0, 0.0]] * 2
    expected = batch.columns[OBSERVATION][:-1].reshape(-1, 3).mean(0)
    torch.testing.assert_close(normaliser.mean, torch.from_numpy(expected))


def test_discrete_actions_leave_observations_and_rewards_as_they_are():
    algorithm = ppo(discrete_spec())
    assert algorithm.behaviour.preprocess.normaliser is None
    assert not [name for name in algorithm.tensors() if name.startswith(("observ", "rewards"))]
    asked = ppo(discrete_spec(), normalise_observations=True, scale_rewards=True)
    assert asked.behaviour.preprocess.normaliser is not None
    assert "rewards.running" in asked.tensors()


def test_clipped_rewards_are_signs():
    clipped, signs = ppo(discrete_spec(), clip_rewards=True), ppo(discrete_spec())
    batch = round_of(clipped)
    batch.columns[REWARD][0] = 0.0
    expected = updated(clipped, batch)
    batch.columns[REWARD][:] = np.sign(batch.columns[REWARD])
    assert_same(expected, updated(signs, batch))


def rewarding_action_one(algorithm, seed: int):
    """A round in which action 1 is worth 1 and action 0 nothing, with fair actions."""
    batch = round_of(algorithm, seed=seed)
    batch.columns[LOG_PROB][:] = np.log(0.5)
    batch.columns[REWARD][:] = batch.columns[ACTION]
    batch.columns[TERMINATED][:] = True
    return batch


def test_a_kl_target_ends_the_update_early():
    batch = rewarding_action_one(ppo(discrete_spec()), 0)
    steps = []
    for target in (None, 1e-6):
        algorithm = ppo(discrete_spec(), epochs=5, learning_rate=1e-2, target_kl=target)
        algorithm.update(batch, 0.0)
        steps.append(algorithm.tensors()["optimiser.step"].item())
    assert steps == [10.0, 2.0]


def test_values_may_be_clipped():
    batch = round_of(ppo(discrete_spec()))
    free = updated(ppo(discrete_spec(), learning_rate=1e-2), batch)
    wide = updated(ppo(discrete_spec(), learning_rate=1e-2, value_clip_range=1e6), batch)
    narrow = updated(ppo(discrete_spec(), learning_rate=1e-2, value_clip_range=1e-3), batch)
    for name, tensor in free.items():
        torch.testing.assert_close(wide[name], tensor, msg=name)
    assert not torch.allclose(free["critic.layers.0.weight"], narrow["critic.layers.0.weight"])


def test_recomputed_advantages_differ_from_the_second_epoch_on():
    batch = round_of(ppo(discrete_spec()))
    for epochs, same in ((1, True), (2, False)):
        states = [
            updated(
                ppo(discrete_spec(), epochs=epochs, learning_rate=1e-2, recompute_advantages=again),
                batch,
            )
            for again in (True, False)
        ]
        name = "behaviour.head.0.weight"
        assert torch.equal(states[0][name], states[1][name]) is same


def test_schedules_go_to_zero_or_stay():
    linear = ppo(discrete_spec(), clip_range_schedule="linear")
    constant = ppo(discrete_spec(), learning_rate_schedule="constant")
    assert linear._schedules(0.75) == pytest.approx((0.25 * 2.5e-4, 0.05))
    assert constant._schedules(0.75) == pytest.approx((2.5e-4, 0.2))


def test_gradients_are_clipped_by_the_norm_over_all_parameters():
    algorithm = ppo(discrete_spec(), n_minibatches=1, epochs=1, max_gradient_norm=0.1)
    batch = round_of(algorithm)
    batch.columns[REWARD][:] *= 100.0
    metrics = algorithm.update(batch, 0.0)
    assert metrics["train/gradient_norm"] > 0.1
    clipped = torch.linalg.vector_norm(algorithm._adam._gradient).item()
    assert clipped == pytest.approx(0.1, rel=1e-3)


def test_the_flat_optimiser_steps_as_torchs_adam():
    algorithm = ppo(discrete_spec(), n_minibatches=1, epochs=1, max_gradient_norm=1e9)
    twin = {name: nn.Parameter(tensor) for name, tensor in parameters(algorithm).items()}
    names = [name for name in twin if name.startswith(("behaviour.", "critic."))]
    adam = torch.optim.Adam([twin[name] for name in names], lr=2.5e-4, eps=1e-5)
    live = {
        **dict(algorithm.behaviour.named_parameters("behaviour")),
        **dict(algorithm._critic.named_parameters("critic")),
    }
    for seed in range(2):
        algorithm.update(round_of(algorithm, seed=seed), 0.0)
        for name in names:
            twin[name].grad = live[name].grad.clone()
        adam.step()
    for name in names:
        torch.testing.assert_close(live[name].detach(), twin[name].detach(), msg=name)


def test_a_shared_encoder_is_in_the_state_once():
    shared, apart = ppo(SPECS["image"]), ppo(SPECS["image"], share_encoder=False)
    own = [name for name in apart.tensors() if name.startswith("critic.encoder")]
    assert own
    assert not [name for name in shared.tensors() if name.startswith("critic.encoder")]
    apart.update(round_of(apart), 0.0)


def test_any_number_of_environments_with_auto():
    algorithm = ppo(discrete_spec(), n_envs="auto")
    assert algorithm.n_envs is None
    for n_envs in (2, 3):
        algorithm.update(round_of(ppo(discrete_spec(), n_envs=n_envs)), 0.0)
    uneven = ppo(discrete_spec(), n_envs="auto", n_steps=5)
    with pytest.raises(InvalidFieldError, match="does not divide the 15 rows"):
        uneven.update(round_of(ppo(discrete_spec(), n_envs=3, n_steps=5, n_minibatches=1)), 0.0)


@pytest.mark.parametrize(
    ("field", "setting", "text"),
    [
        ("n_envs", 0, "must be at least 1"),
        ("n_minibatches", 3, r"3 does not divide the 1024 rows of n_envs \(8\) x n_steps \(128\)"),
        ("hidden_sizes", (64, 0), "at least 1 each"),
        ("learning_rate", 0.0, "above 0"),
        ("learning_rate", float("nan"), "above 0"),
        ("clip_range", -0.1, "above 0"),
        ("target_kl", 0.0, "above 0, or none"),
        ("entropy_coefficient", -1.0, "negative"),
        ("gamma", 1.5, r"in \(0, 1\]"),
        ("gae_lambda", -0.5, r"in \[0, 1\]"),
    ],
)
def test_settings_that_cannot_work_are_refused(field, setting, text):
    with pytest.raises(InvalidFieldError, match=text) as caught:
        PPOConfig(**{field: setting})
    assert caught.value.field == field


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.1)])
def test_layers_that_act_otherwise_in_training_are_refused(layer, own_module):
    own_module.factory = lambda space: nn.Sequential(nn.Linear(4, 4), layer.eval())
    with pytest.raises(InvalidFieldError, match=type(layer).__name__):
        ppo(discrete_spec(), network="own_module:factory")


def test_the_columns_of_a_batch():
    columns = ppo(SPECS["dict"]).signature.columns
    assert [str(column.key) for column in columns] == [
        "observation/camera",
        "observation/kind",
        "observation/speed",
        "action",
        "reward",
        "terminated",
        "truncated",
        "is_first",
        "valid",
        "episode_end",
        "record/log_prob",
        "record/raw_action",
    ]
    dtypes = {str(column.key): column.dtype.name for column in columns}
    assert dtypes["observation/camera"] == "uint8"
    assert dtypes["observation/kind"] == "int64"
    assert dtypes["observation/speed"] == "float32"


def test_a_mask_is_fed_and_recorded():
    signature = ppo(SPECS["masked"]).signature
    (fed,) = signature.inputs_of(Role.ACTION_MASK)
    assert (fed.shape, fed.dtype) == ((3,), np.bool_)
    assert ColumnKey(Role.ACTION_MASK) in {column.key for column in signature.columns}


def test_everything_is_on_the_device_asked_for():
    algorithm = ppo(continuous_spec())
    assert {tensor.device for tensor in algorithm.behaviour.state_dict().values()} == {CPU}
