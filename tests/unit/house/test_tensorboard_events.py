from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from learner.tensorboard import EventFile, masked_crc32c


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        # RFC 3720, section B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_checksums_are_those_of_the_standard(data, crc):
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc32c(data) == masked


def test_tensorboard_reads_what_is_written(tmp_path):
    events = EventFile(tmp_path)
    events.add(10, {"train/loss": 0.5, "rollout/ep_rew_mean": 20.0})
    events.add(20, {"train/loss": 0.25})
    events.close()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    found = list(EventFileLoader(str(path)).Load())
    assert found[0].file_version == "brain.Event:2"
    assert [
        (event.step, value.tag, round(value.tensor.float_val[0], 6))
        for event in found[1:]
        for value in event.summary.value
    ] == [
        (10, "train/loss", 0.5),
        (10, "rollout/ep_rew_mean", 20.0),
        (20, "train/loss", 0.25),
    ]
