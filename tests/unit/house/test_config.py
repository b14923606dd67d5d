from __future__ import annotations

import dataclasses

import pytest

from common import specs
from common.errors import InvalidFieldError
from learner.config import RunConfig, evaluation_seeds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("total_steps", 0),
        ("eval_points", -1),
        ("eval_episodes", 0),
        ("final_eval_episodes", -1),
        ("threads", -1),
        ("checkpoints_kept", 1),
        ("seed", -1),
        ("seed", 2**63),
        ("checkpoint_seconds", 0.0),
        ("checkpoint_seconds", float("nan")),
    ],
)
def test_a_number_out_of_range_is_refused_by_its_name(name, value):
    with pytest.raises(InvalidFieldError) as refused:
        RunConfig(**{name: value})
    assert refused.value.field == name


def test_evaluations_are_due_evenly_from_the_untrained_policy_on():
    config = RunConfig(total_steps=100, eval_points=4)
    assert config.evaluation_steps() == (0, 25, 50, 75)
    assert RunConfig(eval_points=0).evaluation_steps() == ()


def test_evaluation_seeds_are_the_same_for_any_number_of_episodes():
    assert evaluation_seeds(3) == evaluation_seeds(10)[:3]


def test_evaluations_are_in_the_training_environment_unless_said_otherwise():
    config = RunConfig(env="A-v0", env_args={"x": 1})
    assert config.evaluation_environment() == config.training_environment()
    other = RunConfig(env="A-v0", env_args={"x": 1}, eval_env="B-v0", eval_env_args={"y": True})
    found = other.evaluation_environment()
    assert (found.id, specs.arguments_from_proto(found)) == ("B-v0", {"y": True})


def test_a_run_needs_an_environment():
    with pytest.raises(InvalidFieldError, match="env: is missing; name one"):
        RunConfig().training_environment()


def test_an_argument_that_cannot_travel_is_refused():
    with pytest.raises(InvalidFieldError, match=r"arguments\[x\]"):
        RunConfig(env="A-v0", env_args={"x": object()}).training_environment()


def test_evaluations_wear_the_wrappers_of_training_unless_told_otherwise():
    config = RunConfig(env="A-v0", wrapper=("m:A", "n:B"))
    assert list(config.training_environment().wrappers) == ["m:A", "n:B"]
    assert list(config.evaluation_environment().wrappers) == ["m:A", "n:B"]
    bare = dataclasses.replace(config, eval_wrapper=("none",))
    assert list(bare.evaluation_environment().wrappers) == []
    other = dataclasses.replace(config, env="e:make", eval_wrapper=("o:C",))
    assert list(other.evaluation_environment().wrappers) == ["o:C"]
    assert other.modules() == ("e", "m", "n", "o")


@pytest.mark.parametrize(
    ("field", "name"), [("wrapper", "Mine"), ("wrapper", "none"), ("eval_wrapper", "Mine")]
)
def test_a_wrapper_has_a_module(field, name):
    with pytest.raises(InvalidFieldError, match=f"{field}: '{name}' is no module:wrapper"):
        RunConfig(**{field: (name,)})
