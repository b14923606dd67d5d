"""MAPPO and IPPO over images, with a user's own networks, and with actions of every space."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from joint_support import CAMERAS, MIXED, OWN_NETWORK, several
from learner_support import box, image, parameters
from team_round_support import made, rolled, with_a_death

from common import spaces, specs
from common.errors import InvalidFieldError, UnsupportedSpaceError
from common.signature import ColumnKey, Role
from learner.publishing import sessions
from learner.publishing.examples import example_inputs
from learner.publishing.publisher import Publisher

NAMES = ["mappo", "ippo"]
SHARING = ["shared", "per_role", "per_agent"]

PICTURES = several(
    specs.AgentGroup("agent", ("agent_0", "agent_1"), image(36, 40, 3), spaces.Discrete(2))
)


def on_cameras(name="mappo", **settings):
    return made(name, CAMERAS, **settings)


@pytest.mark.parametrize("units", [0, 5])
@pytest.mark.parametrize("policies", SHARING)
@pytest.mark.parametrize("name", NAMES)
def test_images_go_through_convolutions_that_learn(name, policies, units):
    algorithm = on_cameras(
        name, policies=policies, recurrent_units=units, n_minibatches=3, learning_rate=1e-2
    )
    before = parameters(algorithm)
    metrics = algorithm.update(rolled(algorithm), 0.0)
    assert metrics["train/fresh_ratio_error"] < 1e-5
    assert np.isfinite(list(metrics.values())).all()
    learnt = [key for key in before if key.startswith(("behaviour.", "critic."))]
    encoders = [key for key in learnt if "encoders" in key]
    # Two kinds of cameras; walkers share theirs unless each agent has its own, the guide's role
    # is another one. A convolution and a layer each, actors' and critics'.
    cameras = {"shared": 2, "per_role": 3, "per_agent": 4}[policies]
    assert len(encoders) == cameras * 4 * 2
    same = [key for key in encoders if torch.equal(before[key], algorithm.tensors()[key])]
    assert same == []
    again = algorithm.update(rolled(algorithm, seed=1), 0.0)
    assert again["train/fresh_ratio_error"] < 1e-5


@pytest.mark.timeout(400)  # an export takes minutes on a machine that is busy
@pytest.mark.parametrize(
    ("spec", "settings"), [(CAMERAS, {"recurrent_units": 4}), (PICTURES, {})], ids=["two", "nature"]
)
def test_one_graph_sees_for_all_agents_as_torch_does(spec, settings, graph_cache):
    behaviour = made("mappo", spec, **settings).behaviour
    model = Publisher(behaviour, cache=graph_cache).publish(1).model
    feeds = example_inputs(behaviour, np.random.default_rng(3), 8)
    names = [output.name for output in behaviour.outputs]
    found = sessions.run(sessions.session_of(model), names, feeds)
    with torch.no_grad():
        expected = behaviour(*(torch.from_numpy(array) for array in feeds.values()))
    for output, tensor in zip(behaviour.outputs, expected, strict=True):
        np.testing.assert_allclose(found[output.name], tensor.numpy(), rtol=1e-4, atol=1e-4)
    observed = [feeds[i.name].dtype for i in behaviour.inputs if i.role == Role.OBSERVATION]
    assert np.uint8 in observed


def test_images_stay_bytes_until_a_minibatch_is_trained_on():
    algorithm = made("ippo", PICTURES)
    leaves = algorithm._rollout(rolled(algorithm)).leaves
    assert (leaves[0].dtype, leaves[0].shape) == (torch.uint8, (7 * 3, 2, 36, 40, 3))


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_minibatch_of_images_is_learned_from_in_pieces_as_if_it_were_whole(name, masked):
    spec = CAMERAS if masked else PICTURES
    whole, apart = (made(name, spec, n_minibatches=2, value_clip_range=None) for _ in range(2))
    apart.rows_at_once = 2
    seen = []
    encoder = next(iter(apart.behaviour.encoder.seen.encoders()[0]))
    encoder.register_forward_pre_hook(lambda _module, fed: seen.append(len(fed[0][0])))
    batch = rolled(whole)
    expected, found = whole.update(batch, 0.0), apart.update(batch, 0.0)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    for key, tensor in whole.tensors().items():
        torch.testing.assert_close(apart.tensors()[key], tensor, rtol=1e-3, atol=1e-4, msg=key)
    agents = 3 if masked else 2
    assert max(seen) == 2 * agents


@pytest.mark.parametrize("name", NAMES)
def test_what_a_dead_agents_camera_shows_changes_nothing(name):
    spec = dataclasses.replace(
        MIXED,
        groups=(dataclasses.replace(MIXED.groups[0], observation=image(6, 6, 2)), MIXED.groups[1]),
    )
    one, other = (made(name, spec, team_reward="none") for _ in range(2))
    batch, changed = (with_a_death(rolled(each)) for each in (one, other))
    camera = changed.columns[ColumnKey(Role.OBSERVATION, "walker")]
    camera[2:4, 0, 0] = 255 - camera[2:4, 0, 0]
    assert one.update(batch, 0.0) == other.update(changed, 0.0)
    seen = camera[:, 1, 0]
    seen[:] = 255 - seen
    assert one.update(batch, 0.0) != other.update(changed, 0.0)


@pytest.mark.parametrize("units", [0, 5])
@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_ones_own_is_each_actors_and_critics(name, units):
    algorithm = made(name, network=OWN_NETWORK, recurrent_units=units, learning_rate=1e-2)
    before = parameters(algorithm)
    metrics = algorithm.update(rolled(algorithm, ends=with_a_death), 0.0)
    assert metrics["train/fresh_ratio_error"] < 1e-5
    own = [key for key in before if key.endswith("network.layer.weight")]
    # Of walkers and of scouts.
    assert sum(key.startswith("behaviour.") for key in own) == 2
    assert sum(key.startswith("critic.") for key in own) == 2
    assert not any(torch.equal(before[key], algorithm.tensors()[key]) for key in own)


def test_a_network_that_is_none_is_told_so():
    with pytest.raises(InvalidFieldError, match="neither 'auto' nor `module:factory`"):
        made(network="convolutional")


def test_a_state_with_images_is_left_out_unless_it_is_asked_for():
    filmed = dataclasses.replace(MIXED, global_state=image(40, 40, 3))
    algorithm = made("mappo", filmed)
    assert Role.GLOBAL_STATE not in {c.key.role for c in algorithm.signature.columns}
    assert algorithm.update(rolled(algorithm), 0.0)["train/fresh_ratio_error"] < 1e-5
    with pytest.raises(UnsupportedSpaceError, match="must be numbers, and the global state has"):
        made("mappo", filmed, state="global")


ACTIONS = {
    "choices": spaces.MultiDiscrete((2, 3), (0, -1)),
    "bits": spaces.MultiBinary((2, 2)),
    "unbounded": box(2),
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ACTIONS)
def test_agents_act_in_every_space_beside_others(kind, graph_cache):
    """Their density by hand: the sum over the groups' own distributions is what is recorded."""
    spec = several(
        specs.AgentGroup("agent", ("agent_0", "agent_1"), box(3), ACTIONS[kind]),
        specs.AgentGroup("scout", ("scout_0",), box(2), spaces.Discrete(5)),
    )
    algorithm = made("mappo", spec)
    model = Publisher(algorithm.behaviour, cache=graph_cache).publish(1).model
    names = [output.name for output in algorithm.behaviour.outputs]
    session = sessions.session_of(model)
    batch = rolled(algorithm, run=lambda feeds: sessions.run(session, names, feeds))
    actions = batch.columns[ColumnKey(Role.ACTION, "agent")]
    assert actions.shape == (6, 3, 2, *ACTIONS[kind].shape)
    if kind != "unbounded":
        taken = actions.reshape(-1, *ACTIONS[kind].shape)
        assert len(np.unique(taken, axis=0)) > 2
        assert (taken >= (0, -1)).all() if kind == "choices" else set(np.unique(taken)) == {0, 1}
    assert algorithm.update(batch, 0.0)["train/fresh_ratio_error"] < 1e-5


def test_masks_of_several_choices_hold_in_acting_and_in_the_update():
    choices = spaces.MultiDiscrete((2, 3))
    spec = several(
        specs.AgentGroup("agent", ("agent_0", "agent_1"), box(3), choices, action_mask=True)
    )
    algorithm = made("ippo", spec)
    batch = rolled(algorithm)
    masks = batch.columns[ColumnKey(Role.ACTION_MASK, "agent")][:-1]
    actions = batch.columns[ColumnKey(Role.ACTION, "agent")]
    for number, allowed in enumerate((masks[..., :2], masks[..., 2:])):
        taken = np.take_along_axis(allowed, actions[..., number : number + 1], 3)[..., 0]
        assert (taken | ~allowed.any(3)).all()
        assert not allowed.all()
    assert algorithm.update(batch, 0.0)["train/fresh_ratio_error"] < 1e-5
