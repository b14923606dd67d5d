"""Which environments a sampler builds, and which it refuses."""

from __future__ import annotations

import importlib.metadata
import types

import gymnasium
import numpy as np
import pool_environments
import pytest
from pool_rolls import MODULE, reference

from common import spaces, specs
from protos.wiserl.v1 import environment_pb2
from sampler.environments.modules import EnvironmentRefusedError
from sampler.environments.plain import PlainEnvironments
from sampler.environments.registry import resolve


def test_a_registered_id_is_always_built_with_its_step_limit_and_without_checking_wrappers():
    environment = resolve(reference("CartPole-v1")).plain()
    assert isinstance(environment, gymnasium.wrappers.TimeLimit)
    assert environment.env is environment.unwrapped


def test_arguments_reach_the_environment():
    environment = resolve(reference("Counting", length=9), [MODULE]).plain()
    assert environment.length == 9


def test_a_module_is_imported_only_where_it_is_allowed():
    with pytest.raises(EnvironmentRefusedError, match="--allow-module pool_environments"):
        resolve(reference("Counting"))
    with pytest.raises(EnvironmentRefusedError, match="not allowed"):
        resolve(reference("Counting"), ["pool", "pool_environments_of_mine", "os"])
    with pytest.raises(EnvironmentRefusedError, match="module os is not allowed"):
        resolve(reference("os:system-v0"), [MODULE])
    assert isinstance(resolve(reference("Counting"), [MODULE]).plain(), pool_environments.Counting)


def test_an_allowed_package_allows_its_submodules():
    name = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"
    message = reference("Counting")
    message.id = name
    assert resolve(message, ["gymnasium.envs"]).plain() is not None
    with pytest.raises(EnvironmentRefusedError):
        resolve(message, ["gymnasium.env"])


def test_a_module_may_register_ids():
    environment = resolve(reference(f"{MODULE}:Limited-v0"), [MODULE]).plain()
    assert environment.spec.max_episode_steps == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("CartPole", "module:factory"),
        ("__import__('os')", "is no environment id"),
        ("../CartPole-v1", "is no environment id"),
        ("NoSuchEnvironment-v0", "NoSuchEnvironment"),
        ("CartPole-v999", "CartPole"),
        (f"{MODULE}:Nothing", "no 'Nothing' in pool_environments"),
        (f"{MODULE}.nowhere:Thing", "start in the folder that holds it"),
        (f"{MODULE}:Nothing-v3", "Nothing"),
    ],
)
def test_other_names_are_refused(name, says):
    message = reference("Counting")
    message.id = name
    with pytest.raises(EnvironmentRefusedError, match=says):
        resolve(message, [MODULE])


def test_a_factory_must_return_an_environment():
    recipe = resolve(reference("not_an_environment"), [MODULE])
    with pytest.raises(EnvironmentRefusedError, match="returned a str"):
        recipe.plain()


class Doubled(gymnasium.Wrapper):
    def reset(self, **given):
        observation, info = super().reset(**given)
        return 2 * observation, info


def shifted(env):
    return gymnasium.wrappers.TransformObservation(env, lambda seen: seen + 1, None)


def wrapped(name, *wrappers, **arguments):
    message = reference(name, **arguments)
    message.wrappers.extend(f"{__name__}:{wrapper}" for wrapper in wrappers)
    return message


def test_wrappers_are_around_every_copy_the_innermost_first():
    allowed = [MODULE, __name__]
    for order, seen in ((("Doubled", "shifted"), 1), (("shifted", "Doubled"), 2)):
        environment = resolve(wrapped("Counting", *order), allowed).plain()
        observation, _ = environment.reset()
        assert observation[0] == seen
        assert environment.unwrapped.length == 3


def test_what_is_wrapped_keeps_its_step_limit_and_loses_its_own_vectorisation():
    recipe = resolve(wrapped("CartPole-v1", "shifted"), [__name__])
    assert recipe.plain().spec.max_episode_steps == 500
    assert not recipe.has_native
    with pytest.raises(EnvironmentRefusedError, match="is wrapped"):
        recipe.native(2)


def test_a_wrapper_needs_an_allowed_module():
    with pytest.raises(EnvironmentRefusedError, match=f"--allow-module {__name__}"):
        resolve(wrapped("CartPole-v1", "shifted"), [MODULE])


def takes_two(env, times):
    return env


def forgets_to_return(env):
    del env


@pytest.mark.parametrize(
    ("name", "wrapper", "says"),
    [
        ("Counting", "takes_two", r"takes \(env, times\), .* an environment: .*'times'"),
        ("Counting", "forgets_to_return", "returned a NoneType; return a gymnasium.Env"),
        ("Counting", "MODULE", "is a str; name a function"),
    ],
)
def test_a_wrapper_that_is_none_is_told_what_it_has_to_be(name, wrapper, says):
    recipe = resolve(wrapped(name, wrapper), [MODULE, __name__])
    with pytest.raises(EnvironmentRefusedError, match=says):
        recipe.plain()


def test_arguments_that_a_factory_does_not_take_are_told():
    recipe = resolve(reference("Counting", size=2), [MODULE])
    with pytest.raises(EnvironmentRefusedError, match=r"takes \(length.*called with size=2"):
        recipe.plain()


@pytest.mark.parametrize("name", ["vectorization_mode", "wrappers", "disable_env_checker", "id"])
def test_arguments_that_belong_to_the_sampler_are_refused(name):
    with pytest.raises(EnvironmentRefusedError, match=name):
        resolve(reference("CartPole-v1", **{name: "x"}))


def test_only_a_registered_vectorisation_is_native():
    assert resolve(reference("CartPole-v1")).has_native
    recipe = resolve(reference("Counting"), [MODULE])
    assert not recipe.has_native
    with pytest.raises(EnvironmentRefusedError, match="use plain environments"):
        recipe.native(2)


def test_an_installed_package_brings_the_environments_of_its_namespace(monkeypatch):
    asked = []

    def entry_points(*, group, name):
        asked.append((group, name))
        return [types.SimpleNamespace(load=lambda: register)] if name == "Plugged" else []

    def register():
        gymnasium.register("Plugged/Counting-v3", pool_environments.Counting)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    message = reference("Counting")
    message.id = "Plugged/Counting-v3"
    try:
        assert isinstance(resolve(message).plain().unwrapped, pool_environments.Counting)
        resolve(message)
    finally:
        gymnasium.registry.pop("Plugged/Counting-v3", None)
    assert asked == [("gymnasium.envs", "Plugged")]
    message.id = "Nobody/Counting-v3"
    with pytest.raises(EnvironmentRefusedError, match="Nobody"):
        resolve(message)


def test_minatar_gives_images_of_bools_with_a_step_limit():
    pytest.importorskip("minatar")
    message = environment_pb2.EnvironmentReference(
        id="MinAtar/Breakout-v1", arguments=specs.arguments_to_proto({"max_episode_steps": 5})
    )
    recipe = resolve(message)
    environments = PlainEnvironments([recipe.plain(), recipe.plain()])
    observation = environments.spec.agent.observation
    assert (observation.dtype, observation.shape) == (np.bool_, (10, 10, 4))
    assert environments.spec.agent.action == spaces.Discrete(3)
    assert environments.spec.max_episode_steps == 5
