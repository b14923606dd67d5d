"""The tables of a run's folder, as tests read them."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def rows(folder: Path, table: str = "metrics") -> list[dict[str, str]]:
    """The rows of a table, none before there is one; a row that a kill cut is left out."""
    path = folder / f"{table}.csv"
    text = path.read_text() if path.exists() else ""
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def training(folder: Path) -> list[dict[str, str]]:
    """What the rows of metrics.csv say of the training."""
    return [
        {name: value for name, value in row.items() if name.startswith("train/")}
        for row in rows(folder)
    ]
