"""Environments, rounds and rolls for the learner's tests, without a network or an environment."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from common import spaces, specs
from common.signature import ColumnKey, Noise, Role
from learner.algorithms.impala import APPO, IMPALA, APPOConfig, IMPALAConfig
from learner.algorithms.ppo import PPO, PPOConfig
from learner.algorithms.trpo import TRPO, TRPOConfig
from learner.experience.on_policy import FragmentKey, OnPolicyBatch
from learner.publishing import sessions

if TYPE_CHECKING:
    from common.specs import EnvironmentSpec
    from learner.algorithms.base import Algorithm, OnPolicyAlgorithm
    from learner.algorithms.on_policy import ActorCriticAlgorithm

CPU = torch.device("cpu")
VALID = ColumnKey(Role.VALID)
IS_FIRST = ColumnKey(Role.IS_FIRST)
MEMORY = ColumnKey(Role.STATE, "", "memory")
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


SPECS = {
    "discrete": discrete_spec(),
    "continuous": continuous_spec(2),
    "multi_discrete": specs.single_agent(box(4), spaces.MultiDiscrete((2, 3))),
    "multi_binary": specs.single_agent(box(4), spaces.MultiBinary((2,))),
    "masked": specs.single_agent(box(4), spaces.Discrete(3), action_mask=True),
    "image": specs.single_agent(image(10, 10, 3), spaces.Discrete(2)),
    "dict": specs.single_agent(
        spaces.Dict({"camera": image(10, 10, 3), "kind": spaces.Discrete(2), "speed": box(2)}),
        box(1),
    ),
}
"""Every kind of observation and action."""


def ppo(spec: EnvironmentSpec, *, seed: int = 0, **config: Any) -> PPO:
    """A small PPO: 4 environments by 8 steps."""
    given = {"n_envs": 4, "n_steps": 8, "n_minibatches": 2, "epochs": 2, **config}
    return PPO(spec, PPOConfig(**given), device=CPU, seed=seed)


def trpo(spec: EnvironmentSpec, *, seed: int = 0, **config: Any) -> TRPO:
    """A small TRPO: 4 environments by 8 steps."""
    given = {"n_envs": 4, "n_steps": 8, "n_minibatches": 2, "critic_epochs": 2, **config}
    return TRPO(spec, TRPOConfig(**given), device=CPU, seed=seed)


def appo(spec: EnvironmentSpec, *, seed: int = 0, **config: Any) -> APPO:
    """A small APPO: 4 environments by 8 steps."""
    given = {"n_envs": 4, "n_steps": 8, "n_minibatches": 2, "epochs": 2, **config}
    return APPO(spec, APPOConfig(**given), device=CPU, seed=seed)


def impala(spec: EnvironmentSpec, *, seed: int = 0, **config: Any) -> IMPALA:
    """A small IMPALA: 4 environments by 8 steps."""
    given = {"n_envs": 4, "n_steps": 8, **config}
    return IMPALA(spec, IMPALAConfig(**given), device=CPU, seed=seed)


def parameters(algorithm: Algorithm[Any]) -> dict[str, torch.Tensor]:
    """A copy of the whole state."""
    return {name: tensor.clone() for name, tensor in algorithm.tensors().items()}


def assert_same(one, other) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []


def constant_critic(algorithm: ActorCriticAlgorithm[Any], worth: float) -> None:
    """Makes every value the same."""
    head = algorithm._critic.layers[-1]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(worth)


def undocumented(config: type[Any]) -> list[str]:
    """Settings without a docstring under them, in the class or the one that they are from."""
    lines = [line for one in config.__mro__[:-1] for line in inspect.getsource(one).splitlines()]
    names = [field.name for field in dataclasses.fields(config)]
    found = {
        name: lines[at + 1]
        for at, line in enumerate(lines)
        for name in names
        if line.startswith(f"    {name}: ")
    }
    return [name for name in names if not found.get(name, "").strip().startswith('"""')]


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
    keys = [FragmentKey(0, slot, 0, 0) for slot in range(columns[VALID].shape[1])]
    return OnPolicyBatch(version, columns, none, none, {}, [], steps, keys)


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
    return acted(algorithm, model, round_of(algorithm, seed=seed), seed=seed)


def acted(
    algorithm: OnPolicyAlgorithm[Any], model: bytes, batch: OnPolicyBatch, *, seed: int = 0
) -> OnPolicyBatch:
    """The round with the actions and records that ONNX Runtime gives, row by row."""
    generator = np.random.default_rng(seed)
    session = sessions.session_of(model)
    outputs = algorithm.behaviour.outputs
    columns = batch.columns
    states = {key: column for key, column in columns.items() if key.role == Role.STATE}
    for row in range(algorithm.n_steps):
        feeds = {}
        for tensor in algorithm.behaviour.inputs:
            key = ColumnKey(tensor.role, "", tensor.key)
            match tensor.role:
                case Role.NOISE:
                    shape = (algorithm.n_envs, *tensor.shape)
                    feeds[tensor.name] = draw(generator, tensor.noise, shape)
                case Role.STATE:
                    feeds[tensor.name] = states[key]
                case Role.RESET:
                    feeds[tensor.name] = columns[IS_FIRST][row]
                case _:
                    feeds[tensor.name] = columns[key][row]
        found = sessions.run(session, [output.name for output in outputs], feeds)
        for output in outputs:
            key = ColumnKey(output.role, "", output.key)
            if output.role == Role.NEXT_STATE:
                states[ColumnKey(Role.STATE, "", output.key)] = found[output.name]
            elif key in columns:
                columns[key][row] = found[output.name]
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
