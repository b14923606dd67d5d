"""`wiserl learner`: a learner alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.logging import Logger
from wiserl import farewells, launch, resuming
from wiserl.command_line import CommandLine, launched

if TYPE_CHECKING:
    from collections.abc import Sequence

DESCRIPTION = (
    "Serves a run to samplers that come over the network (`wiserl sampler --learner HOST:PORT`) "
    "and trains on what they push. Every flag is also a WISERL_* variable, such as WISERL_PORT."
)

_log = Logger()


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    line = _recovered(_line(arguments), arguments)
    order, serving = line.order(), line.sections["serve"]
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    address, security, limits = f"{host}:{serving.port}", serving.security(), serving.limits()
    if farewells.are_owed(order):
        print(f"the run in {order.resume} is over; its samplers are told so now", flush=True)
        number = farewells.say(order, address, security, status=serving, limits=limits)
        return 0 if number is None else 128 + number
    return launched(
        order,
        lambda: launch.serve(
            order,
            address,
            security,
            status=serving,
            limits=limits,
            expect_samplers=serving.expect_samplers,
        ),
    )


def _line(arguments: Sequence[str]) -> CommandLine:
    return CommandLine("learner", arguments, local=False, description=DESCRIPTION)


def _recovered(line: CommandLine, arguments: Sequence[str]) -> CommandLine:
    """The command line, with the run to go on with where it is to recover one and there is one."""
    general = line.sections["general"]
    if not line.sections["serve"].recover or general.resume is not None:
        return line
    run = line.sections["run"].to_config()
    found = resuming.unfinished(general.runs, line.algorithm, run)
    if found is None:
        return line
    _log.info("run_recovered", folder=str(found))
    return _line([*arguments, "--resume", str(found)])
