"""How a sampler ends: exit codes that a script or an orchestrator can tell apart."""

from __future__ import annotations

import enum

from common.errors import WiseRLError


class ExitCode(enum.IntEnum):
    """What the process answers to whoever started it. 1 (a traceback) is a defect of ours.

    A sampler that a signal stopped answers 128 plus the signal, as shells count: 143 after SIGTERM,
    130 after SIGINT.
    """

    FINISHED = 0
    """The learner said that the run is over."""
    USAGE = 2
    """A flag or a variable that cannot be."""
    UNREACHABLE = 3
    """No learner answered for `--connect-timeout-seconds`."""
    REFUSED = 4
    """The learner will not have it: other spec, other protocol, no permission, too large."""
    ENVIRONMENT = 5
    """The environment cannot be built here, or is not allowed."""
    WORKERS_FAILED = 6
    """Environment workers crashed or hung again and again."""
    DATA_REFUSED = 7
    """The learner refused what was pushed, reported or published again and again."""


class SamplerStopError(WiseRLError):
    """The sampler cannot go on, and starting over would not help.

    Attributes:
        exit_code: What the process then answers.
    """

    def __init__(self, exit_code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
