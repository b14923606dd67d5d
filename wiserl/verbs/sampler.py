"""`wiserl sampler`: a sampler alone. Imports nothing of the learner."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers one of `sampler.exits.ExitCode`."""
    from sampler import options

    parsed = options.parse(arguments, program="wiserl sampler")
    from sampler import supervisor

    return supervisor.run(parsed)
