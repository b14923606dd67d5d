"""Training: from the first sampler to the evaluation of the final policy.

The loops are the same whether samplers are across the network, processes beside it or pumped in
this one; they see them through a `Front` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from common.errors import InvalidFieldError
from learner import interruption
from learner.algorithms.base import OnPolicyAlgorithm
from learner.algorithms.from_store import StoreAlgorithm
from learner.algorithms.lag import LagConfig
from learner.front.interface import DrainingError
from learner.observer import CallbackError
from learner.outcome import Status
from learner.training.ending import end
from learner.training.job import Job, device_of
from learner.training.queue import train_from_queue
from learner.training.replay import train_asynchronously, train_synchronously
from learner.training.rounds import train_in_rounds
from learner.training.run import Run

if TYPE_CHECKING:
    from learner.algorithms.base import Algorithm
    from learner.config import RunConfig
    from learner.front.interface import Front
    from learner.observer import Observer
    from learner.outcome import Outcome

__all__ = ["Job", "check", "device_of", "is_synchronous", "train"]


def train(job: Job, front: Front, observer: Observer | None = None) -> Outcome:
    """Trains until the step budget is met, or the front drains.

    A front that drains is noticed before the next gradient step. The steps taken so far are in the
    checkpoint; the update that is left makes no policy, and its experience counts as untrained.

    The record and a checkpoint are in the folder when this returns or raises.

    Args:
        job: What to train.
        front: Where experience comes from.
        observer: Who is told.

    Returns:
        How it went; stopped rather than finished where the front drained.

    Raises:
        InvalidFieldError: The algorithm cannot be trained in the way that the settings ask for.
        UnsupportedSpaceError: The algorithm cannot learn in the environment.
        CallbackError: An observer failed.
    """
    check(job.algorithm, job.config)
    torch.set_num_threads(job.config.threads or 1)
    run = Run(job, front, observer)
    try:
        _train(run)
        run.evaluate_final()
    except DrainingError:
        reason = job.failure()
        return end(run, Status.FAILED if reason else Status.STOPPED, reason)
    except CallbackError as error:
        end(run, Status.FAILED, str(error))
        raise
    except Exception as error:
        end(run, Status.FAILED, f"{type(error).__name__}: {error}", save=False)
        raise
    return end(run, Status.FINISHED)


def check(algorithm: type[Algorithm[Any]], config: RunConfig) -> None:
    """That there is a way to train this algorithm as the settings ask for.

    Raises:
        InvalidFieldError: There is none.
    """
    if issubclass(algorithm, StoreAlgorithm):
        return
    if not issubclass(algorithm, OnPolicyAlgorithm):
        raise InvalidFieldError(
            "algorithm",
            f"{algorithm.__name__} is a subclass of neither OnPolicyAlgorithm nor "
            "StoreAlgorithm (such as OffPolicyAlgorithm); derive it from one of them",
        )
    if config.sync is False and not issubclass(algorithm.Config, LagConfig):
        raise InvalidFieldError(
            "sync",
            f"is false, but {algorithm.name} learns from rounds of its newest policy only; take "
            "appo or impala, which correct for older ones",
        )


def is_synchronous(algorithm: type[Algorithm[Any]], config: RunConfig) -> bool:
    """Whether samplers and learner wait for each other: as told, else as the algorithm does."""
    if config.sync is not None:
        return config.sync
    return not (issubclass(algorithm, StoreAlgorithm) or issubclass(algorithm.Config, LagConfig))


def _train(run: Run) -> None:
    algorithm = run.build()
    if isinstance(algorithm, StoreAlgorithm):
        (train_synchronously if run.config.sync else train_asynchronously)(run, algorithm)
    elif isinstance(algorithm, OnPolicyAlgorithm):
        run.count_lost(run.untrained_rows)
        with interruption.asking(run.check_draining):
            _train_on_policy(run, algorithm)


def _train_on_policy(run: Run, algorithm: OnPolicyAlgorithm[Any]) -> None:
    config = algorithm.config
    if isinstance(config, LagConfig) and not run.config.sync:
        train_from_queue(run, algorithm, config)
        return
    train_in_rounds(run, algorithm.update, n_envs=algorithm.n_envs, n_steps=algorithm.n_steps)
