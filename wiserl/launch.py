"""Puts a run together: folder, front, samplers, training, picture."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import InvalidFieldError
from common.logging import Logger, bound
from common.machine import usable_cores
from common.tracing import from_environment
from learner import header
from learner.front.coordinator import Coordinator
from learner.front.settings import FrontSettings, Limits, RunIdentity
from learner.header import MappedHeader
from learner.observer import Observer, Observers
from learner.run_folder import RunFolder
from wiserl import environments, places
from wiserl.local import LocalSamplers
from wiserl.signals import Drain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from _typeshed import DataclassInstance
    from torch import Tensor

    from common.status_options import StatusOptions
    from learner.checkpoints import Checkpoint
    from learner.config import RunConfig
    from learner.front.interface import Front
    from learner.front.security import ServerSecurity
    from learner.front.server import FrontServer
    from learner.outcome import Outcome
    from wiserl.local import LocalConfig

_log = Logger()

MOST_THREADS = 4
"""More threads rarely help networks of this field's size, and in a container whose share of the
machine is smaller than its cores they do harm."""


@dataclasses.dataclass(frozen=True)
class Order:
    """A run to be made.

    Attributes:
        algorithm: Its name.
        run: The run's settings.
        hyperparameters: Gives the algorithm's settings, once its class is there.
        n_envs: How many environments a round takes, where that is known before.
        runs: The folder of all runs.
        resume: The folder of a run to go on with, whose settings these are; None for a new run.
        init_from: The folder of a run whose parameters to begin with.
        command: What provenance says made it.
        observer: Who is told how it goes.
    """

    algorithm: str
    run: RunConfig
    hyperparameters: Callable[[type[Any]], DataclassInstance]
    n_envs: int | None = None
    runs: Path = Path("runs")
    resume: Path | None = None
    init_from: Path | None = None
    command: Sequence[str] = ()
    observer: Observer = dataclasses.field(default_factory=Observer)


def train_locally(order: Order, local: LocalConfig) -> Outcome:
    """Trains with samplers of this machine: child processes, or all in this process.

    Raises:
        WiseRLError: Anything that a person has to mend.
    """
    environments.check(order.run)
    with _Launch(order, expect_samplers=local.samplers) as launch:
        if local.in_process:
            outcome = launch.train_in_process(local)
        else:
            outcome = launch.train_with_children(local)
    return _drawn(outcome)


def serve(
    order: Order,
    address: str,
    security: ServerSecurity,
    *,
    status: StatusOptions | None = None,
    limits: Limits | None = None,
    expect_samplers: int | None = None,
) -> Outcome:
    """Trains with whatever samplers come to `address`.

    Raises:
        WiseRLError: Anything that a person has to mend.
    """
    with _Launch(order, expect_samplers=expect_samplers, limits=limits) as launch:
        outcome = launch.serve(address, security, status)
    return _drawn(outcome)


class _Origin(Observer):
    """Has the settings written, once: those of a resumed run only when it goes on with them."""

    def __init__(self, write: Callable[[], None]) -> None:
        self._write: Callable[[], None] | None = write

    def began(self, version: int) -> None:
        """The run goes on, so nothing of its settings was refused."""
        del version
        write, self._write = self._write, None
        if write is not None:
            write()


class _Launch(contextlib.ExitStack):
    """One run, and everything that has to end with it."""

    def __init__(
        self, order: Order, *, expect_samplers: int | None, limits: Limits | None = None
    ) -> None:
        super().__init__()
        self._order = order
        self._run = order.run
        self._started = dt.datetime.now().astimezone()
        references = order.run.training_environment(), order.run.evaluation_environment()
        settings = FrontSettings(
            order.run.total_steps,
            seed=order.run.seed,
            expect_samplers=expect_samplers,
            limits=limits or Limits(),
        )
        self._folder, run_id = self.enter_context(self._opened_folder())
        self._header = self.enter_context(self._opened_header())
        self._identity = RunIdentity(run_id, order.algorithm, *references)
        self._coordinator = coordinator = Coordinator(self._identity, settings, self._header)
        self.enter_context(bound(run_id=run_id, version=lambda: coordinator.newest_version or None))

    def train_in_process(self, local: LocalConfig) -> Outcome:
        from sampler.pool import PoolConfig
        from wiserl.in_process import InProcessFront

        algorithm, hyperparameters = self._resolve()
        local = local.resolved(_n_envs(hyperparameters))
        pool = PoolConfig(
            self._identity.training_environment,
            self._identity.evaluation_environment,
            local.workers,
            local.envs_per_worker,
            allowed_modules=self._run.modules(),
        )
        front = InProcessFront(self._coordinator, pool, samplers=local.samplers)
        self.callback(front.close)
        return self._train(algorithm, hyperparameters, front, local)

    def train_with_children(self, local: LocalConfig) -> Outcome:
        front = self._listen("127.0.0.1:0")
        samplers = LocalSamplers(
            front.address,
            log=self._folder.sampler_log,
            modules=self._run.modules(),
            on_failure=lambda: _drain(front),
        )
        self.push(samplers.leave)
        # Where the round's size is known samplers start beside the import of torch, which is half
        # of the time that a run takes to begin.
        if self._order.n_envs is not None:
            local = local.resolved(self._order.n_envs)
            samplers.start(local)
            algorithm, hyperparameters = self._resolve()
        else:
            algorithm, hyperparameters = self._resolve()
            local = local.resolved(_n_envs(hyperparameters))
            samplers.start(local)
        return self._train(
            algorithm, hyperparameters, front, local, failure=lambda: samplers.failure
        )

    def serve(
        self, address: str, security: ServerSecurity, status: StatusOptions | None
    ) -> Outcome:
        front = self._listen(address, security, status)
        return self._train(*self._resolve(), front, None)

    def _listen(
        self,
        address: str,
        security: ServerSecurity | None = None,
        status: StatusOptions | None = None,
    ) -> FrontServer:
        from learner.front.server import FrontServer

        tracing = from_environment("wiserl-learner")
        if tracing is not None:
            self.callback(tracing.close)
        front = FrontServer(self._coordinator, address, security, status, tracing)
        front.start()
        self.callback(front.stop)
        return front

    def _resolve(self) -> tuple[type[Any], DataclassInstance]:
        """The algorithm's class and its settings; imports torch."""
        from learner import training
        from learner.algorithms import registry

        algorithm = registry.resolve(self._order.algorithm)
        training.check(algorithm, self._run)
        return algorithm, self._order.hyperparameters(algorithm)

    def _train(
        self,
        algorithm: type[Any],
        hyperparameters: DataclassInstance,
        front: Front,
        local: LocalConfig | None,
        *,
        failure: Callable[[], str | None] = lambda: None,
    ) -> Outcome:
        from learner import training

        # Samplers that come from elsewhere may run on this machine, too, and torch with more
        # threads than free cores is many times slower than with one.
        cores = usable_cores()
        free = cores - local.samplers * local.workers if local else cores // 2
        threads = min(MOST_THREADS, max(1, free))
        self._run = dataclasses.replace(
            self._run,
            threads=self._run.threads or threads,
            sync=training.is_synchronous(algorithm, self._run),
        )
        device = training.device_of(self._run.device)
        resumed, initial = self._state()
        origin = _Origin(lambda: self._write_origin(local, hyperparameters))
        if self._order.resume is None:
            origin.began(0)
        job = training.Job(
            config=self._run,
            algorithm=algorithm,
            hyperparameters=hyperparameters,
            device=device,
            folder=self._folder,
            graphs=places.graph_cache(),
            header=self._header,
            resumed=resumed,
            initial=initial,
            failure=failure,
        )
        with Drain(lambda: _drain(front)) as drain:
            outcome = training.train(job, front, Observers([origin, self._order.observer]))
        return dataclasses.replace(outcome, signal=drain.signal)

    def _write_origin(self, local: LocalConfig | None, hyperparameters: DataclassInstance) -> None:
        """The files that say what this run is; asking git and the system need not delay it."""
        self._folder.write_config(
            {
                "algorithm": self._order.algorithm,
                "run": dataclasses.asdict(self._run),
                **({"local": dataclasses.asdict(local)} if local else {}),
                "hyperparameters": dataclasses.asdict(hyperparameters),
            }
        )
        # How an earlier process ended says no longer how the run did.
        self._folder.result.unlink(missing_ok=True)
        writing = threading.Thread(
            target=self._folder.write_provenance,
            args=(self._order.command,),
            kwargs={"started": self._started},
        )
        writing.start()
        self.callback(writing.join)

    @contextlib.contextmanager
    def _opened_folder(self) -> Iterator[tuple[RunFolder, str]]:
        """The run's folder and id; a new folder goes again where it came to nothing."""
        if self._order.resume is not None:
            folder = RunFolder(self._order.resume)
            yield folder, folder.read_identity()
            return
        folder = RunFolder.create(
            self._order.runs,
            environment=self._run.env,
            algorithm=self._order.algorithm,
            seed=self._run.seed,
            at=self._started,
        )
        run_id = secrets.token_hex(8)
        folder.write_identity(run_id)
        try:
            yield folder, run_id
        finally:
            if not folder.config.exists():
                folder.discard(self._order.runs)

    def _opened_header(self) -> MappedHeader:
        """The counters of the run, with this process among those that served it.

        Raises:
            InvalidFieldError: The run to resume has nothing left to do.
            WiseRLError: It is served by another process, or its header is damaged.
        """
        if self._order.resume is None:
            return MappedHeader.create(self._folder.header)
        self._check_unfinished()
        return MappedHeader.open(self._folder.header)

    def _check_unfinished(self) -> None:
        """Refuses what has nothing left to do, before it counts as one more restart."""
        if not self._folder.is_finished:
            return
        steps, total = header.read(self._folder.header).environment_steps, self._run.total_steps
        if steps >= total:
            raise InvalidFieldError(
                "total_steps",
                f"{total} are done already ({self._folder.path} has {steps}); give more to go on",
            )

    def _state(self) -> tuple[Checkpoint | None, Mapping[str, Tensor] | None]:
        """The checkpoint to go on from, or tensors of another run to begin with.

        Raises:
            WiseRLError: There is no sound checkpoint in the folder of the other run.
        """
        from learner.checkpoints import Checkpoints, NoCheckpointError

        if self._order.resume is not None:
            try:
                return Checkpoints(self._folder.checkpoints).load(), None
            except NoCheckpointError as error:
                # Its first process ended before the first checkpoint: all there is are counters.
                _log.warning("resumed_from_the_start", reason=str(error))
                return None, None
        if self._order.init_from is not None:
            folder = RunFolder(self._order.init_from)
            return None, Checkpoints(folder.checkpoints).load().tensors
        return None, None


def _drawn(outcome: Outcome) -> Outcome:
    """The outcome, once its curve is in the folder; nobody waits for that any more."""
    from learner import plots

    try:
        plots.draw(RunFolder(outcome.folder))
    except (OSError, ImportError) as error:
        _log.warning("curve_not_drawn", reason=str(error))
    return outcome


def _drain(front: Front) -> None:
    with front.locked() as coordinator:
        coordinator.drain()


def _n_envs(hyperparameters: DataclassInstance) -> int | None:
    count = getattr(hyperparameters, "n_envs", None)
    return count if isinstance(count, int) else None
