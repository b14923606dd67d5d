from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest

from common.errors import InvalidFieldError
from learner import schema
from learner.schema import Layer


@dataclasses.dataclass(frozen=True)
class Settings:
    learning_rate: float = 1e-3
    n_steps: int = 128
    n_envs: int | Literal["auto"] = 8
    schedule: Literal["linear", "constant"] = "linear"
    hidden_sizes: tuple[int, ...] | None = None
    pair: tuple[float, float] = (0.0, 1.0)
    normalise: bool = False
    network: str = "auto"
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise InvalidFieldError("n_steps", f"{self.n_steps} is below 1")


def applied(**values):
    return schema.apply(Settings(), "hyperparameters", [Layer("test", {"hyperparameters": values})])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", 1, 1.0),
        ("n_steps", "1e3", 1000),
        ("n_steps", "1_000", 1000),
        ("n_steps", 2.0, 2),
        ("n_steps", 2**60 + 1, 2**60 + 1),
        ("n_envs", "auto", "auto"),
        ("n_envs", "4", 4),
        ("schedule", "constant", "constant"),
        ("hidden_sizes", [64, 32], (64, 32)),
        ("hidden_sizes", "64, 32", (64, 32)),
        ("hidden_sizes", 64, (64,)),
        ("hidden_sizes", None, None),
        ("hidden_sizes", "none", None),
        ("pair", [1, 2], (1.0, 2.0)),
        ("normalise", "yes", True),
        ("normalise", "0", False),
        ("network", 3, "3"),
        ("arguments", '{"a": 1}', {"a": 1}),
        ("arguments", {"a": [1, 2]}, {"a": [1, 2]}),
    ],
)
def test_values_become_what_the_field_is(name, value, expected):
    found = getattr(applied(**{name: value}), name)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", "fast"),
        ("learning_rate", True),
        ("learning_rate", None),
        ("n_steps", 1.5),
        ("n_steps", "many"),
        ("n_steps", True),
        ("n_steps", "inf"),
        ("n_envs", "some"),
        ("schedule", "cosine"),
        ("hidden_sizes", ["a"]),
        ("pair", [1]),
        ("normalise", "maybe"),
        ("network", [1]),
        ("arguments", "3"),
        ("arguments", {1: 2}),
    ],
)
def test_values_of_another_type_are_refused_by_origin_and_name(name, value):
    with pytest.raises(InvalidFieldError, match=f"test: {name}"):
        applied(**{name: value})


def test_an_unknown_setting_is_refused_with_the_nearest():
    with pytest.raises(InvalidFieldError, match="no setting learning_rat; did you mean learning_"):
        applied(learning_rat=1.0)


def test_later_layers_lie_above_earlier_ones():
    layers = [
        Layer("low", {"hyperparameters": {"n_steps": 1, "network": "low"}}),
        Layer("high", {"hyperparameters": {"n_steps": 2}}),
    ]
    found = schema.apply(Settings(), "hyperparameters", layers)
    assert (found.n_steps, found.network) == (2, "low")


def test_what_the_dataclass_refuses_is_refused():
    with pytest.raises(InvalidFieldError, match="n_steps: 0 is below 1"):
        applied(n_steps=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs: {}", "no section runs; did you mean run"),
        ("run: 3", "run: is no mapping"),
        ("- 1", "holds a list"),
        ("a: [", "is no YAML"),
    ],
)
def test_a_file_that_is_no_layer_is_refused(tmp_path, text, message):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(InvalidFieldError, match=message):
        schema.read(path)


def test_a_file_that_constructs_objects_is_refused(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("run: !!python/object/apply:os.getcwd []")
    with pytest.raises(InvalidFieldError, match="is no YAML"):
        schema.read(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidFieldError, match="cannot be read"):
        schema.read(tmp_path / "nothing.yaml")


def test_a_file_may_be_empty_and_may_name_its_algorithm(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("")
    assert schema.read(path).section("run") == {}
    path.write_text("algorithm: ppo\nrun: {seed: 3}")
    layer = schema.read(path)
    assert (layer.algorithm, layer.section("run")) == ("ppo", {"seed": 3})
