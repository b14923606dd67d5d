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

from typing import TYPE_CHECKING, Self

from learner import files
from learner import header_layout as layout
from learner.header_layout import MAX_SAMPLERS, HeaderError
from learner.mapped_file import MappedFile
from learner.totals import Header, SamplerTotals, Totals

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["HeaderError", "MappedHeader", "read"]


class MappedHeader(Header):
    """Totals in a file: made by `create` for a new run, by `open` for one that goes on.

    Only one process at a time has a file open, so that two learners never continue the same run; a
    killed process lets go of it. Within the process it is for one thread at a time.
    """

    def __init__(self, file: MappedFile, slot: layout.Slot) -> None:
        self.totals = slot.totals
        self._file: MappedFile | None = file
        self._slot = slot.number
        self._generation = slot.generation
        self._on_disk = 0  # the highest version that is reserved there
        self._named: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._names = b""
        self._names_in: list[bytes | None] = [None, None]
        self._moved: dict[str, tuple[int, int]] = {}

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
            raise HeaderError(
                f"{path} does not exist, so there is nothing to resume; name the folder of a run"
            ) from None
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
        header = cls(file, slot or layout.Slot(1, 0, Totals()))
        try:
            if slot:
                header.totals.restarts += 1
                header._sync(file)
            else:
                header._sync(file)
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
        self._commit(self._opened())

    def reserve_version(self, version: int) -> None:
        """See the base class. Takes as long as the disk does, unless it was done before."""
        if version > self._on_disk:
            self.totals.reserved_version = max(self.totals.reserved_version, version)
            self._sync(self._opened())

    def close(self) -> None:
        """Commits, syncs and lets others open the file; once more does nothing.

        Raises:
            OSError: The disk does not take it; the file is closed all the same.
        """
        file = self._file
        if file is not None:
            self._file = None
            try:
                self._sync(file)
            finally:
                file.close()

    def _opened(self) -> MappedFile:
        if self._file is None:
            raise ValueError("the header is closed; commit before its learner stops")
        return self._file

    def _sync(self, file: MappedFile) -> None:
        self._commit(file)
        self._commit(file)  # neither slot may be of before
        file.sync()
        self._on_disk = self.totals.reserved_version

    def _commit(self, file: MappedFile) -> None:
        slot = 1 - self._slot
        self._generation += 1
        samplers = self._kept(self.totals.samplers)
        named = (tuple(self.totals.losses), tuple(samplers))
        if named != self._named:  # rarely: samplers come and go
            self._named, self._names = named, layout.encode_names(*named)
        if self._names_in[slot] is not self._names:
            self._names_in[slot] = None
            file.write(layout.names_at(slot), self._names)
            self._names_in[slot] = self._names
        numbers = layout.encode_numbers(self._generation, self._names, self.totals, samplers)
        file.write(layout.numbers_at(slot), numbers)
        self._slot = slot

    def _kept(self, samplers: dict[str, SamplerTotals]) -> dict[str, SamplerTotals]:
        """All samplers; or, where the file has no room for all, those that pushed last."""
        if len(samplers) <= MAX_SAMPLERS:
            self._moved = {}
            return samplers
        moved = {}
        for name, sampler in samplers.items():
            sequence, generation = self._moved.get(name, (-1, 0))
            is_same = sequence == sampler.sequence
            moved[name] = (sampler.sequence, generation if is_same else self._generation)
        self._moved = moved
        # Sorting is stable: of those that moved together, the ones that came first are left out.
        names = sorted(samplers, key=lambda name: moved[name][1])[-MAX_SAMPLERS:]
        return {name: samplers[name] for name in names}


def read(path: Path) -> Totals:
    """The totals in a file, for whoever only looks: nothing is counted, nobody kept out.

    Beside a learner that commits, both slots may be caught half-written; ask again then.

    Raises:
        HeaderError: There is none, it is damaged, or a newer release wrote it.
    """
    try:
        slot = layout.newest(path, path.read_bytes())
    except OSError as error:
        raise _unusable(path, error) from None
    return slot.totals if slot else Totals()


def _unusable(path: Path, error: OSError) -> HeaderError:
    return HeaderError(
        f"{path} ({layout.FILE_BYTES} bytes) cannot be used: {error.strerror}; make room, or give "
        "the run a folder that can be written to"
    )
