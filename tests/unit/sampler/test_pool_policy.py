"""A policy runs over arrays that stay, and is checked with its golden vector."""

from __future__ import annotations

import numpy as np
import pool_models
import pytest

from common import spaces, specs
from sampler import policy as policies
from sampler.pool import PoolError

SPEC = specs.single_agent(
    spaces.Box(-np.ones(4, np.float32), np.ones(4, np.float32)), spaces.Discrete(2)
)


def fed(copies=3):
    random = np.random.default_rng(5)
    return {
        "observation": random.normal(size=(copies, 4)).astype(np.float32),
        "noise": random.uniform(0.01, 0.99, (copies, 2)).astype(np.float32),
    }


def test_a_bound_policy_reads_and_writes_the_arrays_in_place():
    _, model = pool_models.mlp(SPEC)
    policy = policies.Policy(1, model)
    inputs = fed()
    outputs = {
        "action": np.full(3, -1, np.int64),
        "greedy": np.full(3, -1, np.int64),
        "log_prob": np.zeros(3, np.float32),
    }
    run = policy.bind(inputs, outputs)
    run()
    first = outputs["log_prob"].copy()
    expected = pool_models.golden(model, inputs)
    policies.verify(model, expected)
    assert set(outputs["action"]) <= {0, 1}
    assert (first < 0).all()
    inputs["observation"][...] += 1
    run()
    assert (outputs["log_prob"] != first).any()


def test_a_golden_vector_tells_a_model_that_answers_otherwise():
    _, model = pool_models.mlp(SPEC)
    policies.verify(model, pool_models.golden(model, fed(), error=5e-5))
    with pytest.raises(PoolError, match=r"log_prob.*golden vector"):
        policies.verify(model, pool_models.golden(model, fed(), error=1e-2))


def test_what_is_no_model_is_an_error_in_words():
    with pytest.raises(PoolError, match="does not take the model"):
        policies.Policy(1, b"nonsense")


def test_an_input_that_the_signature_lacks_is_named():
    _, model = pool_models.mlp(SPEC)
    policy = policies.Policy(1, model)
    inputs = fed()
    del inputs["noise"]
    with pytest.raises(PoolError, match="noise"):
        policy.bind(inputs, {})
