"""Environments, rounds and rolls for the learner's tests, without a network or an environment."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from common import spaces, specs
from common.signature import ColumnKey, Noise, Role
from learner.algorithms.ppo import PPO, PPOConfig
from learner.experience.on_policy import OnPolicyBatch
from learner.publishing import sessions

if TYPE_CHECKING:
    from common.specs import EnvironmentSpec
    from learner.algorithms.base import OnPolicyAlgorithm

CPU = torch.device("cpu")
VALID = ColumnKey(Role.VALID)
REWARD = ColumnKey(Role.REWARD)
TERMINATED = ColumnKey(Role.TERMINATED)
TRUNCATED = ColumnKey(Role.TRUNCATED)
OBSERVATION = ColumnKey(Role.OBSERVATION)
ACTION = ColumnKey(Role.ACTION)
LOG_PROB = ColumnKey(Role.RECORD, "", "log_prob")
RAW_ACTION = ColumnKey(Role.RECORD, "", "raw_action")


def box(*shape: int, low: float = -np.inf, high: float = np.inf, dtype: Any = np.float32):
    """A Box of one bound everywhere."""
    return spaces.Box(np.full(shape, low, dtype), np.full(shape, high, dtype))


def image(*shape: int) -> spaces.Box:
    """Bytes."""
    return spaces.Box(np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8))


def discrete_spec(observation: spaces.Space | None = None, actions: int = 2) -> EnvironmentSpec:
    """Like CartPole's, unless told otherwise."""
    return specs.single_agent(observation or box(4), spaces.Discrete(actions))


def continuous_spec(dimensions: int = 1) -> EnvironmentSpec:
    """Like Pendulum's."""
    return specs.single_agent(box(3), box(dimensions, low=-2.0, high=2.0))


def ppo(spec: EnvironmentSpec, *, seed: int = 0, **config: Any) -> PPO:
    """A small PPO: 4 environments by 8 steps."""
    given = {"n_envs": 4, "n_steps": 8, "n_minibatches": 2, "epochs": 2, **config}
    return PPO(spec, PPOConfig(**given), device=CPU, seed=seed)


def round_of(algorithm: OnPolicyAlgorithm[Any], *, seed: int = 0, version: int = 1):
    """A round of random numbers that no policy rolled: every row valid, no episode ends."""
    generator = np.random.default_rng(seed)
    columns = {
        spec.key: _random(
            generator, spec.extent.leading(algorithm.n_steps, algorithm.n_envs) + spec.shape, spec
        )
        for spec in algorithm.signature.columns
    }
    columns[VALID][:] = True
    columns[LOG_PROB][:] = -1.0
    return batch_of(columns, version=version)


def batch_of(columns: dict[ColumnKey, Any], *, version: int = 1) -> OnPolicyBatch:
    """A round without final observations."""
    none = np.empty(0, np.int64)
    steps = int(columns[VALID].sum())
    return OnPolicyBatch(version, columns, none, none, {}, [], steps, [])


def with_finals(batch: OnPolicyBatch, rows, slots, observations) -> OnPolicyBatch:
    """The round with final observations (of an observation that is no Dict)."""
    return dataclasses.replace(
        batch,
        final_rows=np.array(rows, np.int64),
        final_slots=np.array(slots, np.int64),
        final_columns={OBSERVATION: np.asarray(observations, np.float32)},
    )


def roll(algorithm: OnPolicyAlgorithm[Any], model: bytes, *, seed: int = 0) -> OnPolicyBatch:
    """A round whose observations are random, but whose actions and records ONNX Runtime gave."""
    batch = round_of(algorithm, seed=seed)
    generator = np.random.default_rng(seed)
    session = sessions.session_of(model)
    outputs = algorithm.behaviour.outputs
    for row in range(algorithm.n_steps):
        feeds = {}
        for tensor in algorithm.behaviour.inputs:
            if tensor.role == Role.NOISE:
                feeds[tensor.name] = draw(
                    generator, tensor.noise, (algorithm.n_envs, *tensor.shape)
                )
            else:
                feeds[tensor.name] = batch.columns[ColumnKey(tensor.role, "", tensor.key)][row]
        found = sessions.run(session, [output.name for output in outputs], feeds)
        for output in outputs:
            key = ColumnKey(output.role, "", output.key)
            if key in batch.columns:
                batch.columns[key][row] = found[output.name]
    return batch


def draw(generator: np.random.Generator, noise: Noise | None, shape: tuple[int, ...]):
    """Noise as the contract has it, float32."""
    if noise == Noise.OPEN_UNIFORM:
        found = (generator.integers(0, 2**23, shape) + 0.5) * 2.0**-23
    else:
        found = generator.standard_normal(shape)
    return found.astype(np.float32)


def _random(generator: np.random.Generator, shape: tuple[int, ...], spec: Any) -> Any:
    if spec.key.role == Role.ACTION_MASK:
        mask = generator.random(shape) < 0.7
        mask[..., 0] = True
        return mask
    if spec.dtype == np.bool_:
        return np.zeros(shape, np.bool_)
    if spec.dtype.kind == "f":
        return generator.standard_normal(shape).astype(spec.dtype)
    return generator.integers(0, 2, shape).astype(spec.dtype)
