"""Puts a run together: folder, front, samplers, training, picture."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

from common.logging import Logger, bound
from common.machine import usable_cores
from common.tracing import from_environment
from learner.front.coordinator import Coordinator
from learner.front.settings import FrontSettings, Limits, RunIdentity
from learner.observer import Observers
from learner.run_folder import RunFolder
from wiserl import environments, origin, places
from wiserl.local import LocalSamplers
from wiserl.origin import OriginFiles
from wiserl.signals import Drain

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import DataclassInstance

    from common.status_options import StatusOptions
    from learner.front.interface import Front
    from learner.front.security import ServerSecurity
    from learner.front.server import FrontServer
    from learner.outcome import Outcome
    from wiserl.local import LocalConfig
    from wiserl.order import Order

_log = Logger()

MOST_THREADS = 4
"""More threads rarely help networks of this field's size, and in a container whose share of the
machine is smaller than its cores they do harm."""


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
        folder, run_id = self.enter_context(origin.opened_folder(order, self._started))
        self._folder = folder
        self._header = self.enter_context(origin.opened_header(order, folder))
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
        resumed, initial = origin.state(self._order, self._folder)
        files = self._origin_files(local, hyperparameters)
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
            outcome = training.train(job, front, Observers([files, self._order.observer]))
        return dataclasses.replace(outcome, signal=drain.signal)

    def _origin_files(
        self, local: LocalConfig | None, hyperparameters: DataclassInstance
    ) -> OriginFiles:
        """The files that say what this run is; those of a new run are written at once."""
        settings = {
            "algorithm": self._order.algorithm,
            "run": dataclasses.asdict(self._run),
            **({"local": dataclasses.asdict(local)} if local else {}),
            "hyperparameters": dataclasses.asdict(hyperparameters),
        }
        files = OriginFiles(self._folder, settings, self._order.command, self._started)
        self.callback(files.close)
        if self._order.resume is None:
            files.write()
        return files


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
