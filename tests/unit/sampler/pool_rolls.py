"""Rolls for the tests: a pool in this process, and its batches as arrays."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pool_environments  # noqa: F401 - registers what has an id of its own
import pool_models

from common import specs, tensors
from common.signature import ColumnKey, Role
from protos.wiserl.v1 import environment_pb2, trajectory_pb2
from sampler.pool import EpisodesEvaluated, EvaluateTask, PoolConfig, RollTask, SegmentRolled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.signature import Signature
    from sampler.inline_pool import InlinePool
    from sampler.pool import Pool

    Make = Callable[[specs.EnvironmentSpec], tuple[Signature, bytes]]

MODULE = "pool_environments"


def reference(name: str, **arguments: Any) -> environment_pb2.EnvironmentReference:
    """A reference; a name without version is one of the test environments."""
    own = "-v" not in name
    return environment_pb2.EnvironmentReference(
        id=f"{MODULE}:{name}" if own else name, arguments=specs.arguments_to_proto(arguments)
    )


def config(name: str, **settings: Any) -> PoolConfig:
    """A pool's config; what `PoolConfig` does not take is the environment's."""
    known = {field.name for field in dataclasses.fields(PoolConfig)}
    own = {key: settings.pop(key) for key in list(settings) if key not in known}
    environment = reference(name, **own)
    return PoolConfig(
        **{
            "environment": environment,
            "evaluation_environment": environment,
            "allowed_modules": (MODULE,),
            **settings,
        }
    )


class Rolled:
    """A batch with its columns as arrays: `rolled["reward"]`, `rolled["record/log_prob"]`."""

    def __init__(self, batch: trajectory_pb2.TrajectoryBatch) -> None:
        self.batch = batch
        self.columns = _arrays(batch.columns)
        self.finals = _arrays(batch.final_observations.columns)
        self.final_places = list(
            zip(batch.final_observations.rows, batch.final_observations.slots, strict=True)
        )
        self.episodes = list(batch.episodes)

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]


def _arrays(columns: Sequence[trajectory_pb2.Column]) -> dict[str, Any]:
    return {
        str(ColumnKey(Role(one.role), one.group, one.key)): tensors.decode(one.tensor)
        for one in columns
    }


def ready(pool: Pool, make: Make, *, seed: int = 1, version: int = 1) -> Signature:
    """Configures a pool and gives it a policy."""
    signature, model = make(pool.spec)
    pool.configure(pool_models.registration(signature, seed=seed))
    pool.set_policy(version, model, None)
    return signature


def roll(
    pool: InlinePool, rows: int, slots: Sequence[int] | None = None, worker: int = 0
) -> Rolled:
    """Rolls a segment of a worker."""
    chosen = tuple(range(worker, pool.slots, pool.workers)) if slots is None else tuple(slots)
    pool.submit(worker, RollTask(1, chosen, rows))
    (event,) = pool.events()
    assert isinstance(event, SegmentRolled)
    return Rolled(event.batch)


def evaluate(pool: InlinePool, seeds: Sequence[int], version: int = 1) -> list[Any]:
    """Plays an evaluation."""
    pool.submit(0, EvaluateTask(2, version, tuple(seeds)))
    (event,) = pool.events()
    assert isinstance(event, EpisodesEvaluated)
    return list(event.episodes)
