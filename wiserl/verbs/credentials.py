"""`wiserl credentials`: certificates and tokens for a learner and its samplers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from wiserl import parsing

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class CredentialsFlags:
    """Makes an authority, certificates and tokens: folders learner/, sampler/ and viewer/.

    What is there already stays, but for certificates that end within 60 days or are for other
    hosts: run it again whenever you like. Exit codes: 0 all is there; 1 a file cannot be read or
    written; 2 a flag that cannot be.
    """

    folder: Annotated[Path, tyro.conf.Positional] = Path("credentials")
    """Where they go."""

    host: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ("localhost", "127.0.0.1")
    """A name or address under which samplers reach the learner, beside those of this machine;
    repeat the flag for several."""


FLAGS = CredentialsFlags


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    parsed = parsing.one(CredentialsFlags, arguments, program="wiserl credentials")
    from wiserl.credentials import Credentials

    credentials = Credentials(parsed.folder, dict.fromkeys(parsed.host))
    credentials.make()
    for made in credentials.made:
        print(f"{'made' if made.is_new else 'kept'}  {made.path}")
    return 0
