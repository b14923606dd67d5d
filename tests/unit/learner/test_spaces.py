"""Every algorithm with every kind of space: an update and a published policy, or a refusal."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from learner_support import CPU, TERMINATED, TRUNCATED, VALID, box, image, round_of

from common import spaces, specs
from common.errors import UnsupportedSpaceError
from common.signature import ColumnKey, Role
from learner.algorithms import registry
from learner.algorithms.off_policy import OffPolicyAlgorithm
from learner.algorithms.on_policy import PolicyGradientAlgorithm
from learner.experience.transitions import Transitions
from learner.networks import images
from learner.publishing import sessions
from learner.publishing.examples import example_inputs
from learner.publishing.publisher import Publisher

ACTIONS = {
    "discrete": spaces.Discrete(3, 2),
    "multi_discrete": spaces.MultiDiscrete((2, 3), (0, -1)),
    "multi_binary": spaces.MultiBinary((2,)),
    "bounded": spaces.Box(np.array([-1.0, 2.0], np.float32), np.array([3.0, 10.0], np.float32)),
    "unbounded": box(2),
    "whole_numbers": box(2, low=0, high=3, dtype=np.int64),
    "dict": spaces.Dict({"move": spaces.Discrete(2), "turn": box(1)}),
}
OBSERVATIONS = {
    "numbers": box(4),
    "double": box(4, dtype=np.float64),
    "matrix": box(3, 2),
    "discrete": spaces.Discrete(3, -1),
    "multi_discrete": spaces.MultiDiscrete((2, 3), (1, 0)),
    "multi_binary": spaces.MultiBinary((2, 2)),
    "image": image(10, 10, 3),
    "frames": image(4, 36, 36),
    "dict": spaces.Dict(
        {
            "camera": image(10, 10, 3),
            "kind": spaces.Discrete(2),
            "nested": spaces.Dict({"speed": box(2), "bits": spaces.MultiBinary((3,))}),
        }
    ),
}
ANY = {"discrete", "multi_discrete", "multi_binary", "bounded", "unbounded"}
TAKES = {
    "appo": ANY,
    "ddpg": {"bounded"},
    "dqn": {"discrete"},
    "impala": ANY,
    "ppo": ANY,
    "sac": {"discrete", "bounded"},
    "td3": {"bounded"},
    "trpo": ANY,
}
"""The actions that each algorithm takes; of observations every one takes all."""
SEVERAL = {"ippo", "maddpg", "mappo"}
"""Algorithms that train several agents only; they have tests of their own."""
MASKED = {"discrete", "multi_discrete"}
"""Actions of which some may be unavailable, to each algorithm that takes them."""

SMALL = {"hidden_sizes": (8,)}
ROUND = {"n_envs": 2, "n_steps": 4}


def algorithm_of(name: str, spec):
    """A small one."""
    found = registry.resolve(name)
    given = SMALL | (ROUND if issubclass(found, PolicyGradientAlgorithm) else {})
    known = {field.name for field in dataclasses.fields(found.Config)}
    minibatches = {"n_minibatches": 2} if "n_minibatches" in known else {}
    return found(spec, found.Config(**given, **minibatches), device=CPU, seed=0)


def acted(algorithm, rows: int, seed: int = 0):
    """Columns of as many rows: inputs that the spaces have, and what the policy answers to them."""
    behaviour = algorithm.behaviour
    fed = example_inputs(behaviour, np.random.default_rng(seed), rows)
    for tensor in behaviour.inputs:
        if tensor.role == Role.ACTION_MASK:
            fed[tensor.name][:, ::2] = True
    with torch.no_grad():
        answers = behaviour(*(torch.from_numpy(array) for array in fed.values()))
    columns = {
        ColumnKey(tensor.role, "", tensor.key): fed[tensor.name] for tensor in behaviour.inputs
    }
    for output, answer in zip(behaviour.outputs, answers, strict=True):
        columns[ColumnKey(output.role, "", output.key)] = answer.numpy()
    return columns


def updated(algorithm):
    """The metrics of one update on what the policy itself did."""
    if isinstance(algorithm, OffPolicyAlgorithm):
        before, after = acted(algorithm, 8), acted(algorithm, 8, seed=1)
        numbers = np.arange(8)
        algorithm.update(
            Transitions(
                rows=numbers,
                writes=np.zeros(8, np.int64),
                columns=before,
                next_columns=after,
                returns=np.linspace(-1, 1, 8, dtype=np.float32),
                discounts=np.array([0.9, 0.0] * 4, np.float32),
                weights=np.ones(8, np.float32),
            ),
            0.0,
        )
        return algorithm.metrics()
    batch = round_of(algorithm)
    rows, slots = algorithm.n_steps + 1, algorithm.n_envs
    found = acted(algorithm, rows * slots)
    for key, column in batch.columns.items():
        if key in found and key.role != Role.STATE:
            whole = found[key].reshape(rows, slots, *found[key].shape[1:])
            column[...] = whole[: len(column)]
    batch.columns[TERMINATED][0, 0] = batch.columns[TRUNCATED][1, 1] = True
    batch.columns[VALID][1, 0] = batch.columns[VALID][2, 1] = False
    return algorithm.update(batch, 0.0)


def test_every_algorithm_for_a_single_agent_is_in_the_table():
    single = {
        name
        for name in registry.BUILT_IN
        if issubclass(registry.resolve(name), PolicyGradientAlgorithm | OffPolicyAlgorithm)
    }
    assert single - SEVERAL == set(TAKES)
    for name in SEVERAL:
        with pytest.raises(UnsupportedSpaceError, match="this one has a single agent; take"):
            algorithm_of(name, specs.single_agent(box(4), ACTIONS["discrete"]))


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("name", TAKES)
def test_an_algorithm_takes_an_action_space_or_names_one_that_does(name, kind):
    spec = specs.single_agent(box(4), ACTIONS[kind])
    if kind in TAKES[name]:
        metrics = updated(algorithm_of(name, spec))
        assert metrics
        assert all(np.isfinite(number) for number in metrics.values()), metrics
        return
    with pytest.raises(UnsupportedSpaceError) as refused:
        algorithm_of(name, spec)
    words = set(re.findall(r"\w+", str(refused.value))) - {name}
    named = words & TAKES.keys()
    able = {other for other, kinds in TAKES.items() if kind in kinds}
    if able:
        assert named
        assert named <= able
    else:
        # Nobody takes these as they are: a wrapper has to make them something else.
        assert "flatten" in str(refused.value) or "MultiDiscrete" in str(refused.value)


@pytest.mark.parametrize("kind", sorted(MASKED))
@pytest.mark.parametrize("name", TAKES)
def test_an_unavailable_action_is_never_taken(name, kind):
    if kind not in TAKES[name]:
        pytest.skip(f"{name} takes no such actions")
    space = ACTIONS[kind]
    algorithm = algorithm_of(name, specs.single_agent(box(4), space, action_mask=True))
    columns = acted(algorithm, 500)
    mask = columns[ColumnKey(Role.ACTION_MASK)]
    assert not mask.all()
    widths = (space.n,) if kind == "discrete" else space.n
    for role in (Role.ACTION, Role.GREEDY_ACTION):
        chosen = (columns[ColumnKey(role)] - np.asarray(space.start)).reshape(500, -1)
        parts = np.split(mask, np.cumsum(widths)[:-1], axis=1)
        for part, choice in zip(parts, chosen.T, strict=True):
            assert part[np.arange(500), choice].all()
    assert updated(algorithm)


@pytest.mark.parametrize("kind", OBSERVATIONS)
@pytest.mark.parametrize("name", TAKES)
def test_every_algorithm_takes_every_observation(name, kind):
    action = ACTIONS["discrete" if "discrete" in TAKES[name] else "bounded"]
    metrics = updated(algorithm_of(name, specs.single_agent(OBSERVATIONS[kind], action)))
    assert metrics
    assert all(np.isfinite(number) for number in metrics.values()), metrics


@pytest.mark.parametrize("kind", ["frames", "dict"])
@pytest.mark.parametrize("name", TAKES)
def test_images_stay_bytes_until_the_network_that_is_on_the_device(name, kind, monkeypatch):
    seen = []
    for encoder in (images.ConvolutionalEncoder, images.PatchEncoder):

        def spied(self, pixels, forward=encoder.forward):
            seen.append((pixels.dtype, pixels.device == next(self.parameters()).device))
            return forward(self, pixels)

        monkeypatch.setattr(encoder, "forward", spied)
    action = ACTIONS["discrete" if "discrete" in TAKES[name] else "bounded"]
    algorithm = algorithm_of(name, specs.single_agent(OBSERVATIONS[kind], action))
    updated(algorithm)
    assert len(seen) > 1
    assert set(seen) == {(torch.uint8, True)}
    columns = [one for one in algorithm.signature.columns if one.key.role == Role.OBSERVATION]
    assert columns[0].dtype == np.uint8


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, kinds in TAKES.items() for kind in sorted(kinds)]
)
def test_what_is_published_answers_as_torch_does(name, kind, graph_cache):
    algorithm = algorithm_of(name, specs.single_agent(box(4), ACTIONS[kind]))
    updated(algorithm)
    model = Publisher(algorithm.behaviour, cache=graph_cache).publish(1).model
    fed = example_inputs(algorithm.behaviour, np.random.default_rng(0), 200)
    with torch.no_grad():
        wanted = algorithm.behaviour(*(torch.from_numpy(array) for array in fed.values()))
    names = [output.name for output in algorithm.behaviour.outputs]
    found = sessions.run(sessions.session_of(model), names, fed)
    for output, answer in zip(names, wanted, strict=True):
        if answer.is_floating_point():
            np.testing.assert_allclose(found[output], answer.numpy(), rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_array_equal(found[output], answer.numpy())
