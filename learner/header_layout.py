"""How totals lie in `header.bin`: a page that says what the file is, and two slots.

All numbers are little-endian:

| where | content |
| --- | --- |
| bytes 0 to 15 | magic (8 bytes), format (uint32), CRC-32 of the two (uint32) |
| slots 0 and 1 | numbers, then names, each from a page's start |

A slot's numbers are uint64: CRC-32 of those that follow, generation, byte count and CRC-32 of the
names, counts of loss reasons and of samplers, restarts, reserved version, environment steps, rows,
blocks written, blocks resident; then pushes and rows of every reason, the samplers' sequences, the
samplers' rows. Names are those of the reasons and of the samplers, with a zero byte between two.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import TYPE_CHECKING

from common.errors import WiseRLError
from learner.ledger import Loss, LossReason
from learner.totals import RingCursor, SamplerTotals, Totals

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMAT = 1

MAX_SAMPLERS = 8192
"""Twice as many as the front remembers."""

MAX_REASONS = 64
MAX_NAME_BYTES = 64

_PAGE = 4096
_MAGIC = b"WISERLHD"
_IDENTITY = struct.Struct("<8sI")
_CHECKED = struct.Struct("<I")
_NUMBER = struct.Struct("<Q")
_FIXED = struct.Struct("<12Q")
_GENERATION_AT, _RESERVED_VERSION_AT = 8, 56


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


_NUMBERS_BYTES = _pages(_FIXED.size + 16 * (MAX_REASONS + MAX_SAMPLERS))
NAMES_BYTES = _pages((MAX_NAME_BYTES + 1) * (MAX_REASONS + MAX_SAMPLERS))
_SLOT_BYTES = _NUMBERS_BYTES + NAMES_BYTES

FILE_BYTES = _PAGE + 2 * _SLOT_BYTES
"""1.3 MB."""

PROLOGUE_BYTES = _IDENTITY.size + _CHECKED.size
"""What every format begins with."""


FIRST_GENERATIONS = 3
"""Commits of zeros that a new file gets before its beginning, which says that it is finished."""


class HeaderError(WiseRLError):
    """A header that cannot be used; the run cannot go on with it as it is."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """What a sound slot holds.

    Attributes:
        number: 0 or 1.
        generation: How many commits there were.
        totals: What was committed.
    """

    number: int
    generation: int
    totals: Totals


def numbers_at(slot: int) -> int:
    """The offset of a slot's numbers."""
    return _PAGE + slot * _SLOT_BYTES


def names_at(slot: int) -> int:
    """The offset of a slot's names."""
    return numbers_at(slot) + _NUMBERS_BYTES


def prologue() -> bytes:
    """The first bytes of a file of this format."""
    identity = _IDENTITY.pack(_MAGIC, FORMAT)
    return identity + _CHECKED.pack(zlib.crc32(identity))


def encode_names(reasons: Sequence[str], samplers: Sequence[str]) -> bytes:
    """The names of a slot.

    Raises:
        ValueError: There are too many samplers, or their names are too long.
    """
    names = b"\0".join(name.encode() for name in (*reasons, *samplers))
    if len(samplers) > MAX_SAMPLERS or len(names) > NAMES_BYTES:
        raise ValueError(
            f"{len(samplers)} samplers with {len(names)} bytes of names exceed the header's "
            f"{MAX_SAMPLERS} samplers of {MAX_NAME_BYTES} bytes; forget those that left longest ago"
        )
    return names


def encode_numbers(generation: int, names: bytes, totals: Totals) -> bytes:
    """The numbers of a slot with these names, which are those of the totals."""
    samplers = totals.samplers.values()
    numbers = [
        *(generation, len(names), zlib.crc32(names), len(totals.losses), len(samplers)),
        *(totals.restarts, totals.reserved_version, totals.environment_steps, totals.rows),
        *(totals.ring.written, totals.ring.resident),
    ]
    for loss in totals.losses.values():
        numbers += (loss.pushes, loss.rows)
    numbers += [sampler.sequence for sampler in samplers]
    numbers += [sampler.rows for sampler in samplers]
    return _checked(struct.pack(f"<{len(numbers)}Q", *numbers))


def renew(numbers: bytes, generation: int, reserved_version: int) -> bytes:
    """The same numbers of a later generation, with another reserved version."""
    changed = bytearray(numbers)
    _NUMBER.pack_into(changed, _GENERATION_AT, generation)
    _NUMBER.pack_into(changed, _RESERVED_VERSION_AT, reserved_version)
    return _checked(changed[_NUMBER.size :])


def _checked(numbers: bytes | bytearray) -> bytes:
    return _NUMBER.pack(zlib.crc32(numbers)) + numbers


def check_beginning(path: Path, beginning: bytes, size: int) -> bool:
    """Whether a file was finished; where not, nothing was ever committed to it.

    Args:
        path: For the error.
        beginning: Its first `PROLOGUE_BYTES` bytes, or what there is of them.
        size: The bytes that it has.

    Raises:
        HeaderError: It is damaged, no header at all, or of a newer format.
    """
    if beginning != prologue() and prologue().startswith(beginning.rstrip(b"\0")):
        return False
    identity = beginning[: _IDENTITY.size]
    if len(beginning) != PROLOGUE_BYTES or beginning[_IDENTITY.size :] != _CHECKED.pack(
        zlib.crc32(identity)
    ):
        raise _damaged(path, "its beginning is")
    magic, number = _IDENTITY.unpack(identity)
    if magic != _MAGIC:
        raise _damaged(path, "its beginning is")
    if number > FORMAT:
        raise _newer(path, f"has format {number}, and this release reads up to {FORMAT}")
    if size != FILE_BYTES:
        raise _damaged(path, f"its size of {size} bytes, which should be {FILE_BYTES}, is")
    return True


def newest(path: Path, content: bytes) -> Slot | None:
    """The sound slot of the higher generation; None where the file was never finished.

    Raises:
        HeaderError: It is damaged, no header at all, or of a newer format.
    """
    is_finished = check_beginning(path, content[:PROLOGUE_BYTES], len(content))
    slots = [_decode(path, content, number) for number in range(2) if _is_sound(content, number)]
    last = max(slots, key=lambda slot: slot.generation, default=None)
    if is_finished and last is None:
        raise _damaged(path, "both of its slots are")
    if not is_finished and last and last.generation > FIRST_GENERATIONS:
        raise _damaged(path, "its beginning is")
    return last if is_finished else None


def _damaged(path: Path, what: str) -> HeaderError:
    return HeaderError(
        f"{path} cannot be read, {what} damaged: it says which pushes and versions there were, and "
        "without it the run cannot be resumed; put a copy of it back, or start a new run"
    )


def _newer(path: Path, what: str) -> HeaderError:
    return HeaderError(f"{path} {what}; resume the run with the release that wrote it, or a later")


def _is_sound(content: bytes, slot: int) -> bool:
    if len(content) < FILE_BYTES:
        return False
    at = numbers_at(slot)
    checksum, _, length, names_checksum, reasons, samplers, *_ = _FIXED.unpack_from(content, at)
    if reasons > MAX_REASONS or samplers > MAX_SAMPLERS or length > NAMES_BYTES:
        return False
    numbers = content[at + 8 : at + _FIXED.size + 16 * (reasons + samplers)]
    names = content[names_at(slot) : names_at(slot) + length]
    return (zlib.crc32(numbers), zlib.crc32(names)) == (checksum, names_checksum)


def _decode(path: Path, content: bytes, slot: int) -> Slot:
    at = numbers_at(slot)
    _, generation, length, _, reasons, samplers, *counters = _FIXED.unpack_from(content, at)
    restarts, reserved_version, environment_steps, rows, written, resident = counters
    text = content[names_at(slot) : names_at(slot) + length].decode()
    names = text.split("\0") if text else []
    unknown = set(names[:reasons]) - set(LossReason)
    if unknown:
        raise _newer(path, f"counts losses for {', '.join(sorted(unknown))}, unknown here")
    lost = struct.unpack_from(f"<{2 * reasons}Q", content, at + _FIXED.size)
    of_samplers = at + _FIXED.size + 16 * reasons
    sequences = struct.unpack_from(f"<{samplers}Q", content, of_samplers)
    accepted = struct.unpack_from(f"<{samplers}Q", content, of_samplers + 8 * samplers)
    totals = Totals(
        restarts,
        reserved_version,
        environment_steps,
        rows,
        {
            name: SamplerTotals(sequence, count)
            for name, sequence, count in zip(names[reasons:], sequences, accepted, strict=True)
        },
        {
            LossReason(name): Loss(pushes, count)
            for name, pushes, count in zip(names[:reasons], lost[::2], lost[1::2], strict=True)
        },
        RingCursor(written, resident),
    )
    return Slot(slot, generation, totals)
