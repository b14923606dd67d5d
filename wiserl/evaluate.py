"""Plays a saved policy with the sampler's own evaluation code: ONNX Runtime and no torch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

import numpy as np

from common import specs
from common.errors import WiseRLError
from learner import policy_file
from learner.config import EVALUATION_SEEDS_FROM
from learner.metrics import Evaluation
from protos.wiserl.v1 import environment_pb2
from sampler import evaluation, graphs
from sampler.acting import outputs_for
from sampler.environments import registry
from sampler.environments.building import specification
from sampler.policy import Policy
from sampler.workload import SIZE_BYTES, Workload
from wiserl.random_agents import RandomAgents, named

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from common.specs import ArgumentValue
    from learner.policy_file import SavedPolicy
    from learner.run_folder import RunFolder
    from protos.wiserl.v1 import learner_pb2
    from sampler.environments.multi_agent import ParallelEnvironment
    from sampler.environments.registry import Environment
    from wiserl.video import Filming

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
    stochastic: bool = False,
    random_agents: Collection[str] = (),
    filming: Filming | None = None,
) -> Evaluation:
    """Episodes of the policy that a run has saved last.

    Args:
        folder: The run's.
        episodes: How many.
        first_seed: Episode i is reset with this plus i; by default those of training's evaluations.
        env: Another environment than the run evaluated in, in the same wrappers.
        env_args: Other keyword arguments of the environment.
        allowed_modules: Modules that an environment `module:factory` may come from.
        stochastic: Act as in training, exploration included, instead of greedily. The draws are a
            function of the seed: the same command plays the same episodes.
        random_agents: Agents or teams by name who draw their actions instead; the draws are a
            function of the seed too.
        filming: Films the first episodes.

    Raises:
        WiseRLError: There is no policy, or the environment does not fit it or cannot be filmed.
        InvalidFieldError: It has no such agent or team.
        Exception: Whatever the environment raises.
    """
    saved = policy_file.load(folder)
    drawing = named(saved.spec, random_agents)
    recipe = registry.resolve(_environment(saved, env, env_args), allowed_modules)
    player = _Player(saved, stochastic=stochastic, drawing=drawing)
    seeds = range(first_seed, first_seed + episodes)
    filmed = min(filming.episodes, episodes) if filming is not None else 0
    played: list[learner_pb2.EvaluatedEpisode] = []
    if filming is not None and filmed:
        played += player.play([filming.environment(recipe)], seeds[:filmed], filming)
    if others := seeds[filmed:]:
        copies = [recipe.plain() for _ in range(min(_COPIES, len(others)))]
        played += player.play(copies, others)
    agents = saved.spec.agents
    return Evaluation.of(saved.version, saved.environment_steps, played, final=True, agents=agents)


def _environment(
    saved: SavedPolicy, env: str | None, env_args: Mapping[str, ArgumentValue] | None
) -> environment_pb2.EnvironmentReference:
    if env is None and env_args is None:
        return saved.environment
    return environment_pb2.EnvironmentReference(
        id=env or saved.environment.id,
        arguments=specs.arguments_to_proto(dict(env_args or {})),
        wrappers=saved.environment.wrappers,
    )


class _Player:
    """A saved policy, ready to play episodes."""

    def __init__(self, saved: SavedPolicy, *, stochastic: bool, drawing: Sequence[str]) -> None:
        self._saved = saved
        self._drawing = drawing
        self._greedy = not stochastic
        names = [one.name for one in outputs_for(saved.signature, greedy=self._greedy)]
        self._policy = Policy(saved.version, graphs.restricted(graphs.parse(saved.model), names))

    def play(
        self,
        environments: Sequence[Environment],
        seeds: Sequence[int],
        filming: Filming | None = None,
    ) -> Sequence[learner_pb2.EvaluatedEpisode]:
        """An episode for each seed, in their order; closes the environments."""
        try:
            self._check(environments[0])
            if self._drawing:
                environments = [self._with_draws(one) for one in environments]
            if filming is not None:
                environments = [filming.film(one, self._name) for one in environments]
            playing = evaluation.Evaluation(
                environments,
                self._saved.spec,
                self._saved.signature,
                self._policy,
                scalars={
                    key: np.array(values, np.float32) for key, values in self._saved.scalars.items()
                },
                run_seed=0,
                seeds=seeds,
                workload=Workload(bytearray(SIZE_BYTES)),
                greedy=self._greedy,
            )
            while not playing.finished:
                playing.advance()
        finally:
            for environment in environments:
                environment.close()
        return playing.episodes

    def _check(self, environment: Environment) -> None:
        """That the policy can act there. It knows nothing of step limits and the global state."""
        trained = self._saved.spec
        found = dataclasses.replace(
            specification(environment),
            max_episode_steps=trained.max_episode_steps,
            global_state=trained.global_state,
        )
        if different := trained.differences(found):
            said = " ".join("; ".join(different).split())  # arrays are printed over several lines
            raise WiseRLError(f"the policy was trained for another environment: {said}")

    def _name(self, seed: int) -> str:
        manner = "" if self._greedy else "-stochastic"
        drawing = "".join(f"-random-{agent}" for agent in self._drawing)
        return f"policy-{self._saved.version}-seed-{seed}{manner}{drawing}"

    def _with_draws(self, environment: Environment) -> Environment:
        several = RandomAgents(cast("ParallelEnvironment", environment), self._drawing)
        return cast("Environment", several)
