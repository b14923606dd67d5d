"""Where a run begins: in a new folder, in one to go on in, or from another run's parameters."""

from __future__ import annotations

import contextlib
import secrets
import threading
from typing import TYPE_CHECKING, Any

from common.errors import InvalidFieldError
from common.logging import Logger
from learner import header
from learner.header import MappedHeader
from learner.observer import Observer
from learner.run_folder import RunFolder

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from learner.checkpoints import Checkpoint
    from wiserl.order import Order

_log = Logger()


@contextlib.contextmanager
def opened_folder(order: Order, started: dt.datetime) -> Iterator[tuple[RunFolder, str]]:
    """The run's folder and id; a new folder goes again where it came to nothing.

    Raises:
        WiseRLError: The folder to go on in is no run's, or none can be made.
    """
    if order.resume is not None:
        folder = RunFolder(order.resume)
        yield folder, folder.read_identity()
        return
    folder = RunFolder.create(
        order.runs,
        environment=order.run.env,
        algorithm=order.algorithm,
        seed=order.run.seed,
        at=started,
    )
    run_id = secrets.token_hex(8)
    folder.write_identity(run_id)
    try:
        yield folder, run_id
    finally:
        if not folder.config.exists():
            folder.discard(order.runs)


def opened_header(order: Order, folder: RunFolder) -> MappedHeader:
    """The counters of the run, with this process among those that served it.

    Raises:
        InvalidFieldError: The run to resume has nothing left to do.
        WiseRLError: It is served by another process, or its header is damaged.
    """
    if order.resume is None:
        return MappedHeader.create(folder.header)
    _check_unfinished(folder, order.run.total_steps)
    return MappedHeader.open(folder.header)


def _check_unfinished(folder: RunFolder, total_steps: int) -> None:
    """Refuses what has nothing left to do, before it counts as one more restart."""
    if not folder.is_finished:
        return
    steps = header.read(folder.header).environment_steps
    if steps >= total_steps:
        raise InvalidFieldError(
            "total_steps",
            f"{total_steps} are done already ({folder.path} has {steps}); give more to go on",
        )


def state(order: Order, folder: RunFolder) -> tuple[Checkpoint | None, Mapping[str, Tensor] | None]:
    """The checkpoint to go on from, or tensors of another run to begin with.

    Raises:
        WiseRLError: There is no sound checkpoint in the folder of the other run.
    """
    from learner.checkpoints import Checkpoints, NoCheckpointError

    if order.resume is not None:
        try:
            return Checkpoints(folder.checkpoints).load(), None
        except NoCheckpointError as error:
            # Its first process ended before the first checkpoint: all there is are counters.
            _log.warning("resumed_from_the_start", reason=str(error))
            return None, None
    if order.init_from is not None:
        other = RunFolder(order.init_from)
        return None, Checkpoints(other.checkpoints).load().tensors
    return None, None


class OriginFiles(Observer):
    """The files that say what a run is: its settings, and what made it.

    They are written once. A run that is resumed keeps those of its former process until it goes on,
    which is when nothing of the new settings was refused.

    Args:
        folder: The run's.
        settings: As they were resolved.
        command: What was called.
        started: When, local time.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: Mapping[str, Any],
        command: Sequence[str],
        started: dt.datetime,
    ) -> None:
        self._folder = folder
        self._settings = settings
        # Asking git and the system need not delay the run.
        self._provenance = threading.Thread(
            target=folder.write_provenance, args=(command,), kwargs={"started": started}
        )
        self._is_written = False

    def began(self, version: int) -> None:
        """The run goes on, so nothing of its settings was refused."""
        del version
        self.write()

    def write(self) -> None:
        """Writes them, unless they are written."""
        if self._is_written:
            return
        self._is_written = True
        self._folder.write_config(self._settings)
        # How an earlier process ended says no longer how the run did.
        self._folder.result.unlink(missing_ok=True)
        self._provenance.start()

    def close(self) -> None:
        """Waits until all of them are there."""
        if self._is_written:
            self._provenance.join()
