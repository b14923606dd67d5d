"""Rounds of several agents in which the policy acted, for tests of MAPPO and IPPO."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from joint_support import MIXED
from learner_support import CPU, batch_of, box

from common.signature import ColumnKey, Role
from learner.algorithms import registry
from learner.publishing.examples import example_inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from common import specs

STATED = dataclasses.replace(MIXED, global_state=box(3))
VALID, FIRST, OVER = (ColumnKey(role) for role in (Role.VALID, Role.IS_FIRST, Role.EPISODE_END))


def made(name: str = "mappo", spec: specs.EnvironmentSpec = STATED, **settings: Any) -> Any:
    """3 environments by 6 steps."""
    algorithm = registry.resolve(name)
    seed = settings.pop("seed", 0)
    given = {"n_envs": 3, "n_steps": 6, "hidden_sizes": (16,), **settings}
    return algorithm(spec, algorithm.Config(**given), device=CPU, seed=seed)


def nothing_ends(batch: Any) -> Any:
    """The round as it is."""
    return batch


def with_a_death(batch: Any) -> Any:
    """The first walker of slot 0 terminates in row 1; slot 0's episode is cut off in row 3."""
    columns = batch.columns
    columns[ColumnKey(Role.TERMINATED, "walker")][1, 0, 0] = True
    columns[ColumnKey(Role.ALIVE, "walker")][2:5, 0, 0] = False
    for group in ("walker", "scout"):
        columns[ColumnKey(Role.ALIVE, group)][4, 0] = False
        columns[ColumnKey(Role.TRUNCATED, group)][3, 0] = True
    columns[ColumnKey(Role.TRUNCATED, "walker")][3, 0, 0] = False
    columns[VALID][4, 0] = False
    columns[OVER][3, 0] = columns[FIRST][5, 0] = True
    return batch


def rolled(
    algorithm: Any, *, seed: int = 0, ends: Callable[[Any], Any] = nothing_ends, run: Any = None
) -> Any:
    """A round of random observations that the policy acted in, row by row.

    Args:
        algorithm: Whose policy.
        seed: Of what is random.
        ends: Has episodes end before the policy acts: one with a memory forgets there.
        run: From inputs by name to the outputs by name; None runs the policy in torch.
    """
    generator = np.random.default_rng(seed)
    behaviour, steps, slots = algorithm.behaviour, algorithm.n_steps, algorithm.n_envs
    fed = example_inputs(behaviour, generator, (steps + 1) * slots)
    fed = {name: array.reshape(steps + 1, slots, *array.shape[1:]) for name, array in fed.items()}
    for name in fed:
        if name.startswith("action_mask"):
            fed[name][..., 0] = True
    columns = _columns(algorithm, fed, generator)
    columns[FIRST][0, -1] = True  # the other slots are in the middle of an episode
    batch = ends(batch_of(columns))
    _act(behaviour, batch.columns, fed, run or _in_torch(behaviour))
    return batch


def _columns(algorithm: Any, fed: Any, generator: np.random.Generator) -> dict[ColumnKey, Any]:
    found = {ColumnKey(t.role, t.group, t.key): fed[t.name] for t in algorithm.behaviour.inputs}
    columns = {}
    for spec in algorithm.signature.columns:
        shape = spec.extent.leading(algorithm.n_steps, algorithm.n_envs) + spec.shape
        if spec.key.role == Role.STATE:
            columns[spec.key] = generator.standard_normal(shape).astype(spec.dtype)
        elif spec.key in found:
            columns[spec.key] = found[spec.key][: shape[0]].copy()
        elif spec.dtype == np.bool_:
            columns[spec.key] = np.full(shape, spec.key.role in {Role.ALIVE, Role.VALID})
        else:
            columns[spec.key] = generator.standard_normal(shape).astype(spec.dtype)
    return columns


def _act(behaviour: Any, columns: dict[ColumnKey, Any], fed: Any, run: Any) -> None:
    """Puts in the columns what the policy answers to what they say."""
    states = {t.name: columns[ColumnKey(t.role, t.group, t.key)] for t in _inputs(behaviour)}
    for row in range(len(columns[VALID])):
        feeds = {name: array[row] for name, array in fed.items()}
        feeds |= states
        if states:
            feeds["reset"] = columns[FIRST][row]
        answers = run(feeds)
        for output in behaviour.outputs:
            key = ColumnKey(output.role, output.group, output.key)
            if output.role == Role.NEXT_STATE:
                states[f"state/{output.group}/{output.key}"] = answers[output.name]
            elif key in columns:
                columns[key][row] = answers[output.name]


def _inputs(behaviour: Any) -> list[Any]:
    return [tensor for tensor in behaviour.inputs if tensor.role == Role.STATE]


def _in_torch(behaviour: Any) -> Any:
    def run(feeds: dict[str, Any]) -> dict[str, Any]:
        with torch.no_grad():
            found = behaviour(*(torch.from_numpy(feeds[t.name]) for t in behaviour.inputs))
        return {
            output.name: one.numpy() for output, one in zip(behaviour.outputs, found, strict=True)
        }

    return run
