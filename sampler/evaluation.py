"""Evaluations: one greedy episode for each seed, in plain environments that nothing else touches.

An evaluation is resumable: it goes on row by row, whenever its worker has time for it. The policy
acts for all copies in every row, also for those that have run out of seeds, so that what it
answers to a copy does not depend on when the others end.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from common.signature import Role
from protos.wiserl.v1 import learner_pb2, trajectory_pb2
from sampler.acting import ActingArrays
from sampler.environments.building import players
from sampler.noise import NoiseSource
from sampler.seeding import evaluation_noise_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from common.signature import Signature
    from common.specs import EnvironmentSpec
    from sampler.acting import Scalars
    from sampler.environments.registry import Environment
    from sampler.policy import Policy
    from sampler.workload import Workload

STEP_LIMIT = 100_000
"""Where an environment has no step limit of its own, an evaluated episode is cut here."""

_NOISE_ROWS = 32


@dataclasses.dataclass
class _Playing:
    """The episode that a copy is playing: its place among the seeds, and its sums so far."""

    place: int
    total: float | NDArray[np.float64] = 0.0
    length: int = 0


class Evaluation:
    """The episodes of one task.

    Args:
        environments: B plain copies.
        spec: What they are.
        signature: How the policy is fed.
        policy: The version to evaluate, restricted to what an evaluation needs of it.
        scalars: The exploration values; the first of each is fed.
        run_seed: Of the run, for the noise.
        seeds: One for each episode.
        workload: Gets the rows and the time spent.
        greedy: Whether greedy actions are taken, or those of training with its exploration.

    Attributes:
        episodes: What was played, in the order of the seeds; complete when `finished`.
        rows: Steps played so far.
    """

    def __init__(
        self,
        environments: Sequence[Environment],
        spec: EnvironmentSpec,
        signature: Signature,
        policy: Policy,
        *,
        scalars: Scalars,
        run_seed: int,
        seeds: Sequence[int],
        workload: Workload,
        greedy: bool = True,
    ) -> None:
        environments = list(environments)[: len(seeds)]
        self._seeds = list(seeds)
        self._run_seed = run_seed
        self._version = policy.version
        self._workload = workload
        copies = len(environments)
        self._arrays = ActingArrays(signature, spec, copies, greedy=greedy)
        self._arrays.set_scalars(scalars, None)
        fed = [one for one in signature.inputs_of(Role.NOISE) if one.name in policy.inputs]
        self._noise = NoiseSource(fed)
        self._draws = [
            (self._arrays.inputs[one.name], np.zeros((_NOISE_ROWS, copies, *one.shape), one.dtype))
            for one in fed
        ]
        self._names = [one.name for one in fed]
        self._noise_row = _NOISE_ROWS
        self._noise_keys = np.zeros(copies, np.uint64)
        run = policy.bind(self._arrays.inputs, self._arrays.outputs)
        self._act = self._arrays.act(run, self._draws)
        self._players = players(environments, spec, self._arrays.live, self._arrays.actions)
        self.episodes: list[learner_pb2.EvaluatedEpisode] = [
            learner_pb2.EvaluatedEpisode(seed=seed) for seed in seeds
        ]
        self.rows = 0
        self._next = 0
        self._playing: list[_Playing | None] = [self._begin(copy) for copy in range(copies)]

    @property
    def finished(self) -> bool:
        """Whether every seed's episode is played."""
        return not any(self._playing)

    def advance(self) -> None:
        """Plays one step of each open episode."""
        began = time.perf_counter()
        if self._noise_row == _NOISE_ROWS:
            self._draw()
        self._act(self._noise_row)
        self._noise_row += 1
        acted = time.perf_counter()
        self._arrays.starting[:] = False
        for copy, playing in enumerate(self._playing):
            if playing is not None:
                self._playing[copy] = self._step(copy, playing)
        self._workload.add_seconds(policy=acted - began, environment=time.perf_counter() - acted)

    def _step(self, copy: int, playing: _Playing) -> _Playing | None:
        outcome = self._players.step(copy)
        self._workload.counters[0] += 1
        self.rows += 1
        playing.total = playing.total + outcome.reward
        playing.length += 1
        if not outcome.over and playing.length < STEP_LIMIT:
            return playing
        self.episodes[playing.place].episode.CopyFrom(
            trajectory_pb2.Episode(
                episode_return=float(np.mean(playing.total)),
                agent_returns=np.ravel(playing.total) if np.ndim(playing.total) else (),
                length=playing.length,
                terminated=outcome.terminated,
                metrics=outcome.metrics,
            )
        )
        return self._begin(copy)

    def _begin(self, copy: int) -> _Playing | None:
        """The next seed's episode in a copy, if there is one."""
        if self._next == len(self._seeds):
            return None
        place, self._next = self._next, self._next + 1
        seed = self._seeds[place]
        self._players.reset(copy, seed)
        self._workload.beat()
        self._arrays.starting[copy] = True
        self._arrays.restore_states(copy)
        self._noise_keys[copy] = evaluation_noise_key(self._run_seed, seed)
        self._noise_row = _NOISE_ROWS
        return _Playing(place)

    def _draw(self) -> None:
        """Draws noise for the coming rows of every episode, by the number of its step."""
        steps = [playing.length if playing else 0 for playing in self._playing]
        drawn: dict[str, NDArray[Any]] = self._noise.draw(
            self._noise_keys, self._version, np.array(steps, np.uint64), _NOISE_ROWS
        )
        for name, (_, rows) in zip(self._names, self._draws, strict=True):
            rows[...] = drawn[name]
        self._noise_row = 0
