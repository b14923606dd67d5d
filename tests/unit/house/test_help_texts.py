from __future__ import annotations

import dataclasses
import re

import pytest

from wiserl import flags, help_texts, parsing


@dataclasses.dataclass(frozen=True)
class Below:
    first: int = 1
    """Begins on a line,
    and `ends` on another."""
    second: int = 2
    """Is said otherwise above."""
    third: int = 3


@dataclasses.dataclass(frozen=True)
class Above(Below):
    second: int = 4
    """Short."""
    fourth: int = dataclasses.field(default=5, metadata={"help": "Said already."})
    """Is not read."""


def test_explanations_are_paragraphs_also_those_of_ancestors():
    help_texts.as_paragraphs(Above)
    help_texts.as_paragraphs(Above)
    said = {field.name: field.metadata.get("help") for field in dataclasses.fields(Above)}
    assert said == {
        "first": "Begins on a line, and `ends` on another.",
        "second": "Short.",
        "third": None,
        "fourth": "Said already.",
    }


def test_help_fits_a_terminal_of_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    sections = flags.defaults(flags.gather("ppo", []), local=True)
    description = "A sentence that does not end before the eightieth column. " * 3
    with pytest.raises(SystemExit):
        parsing.parse(sections, ["--help"], program="wiserl", description=description)
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.findall(r"^\W*(\w+) options\W*$", shown, re.MULTILINE) == [
        "run",
        "sampler",
        "train",
        "general",
    ]
    # The source breaks the line before "first".
    assert any("the innermost first." in line for line in lines)
