"""A small file that may be replaced while the process runs, such as a token or a certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from common.errors import WiseRLError
from common.logging import Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")

_log = Logger()

_Stamp = tuple[tuple[int, int, int], ...]


class UnreadableFileError(WiseRLError):
    """A file that was named cannot be read."""


def read(path: Path, what: str) -> bytes:
    """The content of a file.

    Raises:
        UnreadableFileError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFileError(
            f"{what} {str(path)!r} cannot be read: {error.strerror}; check the path and who owns it"
        ) from None


class WatchedFiles(Generic[T]):
    """What was made of some files, made anew when one of them is another than before.

    Files are told apart by inode, size and time, which costs microseconds a look; also where a link
    to them is moved, as Kubernetes replaces a secret. What cannot be made of new content is logged,
    once, and the former stays: half a replacement must not lock everybody out.

    Args:
        paths: The files.
        make: Makes it of them.

    Raises:
        WiseRLError: Of `make`, the first time.
    """

    def __init__(self, paths: Sequence[Path], make: Callable[[], T]) -> None:
        self._paths = tuple(paths)
        self._make = make
        self._stamp = self._look()
        self._made = make()

    def changed(self) -> bool:
        """Whether a file was replaced since this was last asked; takes its content over."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._made = self._make()
        except WiseRLError as error:
            _log.error("file_not_taken_over", reason=str(error))
            return False
        _log.info("file_taken_over", paths=[str(path) for path in self._paths])
        return True

    def get(self) -> T:
        """What the files have now."""
        self.changed()
        return self._made

    def _look(self) -> _Stamp:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
