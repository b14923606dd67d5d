"""MuJoCo the whole way on a few steps: presets, observations in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from one_process import ONE_PROCESS

import wiserl
from common.signature import Role

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SMALL = {
    "sac": {"learning_starts": 64, "buffer_size": 1_000, "n_envs": 2},
    "ppo": {"n_envs": 2, "n_steps": 64, "n_minibatches": 2, "epochs": 1},
}


@pytest.mark.parametrize("algorithm", SMALL)
def test_halfcheetah_is_run_with_the_preset(algorithm, tmp_path):
    outcome = wiserl.train(
        algorithm,
        env="HalfCheetah-v5",
        runs=tmp_path,
        total_steps=256,
        **ONE_PROCESS,
        **SMALL[algorithm],
    )

    assert outcome.environment_steps == 256
    assert outcome.metrics["train/n_updates"] >= 2
    assert outcome.final.lengths == (1000,)
    assert np.isfinite(outcome.final.returns).all()
    signature = wiserl.load(outcome.folder).saved.signature
    (observation,) = signature.inputs_of(Role.OBSERVATION)
    assert (observation.shape, observation.dtype.name) == ((17,), "float32")
