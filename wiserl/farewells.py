"""Farewells that are owed: a run is over, and its learner was stopped before samplers knew.

They wait for its return. Whatever starts the learner again with `--recover`, or a person with
`--resume`, has it say goodbye and end, in place of a run that nobody wants.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from learner import policy_file
from learner.front.coordinator import Coordinator
from learner.front.server import FrontServer
from learner.front.settings import FrontSettings, RunIdentity
from learner.header import MappedHeader
from learner.run_folder import RunFolder
from wiserl import resuming
from wiserl.signals import Drain

if TYPE_CHECKING:
    from common.status_options import StatusOptions
    from learner.front.security import ServerSecurity
    from learner.front.settings import Limits
    from wiserl.order import Order

LEASES = 2
"""For so long samplers may come, of which each tries about once a second; it suffices for all, as a
lease does when a run ends."""


def are_owed(order: Order) -> bool:
    """Whether nothing is left of the run to go on with but its farewells."""
    if order.resume is None or not RunFolder(order.resume).owes_farewells:
        return False
    return not resuming.has_more_to_do(order.resume, order.run)


def say(
    order: Order,
    address: str,
    security: ServerSecurity,
    *,
    status: StatusOptions | None = None,
    limits: Limits,
) -> int | None:
    """Serves what is left of the run: whoever comes is told that it is over.

    Returns:
        The signal that cut it short; None where it came to its end.

    Raises:
        WiseRLError: The folder's files cannot be used, or the address not be listened on.
    """
    if order.resume is None:
        raise ValueError("there is no run to take leave of")
    folder, run = RunFolder(order.resume), order.run
    policy = policy_file.load(folder)
    identity = RunIdentity(
        folder.read_identity(),
        order.algorithm,
        run.training_environment(),
        run.evaluation_environment(),
    )
    with MappedHeader.open(folder.header) as header:
        settings = FrontSettings(run.total_steps, seed=run.seed, limits=limits)
        coordinator = Coordinator(identity, settings, header)
        # Nothing is granted: a fragment's rows only bound what a sampler may register.
        coordinator.open_run(policy.signature, fragment_rows=1)
        coordinator.finish("the run was over before its learner came back")
        front = FrontServer(coordinator, address, security, status)
        front.start()
        stopped = threading.Event()
        try:
            with Drain(stopped.set) as drain:
                stopped.wait(LEASES * limits.lease_seconds)
        finally:
            front.stop()
    if drain.signal is None:
        folder.note_farewells()
    return drain.signal
