"""What `--help` says of settings, as paragraphs that fit the terminal.

Tyro takes it from the docstrings below the fields, and keeps the line breaks of the source in them.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import shutil
import textwrap
import types

HELP = frozenset({"-h", "--help"})
"""The flags that ask for it."""


def wrapped(text: str) -> str:
    """A text in lines that fit the terminal; tyro leaves breaks alone before indented ones."""
    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False)


def as_paragraphs(settings: type) -> None:
    """Has the explanation of every field of a dataclass stand without breaks in its metadata."""
    texts = {
        name: text
        for ancestor in reversed(settings.__mro__)
        if dataclasses.is_dataclass(ancestor)
        for name, text in _explanations(ancestor).items()
    }
    for field in dataclasses.fields(settings):
        if field.name in texts:
            field.metadata = types.MappingProxyType(
                {"help": " ".join(texts[field.name].split()), **field.metadata}
            )


def _explanations(settings: type) -> dict[str, str]:
    """The docstrings below the fields of one class, by name; empty where there is no source."""
    try:
        source = inspect.getsource(settings)
    except OSError:
        return {}
    (definition,) = ast.parse(textwrap.dedent(source)).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    found = {}
    for field, below in itertools.pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = str(below.value.value)
    return found
