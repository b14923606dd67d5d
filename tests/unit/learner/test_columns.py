"""A message's columns become arrays, or an error that says what is wrong with them."""

import numpy as np
import pytest

from common import tensors
from common.errors import InvalidFieldError
from common.signature import ColumnKey, ColumnSpec, Role
from learner.experience.columns import ColumnDecoder
from protos.wiserl.v1 import trajectory_pb2


def decoded(role, value):
    spec = ColumnSpec(ColumnKey(role), np.dtype(np.float32), (2,))
    array = np.full((3, 1, 2), value, np.float32)
    message = trajectory_pb2.Column(role=role.value, tensor=tensors.encode(array))
    return ColumnDecoder([spec]).rows_and_slots([message], 3, 1)[spec.key]


@pytest.mark.parametrize("role", [Role.OBSERVATION, Role.GLOBAL_STATE])
def test_what_environments_show_may_be_infinite_and_never_nan(role):
    assert np.isinf(decoded(role, np.inf)).all()
    with pytest.raises(InvalidFieldError, match=r"is NaN somewhere; .* mend the environment"):
        decoded(role, np.nan)


def test_what_the_policy_recorded_is_its_own_affair():
    assert np.isnan(decoded(Role.RECORD, np.nan)).all()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_rewards_are_finite(value):
    with pytest.raises(InvalidFieldError, match="reward is NaN or infinite somewhere"):
        decoded(Role.REWARD, value)
