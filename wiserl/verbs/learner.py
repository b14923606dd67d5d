"""`wiserl learner`: a learner alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wiserl import launch
from wiserl.command_line import CommandLine, launched

if TYPE_CHECKING:
    from collections.abc import Sequence

DESCRIPTION = (
    "Serves a run to samplers that come over the network (`wiserl sampler --learner HOST:PORT`) "
    "and trains on what they push. Every flag is also a WISERL_* variable, such as WISERL_PORT."
)


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    line = CommandLine("learner", arguments, local=False, description=DESCRIPTION)
    order, serving = line.order(), line.sections["serve"]
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    return launched(
        order,
        lambda: launch.serve(
            order,
            f"{host}:{serving.port}",
            insecure=serving.insecure,
            expect_samplers=serving.expect_samplers,
        ),
    )
