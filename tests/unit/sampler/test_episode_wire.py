import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from protos.wiserl.v1 import trajectory_pb2
from sampler.episode_wire import encode_episodes

uint64 = st.integers(0, 2**64 - 1)
episodes = st.lists(
    st.builds(
        trajectory_pb2.Episode,
        slot=st.integers(0, 2**32 - 1),
        incarnation=uint64,
        end_row=uint64,
        length=uint64,
        episode_return=st.floats(allow_nan=False),
        terminated=st.booleans(),
    ),
    max_size=20,
)


def column(messages, name, dtype):
    return np.array([getattr(message, name) for message in messages], dtype)


@given(episodes)
def test_what_is_written_at_once_is_read_one_by_one(messages):
    encoded = encode_episodes(
        slot=column(messages, "slot", np.uint64),
        incarnation=column(messages, "incarnation", np.uint64),
        end_row=column(messages, "end_row", np.uint64),
        length=column(messages, "length", np.uint64),
        episode_return=column(messages, "episode_return", np.float64),
        terminated=column(messages, "terminated", np.bool_),
    )
    batch = trajectory_pb2.TrajectoryBatch.FromString(encoded)
    expected = trajectory_pb2.TrajectoryBatch(episodes=messages)
    assert batch == expected
    assert batch.SerializeToString() == expected.SerializeToString()
