"""A sampler as a child that does not outlive its parent: `python -m wiserl.child PID FLAGS`."""

from __future__ import annotations

import sys

from common.parent import die_with


def main() -> int:
    """Runs a sampler with the arguments after the parent's process id; answers its exit code."""
    die_with(int(sys.argv.pop(1)))
    from sampler.__main__ import main as run_sampler

    return run_sampler()


if __name__ == "__main__":
    sys.exit(main())
