from __future__ import annotations

import pytest

from common.errors import InvalidFieldError
from learner import presets, schema
from learner.algorithms import registry
from learner.config import RunConfig
from wiserl.local import LocalConfig
from wiserl.settings import Settings

PRESETS = [
    (algorithm, environment)
    for algorithm in presets.algorithms()
    for environment in presets.environments(algorithm)
]


def test_every_built_in_algorithm_has_presets():
    assert presets.algorithms() == sorted(registry.BUILT_IN)


@pytest.mark.parametrize(("algorithm", "environment"), PRESETS)
def test_every_preset_fits_the_schema(algorithm, environment):
    settings = Settings.gather(algorithm, environment=environment, variables={})
    settings.applied(RunConfig(), "run")
    settings.applied(LocalConfig(), "local")
    settings.applied(registry.resolve(algorithm).Config(), "hyperparameters")


@pytest.mark.parametrize("environment", ["CartPole-v1", "Acrobot-v1", "Pendulum-v1"])
def test_the_tasks_with_a_gate_have_a_ppo_preset(environment):
    assert environment in presets.environments("ppo")


@pytest.mark.parametrize("environment", ["CartPole-v1", "Acrobot-v1", "MinAtar/Breakout-v1"])
def test_the_tasks_with_a_gate_have_a_dqn_preset(environment):
    assert environment in presets.environments("dqn")


@pytest.mark.parametrize("environment", ["CartPole-v1", "Acrobot-v1", "Pendulum-v1"])
def test_the_tasks_with_a_reference_have_a_trpo_preset(environment):
    assert environment in presets.environments("trpo")


@pytest.mark.parametrize("algorithm", ["ddpg", "td3", "sac"])
def test_the_task_with_a_gate_has_a_preset_of_each_for_continuous_actions(algorithm):
    assert "Pendulum-v1" in presets.environments(algorithm)


@pytest.mark.parametrize("task", ["spread_v3", "speaker_listener_v4", "tag_v3", "adversary_v3"])
def test_the_particle_environments_have_a_maddpg_preset(task):
    assert f"mpe2/simple_{task}" in presets.environments("maddpg")


@pytest.mark.parametrize("algorithm", ["mappo", "ippo"])
@pytest.mark.parametrize("task", ["spread_v3", "speaker_listener_v4"])
def test_the_cooperative_particle_environments_have_presets_of_both(algorithm, task):
    assert f"mpe2/simple_{task}" in presets.environments(algorithm)


@pytest.mark.parametrize("algorithm", presets.algorithms())
def test_every_default_tells_the_size_of_a_round_so_that_samplers_start_early(algorithm):
    found = Settings.gather(algorithm, environment="Unknown-v0", variables={})
    assert isinstance(found.peek("hyperparameters", "n_envs"), int)


def test_an_environment_lies_above_the_default_and_an_unknown_one_has_the_default():
    assert [layer.origin for layer in presets.load("ppo", "CartPole-v1")] == [
        "preset ppo, default",
        "preset ppo, CartPole-v1",
    ]
    assert [layer.origin for layer in presets.load("ppo", "Unknown-v0")] == ["preset ppo, default"]


def test_a_class_of_the_users_own_has_no_preset():
    assert presets.load("module:Class", "CartPole-v1") == []
    assert presets.load("../ppo", "CartPole-v1") == []


def test_a_key_that_is_no_hyperparameter_is_refused_with_the_nearest():
    layer = schema.layer_of({"hyperparameters": {"gama": 0.9}}, "preset ppo, X")
    with pytest.raises(
        InvalidFieldError, match=r"preset ppo, X: there is no setting gama; .*gamma"
    ):
        schema.apply(registry.resolve("ppo").Config(), "hyperparameters", [layer])
