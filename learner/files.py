"""Files that a crash leaves whole: written beside, synced, then renamed."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_synced(path: Path, data: bytes) -> None:
    """Writes a new file and returns when its content is on the disk.

    Raises:
        OSError: No room, or an I/O error.
    """
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Returns when the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Puts `data` at `path`; readers, also after a crash, see all of the old content or the new.

    Raises:
        OSError: No room, or an I/O error; the old content stands.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_synced(beside, data)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def json_bytes(value: object) -> bytes:
    """JSON for people: indented, keys in the order given, no NaN.

    Raises:
        ValueError: A NaN or an infinity, which JSON does not have.
    """
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
