import dataclasses
from typing import Literal

import pytest

from common.errors import InvalidFieldError
from common.variables import from_environment, variable_of


@dataclasses.dataclass(frozen=True)
class Options:
    name: str = "none"
    workers: int = 1
    pace: float = 1.0
    quick: bool = False
    mode: Literal["plain", "native"] = "plain"
    modules: tuple[str, ...] = ()
    limit: int | None = None


def test_a_variable_is_named_after_its_field():
    assert variable_of("envs_per_worker") == "WISERL_ENVS_PER_WORKER"


def test_defaults_where_nothing_is_set():
    assert from_environment(Options, {"WISERL_WORKERS": "", "WORKERS": "9"}) == Options()


def test_every_kind_of_field():
    variables = {
        "WISERL_NAME": "a b",
        "WISERL_WORKERS": "4",
        "WISERL_PACE": "0.5",
        "WISERL_QUICK": "True",
        "WISERL_MODE": "native",
        "WISERL_MODULES": "one, two.three,",
        "WISERL_LIMIT": "7",
    }
    expected = Options("a b", 4, 0.5, True, "native", ("one", "two.three"), 7)
    assert from_environment(Options, variables) == expected


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        ("WISERL_WORKERS", "many", "WISERL_WORKERS: 'many' is no integer"),
        ("WISERL_PACE", "fast", "WISERL_PACE: 'fast' is no number"),
        ("WISERL_QUICK", "maybe", "WISERL_QUICK: 'maybe' is neither true nor false"),
        ("WISERL_MODE", "fast", "WISERL_MODE: 'fast' is none of plain, native"),
    ],
)
def test_a_text_that_is_no_value_is_named(variable, text, complaint):
    with pytest.raises(InvalidFieldError, match=complaint):
        from_environment(Options, {variable: text})


def test_the_process_is_asked_by_default(monkeypatch):
    monkeypatch.setenv("WISERL_WORKERS", "3")
    assert from_environment(Options).workers == 3
