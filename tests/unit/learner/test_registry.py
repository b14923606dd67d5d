"""Algorithms by name."""

from __future__ import annotations

import sys

import pytest

from common.errors import InvalidFieldError
from learner import training
from learner.algorithms import registry
from learner.algorithms.ppo import PPO
from learner.config import RunConfig


def test_a_built_in_by_its_name():
    assert registry.resolve("ppo") is PPO


def test_every_built_in_is_called_what_it_is_registered_as():
    for name in registry.BUILT_IN:
        assert registry.resolve(name).name == name


def test_those_without_a_queue_or_a_replay_are_synchronous_by_themselves():
    classes = {name: registry.resolve(name) for name in registry.BUILT_IN}
    by_themselves = {
        name for name, one in classes.items() if training.is_synchronous(one, RunConfig())
    }
    assert by_themselves == {"ppo", "trpo", "mappo", "ippo"}
    for told in (True, False):
        assert training.is_synchronous(classes["impala"], RunConfig(sync=told)) is told


def test_an_unknown_name_is_told_what_there_is():
    known = "appo, ddpg, dqn, impala, ippo, iql, maddpg, mappo, ppo, qmix, sac, td3, trpo, vdn"
    with pytest.raises(InvalidFieldError, match=rf"'pro' is none of {known}; .*module:Class"):
        registry.resolve("pro")


def test_ones_own_by_its_reference(own_module):
    own_module.Mine = type("Mine", (PPO,), {})
    assert registry.resolve("own_module:Mine") is own_module.Mine
    with pytest.raises(InvalidFieldError, match="no 'Other' in own_module"):
        registry.resolve("own_module:Other")


def test_a_file_of_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_ppo.py").write_text(
        "from learner.algorithms.ppo import PPO\nclass MyPPO(PPO):\n    name = 'mine'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in {"", "."}])
    assert registry.resolve("my_ppo:MyPPO").name == "mine"
    monkeypatch.delitem(sys.modules, "my_ppo")


@pytest.mark.parametrize("reference", ["no_such_module:PPO", "learner.no_such:PPO"])
def test_a_module_that_is_not_there(reference):
    with pytest.raises(InvalidFieldError, match="start in the folder that holds it"):
        registry.resolve(reference)


def test_something_that_is_no_algorithm():
    with pytest.raises(InvalidFieldError, match="no subclass"):
        registry.resolve("math:sqrt")


def test_a_module_that_fails_to_import_says_what_it_misses(tmp_path, monkeypatch):
    (tmp_path / "broken_ppo.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidFieldError, match="no_such_dependency"):
        registry.resolve("broken_ppo:PPO")
