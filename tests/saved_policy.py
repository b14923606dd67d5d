"""A policy as a run saves it, made by hand: it pushes CartPole's cart under its pole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper
from small_models import FLOAT, INT, graph

from common import spaces, specs
from common.signature import GraphInput, GraphOutput, Noise, Role, Signature
from learner import policy_file
from learner.policy_file import SavedPolicy
from learner.run_folder import RunFolder
from protos.wiserl.v1 import environment_pb2

if TYPE_CHECKING:
    from pathlib import Path

BOUND = np.array([4.8, np.inf, 0.41887903, np.inf], np.float32)

SPEC = specs.single_agent(spaces.Box(-BOUND, BOUND), spaces.Discrete(2), max_episode_steps=500)
SIGNATURE = Signature(
    (
        GraphInput("observation", Role.OBSERVATION, FLOAT, (4,)),
        GraphInput("noise", Role.NOISE, FLOAT, (1,), noise=Noise.OPEN_UNIFORM),
        GraphInput("epsilon", Role.SCALAR, FLOAT, (1,), key="epsilon"),
    ),
    (
        GraphOutput("action", Role.ACTION, INT),
        GraphOutput("greedy_action", Role.GREEDY_ACTION, INT),
        GraphOutput("record/lean", Role.RECORD, FLOAT, (1,), key="lean"),
    ),
    (),
)


def model() -> bytes:
    """Greedy: right where the pole leans right. In training: left where noise is below epsilon."""
    node = helper.make_node
    nodes = [
        node("Gemm", ["observation", "weights"], ["record/lean"]),
        node("Greater", ["record/lean", "zero"], ["right"]),
        node("GreaterOrEqual", ["noise", "epsilon"], ["firm"]),
        node("And", ["right", "firm"], ["chosen"]),
        *(
            made
            for flag, name in (("right", "greedy_action"), ("chosen", "action"))
            for made in (
                node("Squeeze", [flag, "last"], [f"{name}_flat"]),
                node("Cast", [f"{name}_flat"], [name], to=onnx.TensorProto.INT64),
            )
        ),
    ]
    constants = {
        "weights": np.array([[0], [0], [1], [1]], np.float32),
        "zero": np.float32(0),
        "last": np.array([-1]),
    }

    return graph(nodes, SIGNATURE, constants)


def saved(environment: str = "CartPole-v1", epsilon: float = 1.0) -> SavedPolicy:
    reference = environment_pb2.EnvironmentReference(id=environment)
    scalars = {"epsilon": [epsilon]}
    return SavedPolicy("byhand", 7, 5000, reference, SPEC, SIGNATURE, scalars, model())


def run_with(policy: SavedPolicy, path: Path) -> RunFolder:
    """A run's folder that holds nothing but the policy."""
    path.mkdir(parents=True)
    folder = RunFolder(path)
    policy_file.save(folder, policy)
    return folder
