"""The run's totals in a small memory-mapped file, `header.bin` in its folder.

The file has two slots. Each holds complete totals with a generation and a checksum; the sound slot
of the higher generation is what counts. A commit writes the other slot, so that a process that is
killed at any instant, also in the middle of a store, leaves either the former totals or the new
ones. Nothing is synced for that: what a killed process stored stays in the kernel's page cache, and
no store of its is seen without those before it. Only against a loss of power is the file synced:
when it is opened, when versions are reserved and when it is closed. Both slots are written then,
so that whichever the disk has afterwards, it knows of the reservation.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from learner import files
from learner import header_layout as layout
from learner.header_layout import HeaderError
from learner.mapped_file import MappedFile
from learner.totals import Header, Totals

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["HeaderError", "MappedHeader", "read"]

RESERVED_AT_ONCE = 256
"""Versions: a sync every half minute for a learner that publishes 10 a second."""


class MappedHeader(Header):
    """Totals in a file: made by `create` for a new run, by `open` for one that goes on.

    Only one process at a time has a file open, so that two learners never continue the same run; a
    killed process lets go of it.

    Whoever changes the totals commits them, one thread at a time. Versions may be reserved by
    another thread meanwhile: that touches nothing else of what was committed last.
    """

    def __init__(self, file: MappedFile, slot: layout.Slot) -> None:
        self.totals = slot.totals
        self._file: MappedFile | None = file
        self._slot = slot.number
        self._generation = slot.generation
        self._on_disk = 0  # the highest version that is reserved there
        self._named: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._names = self._numbers = b""  # as they were committed last
        self._names_in: list[bytes | None] = [None, None]
        self._writing = threading.Lock()
        self._commit()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Makes the file of a new run; returns when it is on the disk.

        Raises:
            HeaderError: There is one already, or no room for it.
        """
        try:
            file = MappedFile(path, layout.FILE_BYTES, is_new=True, is_exclusive=True)
        except FileExistsError:
            raise HeaderError(
                f"{path} is there already; resume its run, or give the new one another folder"
            ) from None
        except OSError as error:
            raise _unusable(path, error) from None
        return cls._on(path, file, None)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the file of a run that goes on; its totals count one restart more.

        Returns when that is on the disk.

        Raises:
            HeaderError: There is none, another process has it open, it is damaged, or a newer
                release wrote it.
        """
        try:
            with path.open("rb") as beginning:
                size = path.stat().st_size
                layout.check_beginning(path, beginning.read(layout.PROLOGUE_BYTES), size)
            file = MappedFile(path, layout.FILE_BYTES, is_exclusive=True)
        except BlockingIOError:
            raise HeaderError(
                f"{path} is in use by another learner process; stop it before the run is resumed"
            ) from None
        except FileNotFoundError:
            raise _missing(path) from None
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            slot = layout.newest(path, file.read(0, layout.FILE_BYTES))
        except HeaderError:
            file.close()
            raise
        return cls._on(path, file, slot)

    @classmethod
    def _on(cls, path: Path, file: MappedFile, slot: layout.Slot | None) -> Self:
        """The header on a file that has this newest slot, or none yet."""
        is_new = slot is None
        slot = slot or layout.Slot(1, 0, Totals())
        slot.totals.restarts += not is_new
        try:
            header = cls(file, slot)
            header._sync(file)
            if is_new:
                file.write(0, layout.prologue())  # last: only now it is finished
                file.sync()
                files.sync_folder(path.parent)
        except OSError as error:
            file.close()
            raise _unusable(path, error) from None
        return header

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes it."""
        self.close()

    def commit(self) -> None:
        """See the base class. Takes some tens of microseconds, and no I/O."""
        with self._writing:
            self._commit()

    def reserve_version(self, version: int) -> None:
        """See the base class; 256 are reserved at a time, which takes as long as the disk does."""
        with self._writing:
            if version > self._on_disk:
                self.totals.reserved_version = version + RESERVED_AT_ONCE - 1
                self._sync(self._opened())

    def close(self) -> None:
        """Commits, syncs and lets others open the file; once more does nothing.

        Raises:
            OSError: The disk does not take it; the file is closed all the same.
        """
        with self._writing:
            file = self._file
            if file is not None:
                try:
                    self._commit()
                    self._sync(file)
                finally:
                    self._file = None
                    file.close()

    def _opened(self) -> MappedFile:
        if self._file is None:
            raise ValueError("the header is closed; commit before its learner stops")
        return self._file

    def _commit(self) -> None:
        file = self._opened()
        named = (tuple(self.totals.losses), tuple(self.totals.samplers))
        # Samplers come and go rarely.
        names = self._names if named == self._named else layout.encode_names(*named)
        numbers = layout.encode_numbers(self._generation + 1, names, self.totals)
        self._named, self._names = named, names
        self._store(file, numbers)

    def _sync(self, file: MappedFile) -> None:
        reserved = self.totals.reserved_version
        for _ in range(2):  # neither slot may be of before
            self._store(file, layout.renew(self._numbers, self._generation + 1, reserved))
        file.sync()
        self._on_disk = reserved

    def _store(self, file: MappedFile, numbers: bytes) -> None:
        """Writes the next generation into the slot that does not count."""
        slot = 1 - self._slot
        if self._names_in[slot] is not self._names:
            self._names_in[slot] = None
            file.write(layout.names_at(slot), self._names)
            self._names_in[slot] = self._names
        file.write(layout.numbers_at(slot), numbers)
        self._slot, self._numbers = slot, numbers
        self._generation += 1


def read(path: Path) -> Totals:
    """The totals in a file, for whoever only looks: nothing is counted, nobody kept out.

    Beside a learner that commits, both slots may be caught half-written; ask again then.

    Raises:
        HeaderError: There is none, it is damaged, or a newer release wrote it.
    """
    try:
        slot = layout.newest(path, path.read_bytes())
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise _unusable(path, error) from None
    return slot.totals if slot else Totals()


def _missing(path: Path) -> HeaderError:
    return HeaderError(
        f"{path} does not exist, so there is nothing to resume; name the folder of a run"
    )


def _unusable(path: Path, error: OSError) -> HeaderError:
    return HeaderError(
        f"{path} ({layout.FILE_BYTES} bytes) cannot be used: {error.strerror}; make room, or give "
        "the run a folder that can be written to"
    )
