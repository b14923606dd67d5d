"""Finished episodes in protobuf's wire format, all at once.

A natively vectorised segment may end more than a thousand episodes, and a message made in Python
takes longer than any other part of a push. Here NumPy writes them as one array of bytes, which
protobuf then reads at its own speed. Varints are padded to their longest form, which readers of the
format take (https://protobuf.dev/programming-guides/encoding/), so that each episode is as long as
the next one; what is serialised later has them in their shortest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from protos.wiserl.v1 import trajectory_pb2

if TYPE_CHECKING:
    from numpy.typing import NDArray

_VARINT, _FIXED64, _LENGTH = 0, 1, 2
_VARINT_BYTES = 10
_SHIFTS = np.arange(_VARINT_BYTES, dtype=np.uint64) * np.uint64(7)
# Every byte but the last says that one follows.
_CONTINUED = np.array([0x80] * (_VARINT_BYTES - 1) + [0], np.uint8)

_NUMBERS = ("slot", "incarnation", "end_row", "length")
_FIELDS = trajectory_pb2.Episode.DESCRIPTOR.fields_by_name


def _tag(number: int, kind: int) -> int:
    """The byte before a field, of a number below 16."""
    return number << 3 | kind


_RECORD = np.dtype(
    [
        ("episodes", "u1"),
        ("size", "u1"),
        *((name, "u1", (1 + _VARINT_BYTES,)) for name in _NUMBERS),
        ("return_tag", "u1"),
        ("episode_return", "<f8"),
        ("terminated_tag", "u1"),
        ("terminated", "?"),
    ]
)
_EMPTY = np.zeros((), _RECORD)
_EMPTY["episodes"] = _tag(
    trajectory_pb2.TrajectoryBatch.DESCRIPTOR.fields_by_name["episodes"].number, _LENGTH
)
_EMPTY["size"] = _RECORD.itemsize - 2
for _name in _NUMBERS:
    _EMPTY[_name][0] = _tag(_FIELDS[_name].number, _VARINT)
_EMPTY["return_tag"] = _tag(_FIELDS["episode_return"].number, _FIXED64)
_EMPTY["terminated_tag"] = _tag(_FIELDS["terminated"].number, _VARINT)


def encode_episodes(
    *,
    slot: NDArray[Any],
    incarnation: NDArray[Any],
    end_row: NDArray[Any],
    length: NDArray[Any],
    episode_return: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> bytes:
    """A serialised `TrajectoryBatch` that has nothing but these episodes; all arrays `[N]`."""
    records = np.full(len(slot), _EMPTY)
    numbers = {"slot": slot, "incarnation": incarnation, "end_row": end_row, "length": length}
    for name, values in numbers.items():
        sevens = values.astype(np.uint64)[:, None] >> _SHIFTS
        records[name][:, 1:] = sevens.astype(np.uint8) & np.uint8(0x7F) | _CONTINUED
    records["episode_return"] = episode_return
    records["terminated"] = terminated
    return records.tobytes()
