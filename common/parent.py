"""A process that ends when the one that started it does."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent ends, by whatever cause.

    The signal comes when the *thread* ends that started this process: call that from the parent's
    main one.

    Args:
        parent: Its process id. Where it has ended already, so does this process.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the signal was asked for
        os._exit(128 + signal.SIGKILL)
