"""Writes examples/golden/: an exported policy, what every sampler must make of it, and CartPole.

    python scripts/make_golden_vectors.py

`policy.onnx` is a small PPO policy with a memory for CartPole, so it is fed an observation, noise,
a recurrent state and a reset. `vectors.json` has its signature, the calls of a fragment of two
slots with what they answer, what the environments answered, and the push that this must become.
`cartpole.json` has episodes of Gymnasium's CartPole, for whoever writes one in another language.
docs/writing-a-sampler.md says how to use them. The files are committed: run this again only where
the contract changes, since another export is another policy.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import onnxruntime
import torch
from google.protobuf import json_format

from common import signature as signatures
from common import spaces, specs, tensors
from common.signature import Role
from learner.algorithms.ppo import PPO, PPOConfig
from learner.publishing.publisher import Publisher
from protos.wiserl.v1 import learner_pb2, trajectory_pb2
from sampler.seeding import SlotIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from common.signature import Signature

    Arrays = dict[str, NDArray[Any]]

FOLDER = Path(__file__).resolve().parent.parent / "examples/golden"
BOUND = np.array([4.8, np.inf, 0.41887903, np.inf], np.float32)
SPEC = specs.single_agent(spaces.Box(-BOUND, BOUND), spaces.Discrete(2), max_episode_steps=500)
VERSION, INCARNATION, GRANT = 7, 65536, 11
# Slot 3 begins its life with this fragment; slot 5 is in its thirteenth row, within an episode.
SLOTS, FIRST_ROWS = (3, 5), (0, 12)
LENGTHS_BEFORE = (0, 10)
# For each row what happens in each slot. A reset is the row after an end, which is no step.
ROWS = (
    ("step", "step"),
    ("step", "step"),
    ("terminated", "step"),
    ("reset", "step"),
    ("step", "step"),
    ("step", "truncated"),
)


def small_policy() -> tuple[Signature, bytes]:
    """A policy whose parameters are drawn at random, and large enough for actions to differ."""
    config = PPOConfig(
        n_envs=2, n_steps=len(ROWS), n_minibatches=1, hidden_sizes=(8,), recurrent_units=8
    )
    algorithm = PPO(SPEC, config, device=torch.device("cpu"), seed=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in algorithm.behaviour.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    publication = Publisher(algorithm.behaviour, cache=None).publish(VERSION)
    return algorithm.signature, publication.model


def rolled(signature: Signature, model: bytes) -> Iterator[dict[str, Arrays]]:
    """For every row what the policy is fed, what it answers and what the environments do."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(4)
    names = [output.name for output in signature.outputs]
    (state,) = signature.inputs_of(Role.STATE)
    (following,) = signature.outputs_of(Role.NEXT_STATE)
    memory = np.zeros((2, *state.shape), np.float32)
    memory[1] = generator.uniform(-1, 1, state.shape)
    seen = generator.standard_normal((2, 4)).astype(np.float32)
    is_first = np.array([True, False])
    for kinds in ROWS:
        uniform = (generator.integers(2**23, size=(2, 2)) + 0.5) * 2**-23
        given: dict[Role, NDArray[Any]] = {
            Role.OBSERVATION: seen,
            Role.STATE: memory,
            Role.RESET: is_first,
            Role.NOISE: uniform.astype(np.float32),
        }
        inputs = {each.name: given[each.role] for each in signature.inputs}
        outputs = dict(zip(names, session.run(names, inputs), strict=True))
        reset, terminated, truncated = (
            np.array([kind == name for kind in kinds])
            for name in ("reset", "terminated", "truncated")
        )
        # Exact in float32, so that sums do not depend on the order.
        reward = np.where(reset, 0, generator.integers(-8, 8, 2) / 4).astype(np.float32)
        after = generator.standard_normal((2, 4)).astype(np.float32)
        answers: Arrays = {"reset": reset, "reward": reward, "observation": after}
        answers |= {"terminated": terminated, "truncated": truncated}
        yield {"inputs": inputs, "outputs": outputs, "environment": answers}
        seen, memory, is_first = after, outputs[following.name], reset


def push_of(signature: Signature, rows: list[dict[str, Arrays]]) -> bytes:
    """The fragment as a sampler pushes it."""
    request = learner_pb2.PushTrajectoriesRequest(
        run_id="golden", sampler_id="golden-sampler", sequence=1, grant_id=GRANT
    )
    batch = request.batch
    batch.version, batch.rows = VERSION, len(ROWS)
    for slot, first in zip(SLOTS, FIRST_ROWS, strict=True):
        batch.slots.add(slot=slot, incarnation=INCARNATION, first_row=first)
    for column in signature.columns:
        found = tensors.encode(column_of(signature, rows, column.key.role, column.key.key))
        added = batch.columns.add(role=column.key.role.value, key=column.key.key)
        added.tensor.CopyFrom(found)
        leading = column.extent.leading(len(ROWS), len(SLOTS))
        if tuple(found.shape) != (*leading, *column.shape):
            raise ValueError(f"{column.key} has shape {found.shape}")
    for place, slot in enumerate(SLOTS):
        batch.episodes.extend(episodes_of(rows, place, slot))
    return request.SerializeToString(deterministic=True)


def column_of(
    signature: Signature, rows: list[dict[str, Arrays]], role: Role, key: str
) -> NDArray[Any]:
    """A column of the batch."""
    inputs, outputs, answers = (
        _stacked(rows, part) for part in ("inputs", "outputs", "environment")
    )
    fed = {(each.role, each.key): each.name for each in signature.inputs}
    answered = {(each.role, each.key): each.name for each in signature.outputs}
    if role in {Role.ACTION, Role.RECORD}:
        return outputs[answered[role, key]]
    if role == Role.OBSERVATION:
        return np.concatenate([inputs[fed[role, key]], answers["observation"][-1:]])
    if role == Role.STATE:
        before: NDArray[Any] = inputs[fed[role, key]][0]
        return before
    of_steps: Arrays = {
        "is_first": inputs[fed[Role.RESET, ""]],
        "valid": ~answers["reset"],
        "episode_end": answers["terminated"] | answers["truncated"],
        **answers,
    }
    return of_steps[role.name.lower()]


def _stacked(rows: list[dict[str, Arrays]], part: str) -> Arrays:
    return {name: np.stack([row[part][name] for row in rows]) for name in rows[0][part]}


def episodes_of(
    rows: list[dict[str, Arrays]], place: int, slot: int
) -> Iterator[trajectory_pb2.Episode]:
    """The episodes that ended in a slot; of the one that was open before, the rewards were 0."""
    total, length = 0.0, LENGTHS_BEFORE[place]
    for number, row in enumerate(rows):
        answers = {name: array[place] for name, array in row["environment"].items()}
        if answers["reset"]:
            total, length = 0.0, 0
            continue
        total, length = total + float(answers["reward"]), length + 1
        if answers["terminated"] or answers["truncated"]:
            yield trajectory_pb2.Episode(
                slot=slot,
                incarnation=INCARNATION,
                end_row=FIRST_ROWS[place] + number,
                episode_return=total,
                length=length,
                terminated=bool(answers["terminated"]),
            )


def shown(array: NDArray[Any]) -> dict[str, Any]:
    """An array for readers of any language."""
    return {"dtype": array.dtype.name, "shape": array.shape, "values": array.ravel().tolist()}


def examples_of_tensors() -> list[dict[str, Any]]:
    """Elements of every dtype and the bytes that they are on the wire."""
    examples = []
    for number in range(1, 13):
        dtype = tensors.from_wire_dtype(number)
        whole = [0, 1, 1] if dtype == np.bool_ else [0, 1, 100]
        array = np.array([0, -1.5, 100] if dtype.kind == "f" else whole, dtype).reshape(3, 1)
        examples.append({**shown(array), "bytes": tensors.encode(array).data.hex()})
    return examples


def registration_of(signature: Signature) -> bytes:
    """What a learner would have answered to the sampler."""
    message = learner_pb2.RegisterResponse(index=0, incarnation_base=INCARNATION, seed=7)
    message.signature.CopyFrom(signatures.to_proto(signature))
    return message.SerializeToString(deterministic=True)


def vectors(signature: Signature, rows: list[dict[str, Arrays]]) -> dict[str, Any]:
    """The whole file."""
    identities = [SlotIdentity(7, 0, 0, 65536), SlotIdentity(2**63, 12, 345, 2**40 + 1)]
    calls = [
        {part: {name: shown(array) for name, array in row[part].items()} for part in row}
        for row in rows
    ]
    return {
        "about": "made by scripts/make_golden_vectors.py; read docs/writing-a-sampler.md",
        "tensors": examples_of_tensors(),
        "open_uniform": [[k, (k + 0.5) * 2**-23] for k in (0, 1, 2**22, 2**23 - 1)],
        "environment_seeds": [
            {
                # Decimal text, since readers of JSON keep 53 bits of a number.
                **{name: str(value) for name, value in vars(each).items()},
                "environment_seed": each.environment_seed(),
            }
            for each in identities
        ],
        "signature": json_format.MessageToDict(
            signatures.to_proto(signature), preserving_proto_field_name=True
        ),
        "registration": base64.b64encode(registration_of(signature)).decode(),
        "fragment": {
            "slots": [
                {
                    "slot": slot,
                    "incarnation": INCARNATION,
                    "first_row": first,
                    "episode_length": length,
                }
                for slot, first, length in zip(SLOTS, FIRST_ROWS, LENGTHS_BEFORE, strict=True)
            ],
            "rows": calls,
            "push": base64.b64encode(push_of(signature, rows)).decode(),
        },
    }


def episodes_of_cartpole() -> list[dict[str, Any]]:
    """Gymnasium's transitions: a fall to each side, and one by hand that lasts for a while."""
    episodes = []
    for seed, gains in ((1, (0.0, 0.0)), (2, (-1.0, 0.0)), (3, (1.0, 0.8))):
        environment: Any = gymnasium.make("CartPole-v1").unwrapped
        observation, _ = environment.reset(seed=seed)
        start = environment.state.tolist()
        actions: list[int] = []
        observations, terminated = [], False
        while not terminated and len(actions) < 100:
            actions.append(int(observation[2:] @ gains >= 0))
            observation, _, terminated, _, _ = environment.step(actions[-1])
            observations.append(observation.tolist())
        episodes.append(
            {
                "start": start,
                "actions": actions,
                "observations": observations,
                "terminated": terminated,
            }
        )
    return episodes


def write(name: str, content: object) -> None:
    """Writes JSON with lists of numbers in a line each."""
    text = json.dumps(content, indent=1)
    flat = re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text)
    (FOLDER / name).write_text(flat + "\n")


def main() -> None:
    """Writes all files."""
    signature, model = small_policy()
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "policy.onnx").write_bytes(model)
    write("vectors.json", vectors(signature, list(rolled(signature, model))))
    write("cartpole.json", episodes_of_cartpole())
    print(f"wrote {', '.join(sorted(path.name for path in FOLDER.iterdir()))} to {FOLDER}")


if __name__ == "__main__":
    main()
