"""Environments of several agents, and their transitions, for tests of algorithms over replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from learner_support import CPU, box, image
from torch import nn

from common import spaces, specs
from common.signature import ColumnKey, Role
from learner.algorithms.maddpg import MADDPG, MADDPGConfig
from learner.experience.transitions import Transitions
from learner.publishing.examples import example_inputs

if TYPE_CHECKING:
    from common.specs import EnvironmentSpec

UNIT = box(1, low=-1.0, high=1.0)
CAMERA_OR_NUMBERS = spaces.Dict({"kind": spaces.Discrete(4, 1), "place": box(2, dtype=np.float64)})


def several(*groups: specs.AgentGroup) -> EnvironmentSpec:
    """Groups as an environment."""
    return specs.EnvironmentSpec(groups, True, 25)


PAIR = several(specs.AgentGroup("agent", ("agent_0", "agent_1"), box(1), UNIT))
"""Two agents that see a number and give one."""

CHOOSERS = several(specs.AgentGroup("agent", ("agent_0", "agent_1"), box(1), spaces.Discrete(2)))
"""Two agents that see a number and choose."""

TEAM = several(
    specs.AgentGroup("agent", ("agent_0", "agent_1", "agent_2"), box(4), spaces.Discrete(5))
)
MIXED = several(
    specs.AgentGroup(
        "walker", ("walker_0", "guide_0", "walker_1"), box(3), spaces.Discrete(3, 7), True
    ),
    specs.AgentGroup(
        "scout",
        ("scout_0",),
        CAMERA_OR_NUMBERS,
        spaces.Box(np.array([[0.0], [2.0]], np.float64), np.array([[1.0], [10.0]], np.float64)),
    ),
)
"""Groups of other observations, actions and numbers of agents; two roles in one group."""


CAMERAS = several(
    specs.AgentGroup(
        "walker",
        ("walker_0", "guide_0", "walker_1"),
        spaces.Dict({"camera": image(6, 6, 2), "place": box(2)}),
        spaces.Discrete(3, 7),
        action_mask=True,
    ),
    specs.AgentGroup("scout", ("scout_0",), image(5, 8, 1), spaces.Discrete(4)),
    specs.AgentGroup("blind", ("blind_0",), box(3), box(2, low=-1.0, high=1.0)),
)
"""Images of two sizes, one beside numbers, and an agent without."""


class Squares(nn.Module):
    """A user's encoder of whatever is observed."""

    def __init__(self, space):
        super().__init__()
        leaves = spaces.leaves(space).values()
        self.layer = nn.Linear(sum(int(np.prod(leaf.shape)) for leaf in leaves), 5)

    def forward(self, *leaves):
        flat = [leaf.reshape(leaf.shape[0], -1).to(torch.float32) for leaf in leaves]
        return self.layer(torch.cat(flat, 1)).square()


OWN_NETWORK = "joint_support:Squares"


def maddpg(spec: EnvironmentSpec = TEAM, *, seed: int = 0, **config: Any) -> MADDPG:
    """A small one."""
    given = {"batch_size": 8, "hidden_sizes": (16,), "max_gradient_norm": None, **config}
    return MADDPG(spec, MADDPGConfig(**given), device=CPU, seed=seed)


def joint_transitions(algorithm: MADDPG, *, rows: int = 8, seed: int = 0, **changes: Any):
    """Random ones, all of them going on; `columns` and `next_columns` in `changes` are added."""
    generator = np.random.default_rng(seed)
    first, second = (
        {
            ColumnKey(tensor.role, tensor.group, tensor.key): drawn[tensor.name]
            for tensor in algorithm.behaviour.inputs
            if tensor.role in {Role.OBSERVATION, Role.ACTION_MASK}
        }
        for drawn in (example_inputs(algorithm.behaviour, generator, rows) for _ in range(2))
    )
    for group in algorithm.spec.groups:
        shape = (rows, len(group.agents))
        alive = ColumnKey(Role.ALIVE, group.name)
        first[alive], second[alive] = np.ones(shape, np.bool_), np.ones(shape, np.bool_)
        space = group.action
        if isinstance(space, spaces.Discrete):
            taken = space.start + generator.integers(0, space.n, shape)
        else:
            taken = generator.uniform(space.low, space.high, (*shape, *space.shape))
            taken = taken.astype(space.dtype)
        first[ColumnKey(Role.ACTION, group.name)] = taken
    agents = len(algorithm.spec.agents)
    first.update(changes.pop("columns", {}))
    second.update(changes.pop("next_columns", {}))
    given = {
        "rows": np.arange(rows),
        "writes": np.zeros(rows, np.int64),
        "columns": first,
        "next_columns": second,
        "returns": generator.standard_normal((rows, agents)).astype(np.float32),
        "discounts": np.full((rows, agents), 0.9, np.float32),
        "weights": np.ones(rows, np.float32),
    }
    return Transitions(**{**given, **changes})


def make_linear(layers: Any, weights: Any, biases: Any = 0.0) -> None:
    """Gives a stack of single layers these weights [P, F, O] and biases [P, 1, O]."""
    (weight,), (bias,) = layers.weights, layers.biases
    with torch.no_grad():
        weight.copy_(torch.tensor(weights))
        bias.copy_(torch.as_tensor(biases).expand_as(bias))
