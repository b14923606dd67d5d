"""A saved policy in its folder: whole, or refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from saved_policy import saved

from common import specs
from common.errors import WiseRLError
from common.signature import ColumnKey, ColumnSpec, Role
from learner import policy_file
from learner.run_folder import RunFolder
from protos.wiserl.v1 import environment_pb2


def made():
    """A policy with everything that one may have."""
    policy = saved()
    columns = (ColumnSpec(ColumnKey(Role.VALID), np.dtype(np.bool_)),)
    return dataclasses.replace(
        policy,
        environment=environment_pb2.EnvironmentReference(
            id="CartPole-v1", arguments=specs.arguments_to_proto({"x": [1, 2.5, "a"]})
        ),
        signature=dataclasses.replace(policy.signature, columns=columns),
    )


def test_a_saved_policy_is_loaded_as_it_was(tmp_path):
    folder, policy = RunFolder(tmp_path), made()
    policy_file.save(folder, policy)
    found = policy_file.load(folder)
    assert (found.algorithm, found.version, found.environment_steps) == ("byhand", 7, 5000)
    assert found.environment == policy.environment
    assert not found.spec.differences(policy.spec)
    assert found.signature.columns == policy.signature.columns
    assert [tensor.name for tensor in found.signature.inputs] == ["observation", "noise", "epsilon"]
    assert found.scalars == {"epsilon": [1.0]}
    assert found.model == policy.model


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: folder.policy.unlink(), "holds no policy"),
        (lambda folder: folder.policy_model.unlink(), "holds no policy"),
        (lambda folder: folder.policy_model.write_bytes(b"other"), "is not the model"),
        (lambda folder: folder.policy.write_bytes(b"{"), "does not parse"),
        (
            lambda folder: folder.policy.write_text(
                folder.policy.read_text().replace("ROLE_OBSERVATION", "ROLE_UNKNOWN")
            ),
            "does not describe a policy",
        ),
    ],
)
def test_a_damaged_policy_is_refused_in_words(tmp_path, damage, message):
    folder = RunFolder(tmp_path)
    policy_file.save(folder, made())
    damage(folder)
    with pytest.raises(WiseRLError, match=message):
        policy_file.load(folder)
