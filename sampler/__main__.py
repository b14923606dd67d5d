"""`python -m sampler --learner HOST:PORT`: runs a sampler."""

from __future__ import annotations

import sys

from common.errors import InvalidFieldError
from sampler import options, supervisor
from sampler.exits import ExitCode
from sampler.nursery_process import start_nursery


def main() -> int:
    """Runs a sampler by the process's own command line; answers its exit code."""
    # First of all, since nothing of the start takes as long as its imports. If there is nothing to
    # start it ends with this process.
    nursery = start_nursery()
    try:
        parsed = options.parse(sys.argv[1:], program="python -m sampler")
    except InvalidFieldError as error:
        print(f"sampler: {error}", file=sys.stderr)  # noqa: T201 - as for any wrong flag
        return ExitCode.USAGE
    return supervisor.run(parsed, nursery)


if __name__ == "__main__":
    sys.exit(main())
