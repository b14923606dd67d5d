"""CSV files that grow by a row at a time and by a column when one is new."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from common.logging import Logger
from learner import files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Cell = float | int | str | None

_log = Logger()


class Table:
    """A CSV file.

    Floats are written so that they read back exactly; None and what a row lacks is an empty cell. A
    row that cannot be written (a full disk) is kept and written with a later one.

    Args:
        path: Where the file is; one that is there is replaced.
        columns: The first columns, in order; others follow as rows bring them.
        resumed: Continue the file that is there, if any; the part of a row that a crash left at its
            end is dropped.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, resumed: bool = False) -> None:
        self._path = path
        self._columns: list[str] = []
        self._size = 0
        self._unwritten: list[Mapping[str, Cell]] = []
        if not (resumed and path.is_file() and self._continue()):
            self._rewrite(list(columns), [])

    def _continue(self) -> bool:
        """Takes over the file's columns and whole rows; false where it has not even a header."""
        text = self._path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1].decode()
        self._columns = next(csv.reader(io.StringIO(whole)), [])
        self._size = len(whole.encode())
        self._extend("")
        return bool(self._columns)

    def append(self, *rows: Mapping[str, Cell]) -> None:
        """Adds rows."""
        self._unwritten += rows
        if not rows:
            return
        try:
            self._write()
        except OSError as error:
            _log.error("table_not_written", file=self._path.name, reason=str(error))

    def _write(self) -> None:
        new = [
            name
            for name in dict.fromkeys(name for row in self._unwritten for name in row)
            if name not in self._columns
        ]
        if new:
            with self._path.open(newline="", encoding="utf-8") as file:
                rows: list[Mapping[str, Cell]] = list(csv.DictReader(file))
            self._rewrite(self._columns + new, [*rows, *self._unwritten])
        else:
            self._extend(_text(self._columns, self._unwritten))
        self._unwritten = []

    def _rewrite(self, columns: list[str], rows: Sequence[Mapping[str, Cell]]) -> None:
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(columns)
        data = (header.getvalue() + _text(columns, rows)).encode()
        files.replace(self._path, data)
        self._columns, self._size = columns, len(data)

    def _extend(self, text: str) -> None:
        data = text.encode()
        with self._path.open("r+b") as file:
            file.truncate(self._size)  # drops the part of a row that an earlier error left
            file.seek(self._size)
            file.write(data)
        self._size += len(data)


def _text(columns: list[str], rows: Sequence[Mapping[str, Cell]]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()


def read(path: Path) -> dict[str, list[str]]:
    """The columns of a CSV file as they stand in it."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        return {name: [row[name] for row in rows] for name in reader.fieldnames or ()}
