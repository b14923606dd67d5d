"""Transitions and published policies for tests of algorithms that learn from replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from learner_support import ACTION, CPU, box, draw

from common import spaces, specs
from common.signature import ColumnKey, Role
from learner.algorithms.ddpg import DDPG, TD3
from learner.algorithms.sac import SAC
from learner.experience.transitions import Transitions
from learner.publishing import sessions

if TYPE_CHECKING:
    from learner.algorithms.off_policy import OffPolicyAlgorithm

OFFSET = specs.single_agent(
    box(3),
    spaces.Box(np.array([-1.0, 2.0], np.float32), np.array([3.0, 10.0], np.float32)),
)
"""Bounds that are neither symmetric nor alike: an action is (1 + 2 a, 6 + 4 b)."""

CHOICES = specs.single_agent(box(3), spaces.Discrete(3, -1))
MASKED = specs.single_agent(box(3), spaces.Discrete(3), action_mask=True)

MASK = ColumnKey(Role.ACTION_MASK)


def _small(kind, spec, seed: int, config):
    given = {"batch_size": 8, "hidden_sizes": (16,), **config}
    return kind(spec or OFFSET, kind.Config(**given), device=CPU, seed=seed)


def ddpg(spec=None, *, seed: int = 0, **config: Any) -> DDPG:
    """A small DDPG."""
    found: DDPG = _small(DDPG, spec, seed, config)
    return found


def td3(spec=None, *, seed: int = 0, **config: Any) -> TD3:
    """A small TD3."""
    found: TD3 = _small(TD3, spec, seed, config)
    return found


def sac(spec=None, *, seed: int = 0, **config: Any) -> SAC:
    """A small SAC."""
    found: SAC = _small(SAC, spec, seed, config)
    return found


def transitions_of(algorithm: OffPolicyAlgorithm[Any], *, rows: int = 8, seed: int = 0, **changes):
    """Random ones, all of them going on."""
    generator = np.random.default_rng(seed)
    observations = [
        tensor
        for tensor in algorithm.behaviour.inputs
        if tensor.role in {Role.OBSERVATION, Role.ACTION_MASK}
    ]

    def columns():
        found = {}
        for tensor in observations:
            key, shape = ColumnKey(tensor.role, "", tensor.key), (rows, *tensor.shape)
            if tensor.dtype.kind == "f":
                found[key] = generator.standard_normal(shape).astype(np.float32)
            elif tensor.dtype == np.bool_:
                found[key] = generator.random(shape) < 0.6
            else:
                found[key] = generator.integers(0, 2, shape).astype(tensor.dtype)
            if key == MASK:
                found[key][:, 0] = True
        return found

    space = algorithm.spec.agent.action
    if isinstance(space, spaces.Box):
        taken = generator.uniform(space.low, space.high, (rows, *space.shape)).astype(space.dtype)
    else:
        taken = space.start + generator.integers(0, space.n, rows)
    given = {
        "rows": np.arange(rows),
        "writes": np.zeros(rows, np.int64),
        "columns": {**columns(), ACTION: taken},
        "next_columns": columns(),
        "returns": generator.standard_normal(rows).astype(np.float32),
        "discounts": np.full(rows, 0.9, np.float32),
        "weights": np.ones(rows, np.float32),
    }
    return Transitions(**{**given, **changes})


def feeds_of(algorithm: OffPolicyAlgorithm[Any], count: int, *, seed: int = 0, **scalars: float):
    """Random inputs of the policy by graph name, but for the scalars and a reset that is False."""
    batch = transitions_of(algorithm, rows=count, seed=seed)
    generator = np.random.default_rng(seed)
    feeds = {}
    for tensor in algorithm.behaviour.inputs:
        match tensor.role:
            case Role.NOISE:
                feeds[tensor.name] = draw(generator, tensor.noise, (count, *tensor.shape))
            case Role.SCALAR:
                feeds[tensor.name] = np.full(count, scalars[tensor.key], np.float32)
            case Role.STATE:
                values = generator.standard_normal((count, *tensor.shape))
                feeds[tensor.name] = values.astype(np.float32)
            case Role.RESET:
                feeds[tensor.name] = np.zeros(count, np.bool_)
            case _:
                feeds[tensor.name] = batch.columns[ColumnKey(tensor.role, "", tensor.key)]
    return feeds


def answers(algorithm: OffPolicyAlgorithm[Any], feeds) -> dict[str, Any]:
    """What torch says to the policy's inputs."""
    with torch.no_grad():
        found = algorithm.behaviour(*map(torch.from_numpy, feeds.values()))
    names = [output.name for output in algorithm.behaviour.outputs]
    return {name: tensor.numpy() for name, tensor in zip(names, found, strict=True)}


def onnx_answers(algorithm: OffPolicyAlgorithm[Any], model: bytes, feeds) -> dict[str, Any]:
    """What ONNX Runtime says to them."""
    names = [output.name for output in algorithm.behaviour.outputs]
    return sessions.run(sessions.session_of(model), names, feeds)


def make_linear(network, *weights) -> None:
    """Makes each MLP of a network the product of its inputs with a matrix [outputs, inputs]."""
    assert len(network.heads) == len(weights)
    for (layer,), numbers in zip(network.heads, weights, strict=True):
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(numbers))
            layer.bias.zero_()
