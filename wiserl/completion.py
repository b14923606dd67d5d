"""Completion of the `wiserl` command in a shell: a script that needs nothing of WiseRL to run."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import io
import operator
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from common.errors import InvalidFieldError
from learner import presets
from sampler.options import SamplerOptions
from wiserl import flags, parsing
from wiserl.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHELLS = ("bash", "zsh")

_FALL_BACK = """
# Where nothing is known of a word it may be a file.
_wiserl_or_file() {
  _tyro_wiserl
  [[ -n "${COMPREPLY[*]}" ]] || COMPREPLY=()
}
complete -o bashdefault -o default -F _wiserl_or_file wiserl
"""

_OF_AN_ALGORITHM = {"train": True, "learner": False}
"""Verbs whose flags depend on an algorithm, and whether they start samplers themselves."""


def script(shell: str, verbs: Mapping[str, tuple[str, str]]) -> str:
    """The script for a shell.

    Args:
        shell: One of `SHELLS`.
        verbs: Module and summary by verb.

    Raises:
        InvalidFieldError: A shell without completion here.
    """
    if shell not in SHELLS:
        raise InvalidFieldError("shell", f"{shell!r} is none of {', '.join(SHELLS)}")
    alternatives = [
        _alternative(verb, summary, _flags_of(verb, module))
        for verb, (module, summary) in verbs.items()
    ]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(_union(alternatives), prog="wiserl", args=["--tyro-print-completion", shell])
    # What the script offers stands a line each, and so must what it says of each.
    lines = [
        line.replace(r"\n", " ") if line.startswith("COMPLETION_SPEC") else line
        for line in printed.getvalue().splitlines()
    ]
    return "\n".join(lines) + (_FALL_BACK if shell == "bash" else "\n")


def _flags_of(verb: str, module: str) -> Any:  # noqa: ANN401 - a class
    if verb in _OF_AN_ALGORITHM:
        return _by_algorithm(local=_OF_AN_ALGORITHM[verb])
    if verb == "sampler":
        return SamplerOptions
    return importlib.import_module(module).FLAGS


def _by_algorithm(*, local: bool) -> Any:  # noqa: ANN401 - a class
    """A class with an algorithm's name as a word of its own, and then its flags."""
    found = []
    for name in presets.algorithms():
        sections = flags.defaults(Settings.gather(name, variables={}), local=local)
        # Without torch there is no training here, and no class to ask.
        with contextlib.suppress(ImportError):
            from learner.algorithms import registry

            sections["hyperparameters"] = registry.resolve(name).Config()
        found.append(_alternative(name, f"by {name}", parsing.combined(sections)))
    words: Any = tyro.conf.OmitSubcommandPrefixes
    return dataclasses.make_dataclass("Verb", [("algorithm", words[_union(found)])])


def _alternative(name: str, summary: str, flags_of_it: Any) -> Any:  # noqa: ANN401
    return Annotated[
        flags_of_it, tyro.conf.subcommand(name, description=summary, prefix_name=False)
    ]


def _union(alternatives: Iterable[Any]) -> Any:  # noqa: ANN401
    return functools.reduce(operator.or_, alternatives)
