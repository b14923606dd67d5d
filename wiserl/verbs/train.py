"""`wiserl train`: everything on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wiserl import launch
from wiserl.command_line import CommandLine, launched

if TYPE_CHECKING:
    from collections.abc import Sequence

DESCRIPTION = (
    "Trains on this machine: the learner in this process, samplers as processes beside it. "
    "Every flag is also a WISERL_* variable, such as WISERL_TOTAL_STEPS."
)


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    line = CommandLine("train", arguments, local=True, description=DESCRIPTION)
    order = line.order()
    return launched(order, lambda: launch.train_locally(order, line.sections["local"]))
