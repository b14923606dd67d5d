"""`python -m sampler --learner HOST:PORT`: runs a sampler."""

from __future__ import annotations

import sys

from common.errors import InvalidFieldError
from sampler import options
from sampler.exits import ExitCode


def main() -> int:
    """Runs a sampler by the process's own command line; answers its exit code."""
    try:
        parsed = options.parse(sys.argv[1:], program="python -m sampler")
    except InvalidFieldError as error:
        print(f"sampler: {error}", file=sys.stderr)  # noqa: T201 - as for any wrong flag
        return ExitCode.USAGE
    # Imports gRPC, which is in vain for a wrong flag.
    from sampler import supervisor

    return supervisor.run(parsed)


if __name__ == "__main__":
    sys.exit(main())
