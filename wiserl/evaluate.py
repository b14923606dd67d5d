"""Plays a saved policy with the sampler's own evaluation code: ONNX Runtime and no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common import signature, specs
from common.errors import WiseRLError
from learner import policy_file
from learner.config import EVALUATION_SEEDS_FROM
from learner.metrics import Evaluation
from protos.wiserl.v1 import environment_pb2, learner_pb2
from sampler.inline_pool import InlinePool
from sampler.pool import EpisodesEvaluated, EvaluateTask, PoolConfig, PoolFailed, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.specs import ArgumentValue
    from learner.policy_file import SavedPolicy
    from learner.run_folder import RunFolder

_COPIES = 8
"""Environments played side by side: the policy acts for all in one call."""


def evaluate(
    folder: RunFolder,
    *,
    episodes: int = 100,
    first_seed: int = EVALUATION_SEEDS_FROM,
    env: str | None = None,
    env_args: Mapping[str, ArgumentValue] | None = None,
    allowed_modules: Sequence[str] = (),
) -> Evaluation:
    """Greedy episodes of the policy that a run has saved last.

    Args:
        folder: The run's.
        episodes: How many.
        first_seed: Episode i is reset with this plus i; by default those of training's evaluations.
        env: Another environment than the run evaluated in.
        env_args: Other keyword arguments of the environment.
        allowed_modules: Modules that an environment `module:factory` may come from.

    Raises:
        WiseRLError: There is no policy, or the environment does not fit it or crashes.
    """
    saved = policy_file.load(folder)
    environment = environment_pb2.EnvironmentReference(
        id=env or saved.environment.id,
        arguments=(
            saved.environment.arguments
            if env_args is None and env is None
            else specs.arguments_to_proto(dict(env_args or {}))
        ),
    )
    config = PoolConfig(
        environment,
        environment,
        workers=1,
        envs_per_worker=min(_COPIES, episodes),
        vectorization="plain",
        allowed_modules=tuple(allowed_modules),
    )
    pool = InlinePool(config)
    try:
        played = _play(pool, saved, range(first_seed, first_seed + episodes))
    finally:
        pool.close()
    return Evaluation.of(saved.version, saved.environment_steps, played, final=True)


def _play(
    pool: InlinePool, saved: SavedPolicy, seeds: Sequence[int]
) -> Sequence[learner_pb2.EvaluatedEpisode]:
    if different := saved.spec.differences(pool.spec):
        raise WiseRLError(f"the policy was trained for another environment: {'; '.join(different)}")
    pool.configure(
        learner_pb2.RegisterResponse(signature=signature.to_proto(saved.signature), index=0)
    )
    pool.set_scalars(
        [learner_pb2.Scalar(key=key, values=values) for key, values in saved.scalars.items()]
    )
    pool.set_evaluation_policy(saved.version, saved.model)
    pool.submit(0, EvaluateTask(1, saved.version, tuple(seeds)))
    while True:
        for event in pool.events():
            match event:
                case EpisodesEvaluated(episodes=episodes):
                    return episodes
                case WorkerLost(reason=reason) | PoolFailed(reason=reason):
                    raise WiseRLError(f"the environment crashed: {reason}")
