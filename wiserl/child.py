"""A sampler as a child that does not outlive its parent: `python -m wiserl.child PID FLAGS`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent dies, by whatever cause."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the signal was asked for
        os._exit(128 + signal.SIGKILL)


def main() -> int:
    """Runs a sampler with the arguments after the parent's process id; answers its exit code."""
    die_with(int(sys.argv.pop(1)))
    from sampler.__main__ import main as run_sampler

    return run_sampler()


if __name__ == "__main__":
    sys.exit(main())
