"""The nursery as the supervisor starts it: early, so that its imports take no time of anybody's."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading

from sampler.mailbox import Letter, Mailbox, socket_pair

# One thread for each worker: W of them share the machine.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}


@dataclasses.dataclass(frozen=True)
class NurseryProcess:
    """A nursery that imports and then waits for the configuration of a pool, the one it serves.

    It ends when the other end of `control` is closed, whatever happens to whoever started it.
    """

    control: Mailbox
    process: subprocess.Popen[bytes]


def start_nursery() -> NurseryProcess:
    """Starts a nursery; call it from the main thread where that is possible."""
    ours, theirs = socket_pair()
    process = subprocess.Popen(  # noqa: S603 - this very interpreter
        [sys.executable, "-m", "sampler.nursery", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={**os.environ, **_ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        # An environment may write whatever it likes; its warnings on stderr are for people.
        stdout=subprocess.DEVNULL,
        process_group=0,
    )
    theirs.close()
    control = Mailbox(ours)
    # A parent-death signal comes when the thread ends that forked: sure to outlive the pool is only
    # the main one. Without the signal, the nursery ends when its socket does.
    main_thread = threading.current_thread() is threading.main_thread()
    control.send(Letter({"sys_path": sys.path, "die_with_parent_thread": main_thread}))
    return NurseryProcess(control, process)
