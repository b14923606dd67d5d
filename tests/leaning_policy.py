"""A policy for CartPole, made by hand: how far the pole leans decides, with noise."""

from __future__ import annotations

import hashlib

import numpy as np
from onnx import helper
from small_models import BOOL, FLOAT, INT, graph

from common.signature import (
    ColumnKey,
    ColumnSpec,
    Extent,
    GraphInput,
    GraphOutput,
    Noise,
    Role,
    Signature,
)
from learner.publishing.publication import Publication
from protos.wiserl.v1 import learner_pb2

SIGNATURE = Signature(
    inputs=(
        GraphInput("seen", Role.OBSERVATION, FLOAT, (4,)),
        GraphInput("gumbel", Role.NOISE, FLOAT, (2,), key="action", noise=Noise.OPEN_UNIFORM),
    ),
    outputs=(
        GraphOutput("action", Role.ACTION, INT),
        GraphOutput("greedy", Role.GREEDY_ACTION, INT),
        GraphOutput("logits", Role.RECORD, FLOAT, (2,), key="logits"),
    ),
    columns=(
        ColumnSpec(ColumnKey(Role.OBSERVATION), FLOAT, (4,), Extent.ROWS_PLUS_ONE),
        ColumnSpec(ColumnKey(Role.ACTION), INT),
        ColumnSpec(ColumnKey(Role.REWARD), FLOAT),
        *(
            ColumnSpec(ColumnKey(role), BOOL)
            for role in (
                Role.TERMINATED,
                Role.TRUNCATED,
                Role.IS_FIRST,
                Role.VALID,
                Role.EPISODE_END,
            )
        ),
        ColumnSpec(ColumnKey(Role.RECORD, key="logits"), FLOAT, (2,)),
    ),
)


def publication(version: int, lean: float) -> Publication:
    """Leans by the pole's angle: logits = lean * (-angle, angle); Gumbel-max over the noise."""
    weights = np.zeros((4, 2), np.float32)
    weights[2] = (-lean, lean)
    nodes = [
        helper.make_node("MatMul", ["seen", "weights"], ["logits"]),
        helper.make_node("Log", ["gumbel"], ["log"]),
        helper.make_node("Neg", ["log"], ["minus"]),
        helper.make_node("Log", ["minus"], ["log_minus"]),
        helper.make_node("Sub", ["logits", "log_minus"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["action"], axis=1, keepdims=0),
        helper.make_node("ArgMax", ["logits"], ["greedy"], axis=1, keepdims=0),
    ]

    model = graph(nodes, SIGNATURE, {"weights": weights})
    digest = hashlib.sha256(model).digest()
    return Publication(version, model, digest, learner_pb2.GoldenVector)
