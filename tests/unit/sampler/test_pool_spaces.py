"""Gymnasium's spaces as the contract's."""

from __future__ import annotations

import gymnasium
import numpy as np
import pool_environments
import pytest
from gymnasium import spaces as gym_spaces
from pool_rolls import MODULE, reference

from common import spaces
from common.errors import UnsupportedSpaceError
from sampler.environments.plain import specification
from sampler.environments.registry import resolve
from sampler.environments.spaces import convert
from sampler.environments.vectorised import VectorisedEnvironments


def test_a_box_keeps_dtype_and_bounds():
    box = convert(gym_spaces.Box(np.array([-1, -np.inf]), np.array([1, 2]), dtype=np.float64))
    assert isinstance(box, spaces.Box)
    assert box.dtype == np.float64
    assert box.low.tolist() == [-1, -np.inf]
    assert box.high.tolist() == [1, 2]


def test_every_kind_of_leaf_is_found_by_its_path():
    nested = pool_environments.Nested()
    leaves = spaces.leaves(convert(nested.observation_space))
    assert {path: (leaf.shape, leaf.dtype.name) for path, leaf in leaves.items()} == {
        "body/gear": ((), "int64"),
        "body/speed": ((2,), "float64"),
        "flags": ((2, 2), "int8"),
        "grid": ((4,), "int64"),
        "image": ((2, 2, 1), "uint8"),
    }
    assert leaves["body/gear"] == spaces.Discrete(5, 1)
    assert leaves["grid"] == spaces.MultiDiscrete((3, 4, 5, 6))


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (gym_spaces.Tuple((gym_spaces.Discrete(2),)), "space is a Tuple"),
        (gym_spaces.Text(3), "space is a Text"),
        (gym_spaces.Dict({"a": gym_spaces.Sequence(gym_spaces.Discrete(2))}), r"space\['a'\] is a"),
        (gym_spaces.Dict({"a/b": gym_spaces.Discrete(2)}), "a/b"),
        (gym_spaces.Dict({}), "without entries"),
    ],
)
def test_what_cannot_be_fed_is_refused_with_its_place_and_a_remedy(space, says):
    with pytest.raises(UnsupportedSpaceError, match=says):
        convert(space)


def test_a_tuple_deep_in_an_observation_is_named():
    with pytest.raises(UnsupportedSpaceError, match=r"\['pair'\] is a Tuple.*wrap"):
        specification(pool_environments.TupleObservation())


def test_a_dict_of_actions_is_refused():
    environment = gymnasium.Env()
    environment.reset = lambda **_: (0, {})
    environment.observation_space = gym_spaces.Discrete(2)
    environment.action_space = gym_spaces.Dict({"a": gym_spaces.Discrete(2)})
    with pytest.raises(UnsupportedSpaceError, match="action space is a Dict"):
        specification(environment)


@pytest.mark.parametrize("where", ["info", "observation"])
def test_a_mask_is_told_and_is_no_part_of_the_observation(where):
    spec = specification(pool_environments.Masked(where))
    assert spec.agent.action_mask
    paths = list(spaces.leaves(spec.agent.observation))
    assert paths == ([""] if where == "info" else ["place"])


def test_a_mask_over_continuous_actions_is_refused():
    environment = pool_environments.Masked()
    environment.action_space = gym_spaces.Box(-1, 1)
    with pytest.raises(UnsupportedSpaceError, match="only Discrete and MultiDiscrete"):
        specification(environment)


def test_the_native_vectorisation_of_cartpole_has_the_spec_of_the_plain_one():
    recipe = resolve(reference("CartPole-v1"))
    plain = specification(recipe.plain())
    native = VectorisedEnvironments(recipe, 2).spec
    assert plain == native
    assert plain.max_episode_steps == 500


def test_a_step_limit_given_as_argument_counts_in_both():
    recipe = resolve(reference("CartPole-v1", max_episode_steps=7))
    assert specification(recipe.plain()).max_episode_steps == 7
    assert VectorisedEnvironments(recipe, 2).spec.max_episode_steps == 7


def test_an_environment_without_a_limit_has_none():
    recipe = resolve(reference("Counting"), [MODULE])
    assert specification(recipe.plain()).max_episode_steps is None
