"""Curves for TensorBoard, as its event files have them.

The files are records of `Event` messages: length, masked CRC-32C of the length, message, masked
CRC-32C of the message (https://www.tensorflow.org/tutorials/load_data/tfrecord). They are framed
here, because the writers of tensorboard and torch take half a second to import, at the start of
every run.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

from common.logging import Logger
from learner.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from learner.metrics import Evaluation

_log = Logger()

_POINT_SECONDS = 0.1
"""Points come no more often: records cost time to frame, and nobody sees more."""

_POLYNOMIAL = 0x82F63B78


def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (_POLYNOMIAL if remainder & 1 else 0)
        entries.append(remainder)
    return tuple(entries)


_TABLE = _table()


def masked_crc32c(data: bytes) -> int:
    """The checksum of a record's part."""
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


class EventFile:
    """Writes scalars to a new event file in `folder`.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        # The import is part of what a run starts with; its name tells TensorBoard when and where.
        from tensorboard.compat.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("ab")
        self._write(self._event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds a point to each of the named curves.

        Raises:
            OSError: No room, or an I/O error.
        """
        summary = self._summary()
        for name, value in scalars.items():
            summary.value.add(tag=name, simple_value=value)
        self._write(self._event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _write(self, event: object) -> None:
        data: bytes = event.SerializeToString()  # type: ignore[attr-defined]
        length = struct.pack("<Q", len(data))
        self._file.write(length + struct.pack("<I", masked_crc32c(length)))
        self._file.write(data + struct.pack("<I", masked_crc32c(data)))
        self._file.flush()


class TensorBoard(Observer):
    """Draws every metric against environment steps; a disk that refuses ends no training.

    Args:
        folder: Where the event file goes; it is made with the first point.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: EventFile | None = None
        self._last = -math.inf
        self._pending: tuple[int, Mapping[str, float]] | None = None

    def trained(self, environment_steps: int, version: int, metrics: Mapping[str, float]) -> None:
        """Draws the metrics, or keeps them until the last point is old enough."""
        del version
        now = time.monotonic()
        if now - self._last < _POINT_SECONDS:
            self._pending = (environment_steps, metrics)
            return
        self._last, self._pending = now, None
        self._add(environment_steps, metrics)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Draws the evaluation where its policy stood."""
        self._add(evaluation.global_step, evaluation.scalars())

    def close(self) -> None:
        """Draws what is kept, and ends the file."""
        if self._pending is not None:
            self._add(*self._pending)
        if self._file is not None:
            self._file.close()

    def _add(self, step: int, scalars: Mapping[str, float]) -> None:
        try:
            if self._file is None:
                self._file = EventFile(self._folder)
            self._file.add(step, scalars)
        except OSError as error:
            _log.error("tensorboard_not_written", reason=str(error))
