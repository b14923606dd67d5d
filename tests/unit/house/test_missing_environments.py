from __future__ import annotations

import importlib.metadata
import importlib.util
import sys

import gymnasium
import pytest

from common.errors import InvalidFieldError
from learner.config import RunConfig
from wiserl import environments


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"env": "CartPole-v9"}, "env: CartPole-v9: .*; there is CartPole-v0 and CartPole-v1$"),
        ({"env": "cartpol-v1"}, "env: cartpol-v1: .*did you mean CartPole-v1 or"),
        ({"env": "CartPole"}, "'CartPole' is no environment id; .*; there is CartPole-v0"),
        ({"env": "Xyzzyq-v0"}, "no such environment; .* write module:Xyzzyq-v0"),
        ({"env": "MiniArcade/X-v1"}, "no package that is installed here brings .* MiniArcade"),
        ({"env": "mpe2/simple_spred_v3"}, "mpe2 has no .*did you mean mpe2/simple_spread_v3"),
        ({"env": "pettingzoo/chess_v6"}, r"'chess'; pip install 'pettingzoo\[classic\]' brings"),
        ({"env": "colorsys:rgb_to_hls_"}, "no 'rgb_to_hls_' in colorsys; did you mean rgb_to_hls"),
        ({"env": "CartPole-v1", "eval_env": "Pendulum-v7"}, "eval_env: .*; there is Pendulum-v1"),
        (
            {"env": "CartPole-v1", "wrapper": ("gymnasium.wrappers:Flatten_Observation",)},
            "^wrapper: .*did you mean FlattenObservation",
        ),
    ],
)
def test_what_is_not_here_is_named_with_what_is_near_it(settings, says):
    with pytest.raises(InvalidFieldError, match=says):
        environments.check(RunConfig(**settings))


@pytest.mark.parametrize(
    ("package", "env", "extra"),
    [
        ("mpe2", "mpe2/simple_spread_v3", "marl"),
        ("Box2D", "LunarLander-v3", "box2d"),
        ("mujoco", "HalfCheetah-v5", "mujoco"),
        ("ale_py", "ALE/Pong-v5", "atari"),
        ("minatar", "MinAtar/Breakout-v1", "bench"),
    ],
)
def test_the_extra_that_brings_a_package_is_named(monkeypatch, package, env, extra):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == package else find(name)
    )
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [])
    monkeypatch.setitem(sys.modules, package, None)
    for module in [name for name in sys.modules if name.startswith("gymnasium.envs.")]:
        if module.split(".")[2] in {"box2d", "mujoco"}:
            monkeypatch.delitem(sys.modules, module)
    for known in [known for known in gymnasium.registry if "/" in known]:
        monkeypatch.delitem(gymnasium.registry, known)
    with pytest.raises(InvalidFieldError, match=rf"env: .*pip install 'wiserl\[{extra}\]'"):
        environments.check(RunConfig(env=env))


def test_what_is_here_is_not_built(monkeypatch):
    monkeypatch.setattr(gymnasium, "make", lambda *_, **__: pytest.fail("it was built"))
    for env in ("CartPole-v1", "gymnasium.envs.classic_control:CartPoleEnv"):
        environments.check(RunConfig(env=env, eval_wrapper=("none",)))
