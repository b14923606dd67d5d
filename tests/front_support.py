"""What tests of the front share: a small environment, its signature, and messages of a sampler."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from common import signature, spaces, specs, tensors
from common.signature import ColumnKey, ColumnSpec, Extent, Role
from learner.front.coordinator import Coordinator
from learner.front.settings import FrontSettings, Limits, RunIdentity
from learner.publishing.publication import Publication
from protos.wiserl.v1 import environment_pb2, learner_pb2, trajectory_pb2

if TYPE_CHECKING:
    from learner.totals import Header

RUN = "run-1"
A, B = "sampler-a", "sampler-b"
"""The samplers that most tests are about."""
FLOAT, BOOL, INT = np.dtype(np.float32), np.dtype(np.bool_), np.dtype(np.int64)

SPEC = specs.single_agent(
    spaces.Box(np.full(4, -1, np.float32), np.full(4, 1, np.float32)),
    spaces.Discrete(2),
    max_episode_steps=500,
)

OBSERVATION = ColumnKey(Role.OBSERVATION)
REWARD = ColumnKey(Role.REWARD)
VALID = ColumnKey(Role.VALID)
EPISODE_END = ColumnKey(Role.EPISODE_END)
MEMORY = ColumnKey(Role.STATE, key="memory")

COLUMNS = (
    ColumnSpec(OBSERVATION, FLOAT, (4,), Extent.ROWS_PLUS_ONE),
    ColumnSpec(ColumnKey(Role.ACTION), INT),
    ColumnSpec(REWARD, FLOAT),
    ColumnSpec(ColumnKey(Role.TERMINATED), BOOL),
    ColumnSpec(ColumnKey(Role.TRUNCATED), BOOL),
    ColumnSpec(ColumnKey(Role.IS_FIRST), BOOL),
    ColumnSpec(VALID, BOOL),
    ColumnSpec(EPISODE_END, BOOL),
    ColumnSpec(ColumnKey(Role.RECORD, key="log_prob"), FLOAT),
    ColumnSpec(MEMORY, FLOAT, (2,), Extent.INITIAL),
)

SIGNATURE = signature.Signature(
    (
        signature.GraphInput("observation", Role.OBSERVATION, FLOAT, (4,)),
        signature.GraphInput(
            "memory",
            Role.STATE,
            FLOAT,
            (2,),
            key="memory",
            initial_state=np.zeros(2, np.float32),
        ),
    ),
    (
        signature.GraphOutput("action", Role.ACTION, INT),
        signature.GraphOutput("log_prob", Role.RECORD, FLOAT, key="log_prob"),
        signature.GraphOutput("next_memory", Role.NEXT_STATE, FLOAT, (2,), key="memory"),
    ),
    COLUMNS,
)


@dataclasses.dataclass(frozen=True)
class Part:
    """A fragment to push; rows `ends` end an episode, and rows not in `valid` are no steps."""

    slot: int
    first_row: int = 0
    incarnation: int = 0
    ends: tuple[int, ...] = ()
    invalid: tuple[int, ...] = ()


def identity(run_id: str = RUN) -> RunIdentity:
    """A run of PPO on CartPole."""
    environment = environment_pb2.EnvironmentReference(id="CartPole-v1")
    return RunIdentity(run_id, "ppo", environment, environment)


def make_coordinator(
    *,
    total_steps: int = 1_000,
    rows: int = 2,
    is_open: bool = True,
    header: Header | None = None,
    **settings: object,
) -> Coordinator:
    """A coordinator, open for samplers unless said otherwise."""
    limits = settings.pop("limits", Limits())
    front = FrontSettings(total_steps=total_steps, limits=limits, **settings)
    coordinator = Coordinator(identity(), front, header)
    if is_open:
        coordinator.open_run(SIGNATURE, fragment_rows=rows)
    return coordinator


def publication(version: int, model: bytes | None = None) -> Publication:
    """A publication whose model tells its version."""
    content = b"model of %d" % version if model is None else model
    golden = learner_pb2.GoldenVector(
        inputs=[learner_pb2.NamedTensor(name="observation", tensor=tensors.encode(np.ones((1, 4))))]
    )
    return Publication(version, content, hashlib.sha256(content).digest(), lambda: golden)


def register_request(
    sampler_id: str, slots: int = 2, /, **fields: object
) -> learner_pb2.RegisterRequest:
    """A registration of the environment above."""
    values: dict[str, object] = {
        "run_id": RUN,
        "protocol_version": 1,
        "sampler_id": sampler_id,
        "name": "host",
        "slots": slots,
        "max_slots_per_push": slots,
        "spec": specs.to_proto(SPEC),
    }
    return learner_pb2.RegisterRequest(**(values | fields))


def pull_request(sampler_id: str, /, **fields: object) -> learner_pb2.PullWeightsRequest:
    """A pull of a sampler that has nothing and waits for two seconds."""
    values: dict[str, object] = {"run_id": RUN, "sampler_id": sampler_id, "wait_milliseconds": 2000}
    return learner_pb2.PullWeightsRequest(**(values | fields))


def column_arrays(parts: list[Part], rows: int) -> dict[ColumnKey, np.ndarray]:
    """Columns whose observations tell slot, incarnation and row; rewards are the row's number."""
    count = len(parts)
    row = np.arange(rows + 1)[:, None] + np.array([part.first_row for part in parts])
    observation = np.empty((rows + 1, count, 4), np.float32)
    observation[..., 0] = [part.slot for part in parts]
    observation[..., 1] = [part.incarnation for part in parts]
    observation[..., 2] = row
    observation[..., 3] = 0.5
    valid, ends = np.ones((rows, count), bool), np.zeros((rows, count), bool)
    for position, part in enumerate(parts):
        valid[list(part.invalid), position] = False
        ends[list(part.ends), position] = True
    found = {
        column.key: np.zeros(column.extent.leading(rows, count) + column.shape, column.dtype)
        for column in COLUMNS
    }
    found |= {
        OBSERVATION: observation,
        REWARD: row[:-1].astype(np.float32),
        VALID: valid,
        EPISODE_END: ends,
        ColumnKey(Role.TERMINATED): ends.copy(),
        MEMORY: observation[0, :, :2].copy(),
    }
    return found


def make_columns(
    arrays: dict[ColumnKey, np.ndarray], specs_of: tuple[ColumnSpec, ...] = COLUMNS
) -> list[trajectory_pb2.Column]:
    """Column messages in the order of their specs."""
    return [
        trajectory_pb2.Column(
            role=column.key.role.value,
            group=column.key.group,
            key=column.key.key,
            tensor=tensors.encode(arrays[column.key]),
        )
        for column in specs_of
    ]


def make_batch(version: int, parts: list[Part], rows: int = 2) -> trajectory_pb2.TrajectoryBatch:
    """A batch of these fragments, with an episode for each row that ended one."""
    batch = trajectory_pb2.TrajectoryBatch(
        version=version, rows=rows, columns=make_columns(column_arrays(parts, rows))
    )
    for part in parts:
        batch.slots.add(slot=part.slot, incarnation=part.incarnation, first_row=part.first_row)
        for end in part.ends:
            batch.episodes.add(
                slot=part.slot,
                incarnation=part.incarnation,
                end_row=part.first_row + end,
                episode_return=float(part.first_row + end),
                length=end + 1,
                terminated=True,
            )
    return batch


def push_request(
    sampler_id: str, sequence: int, grant_id: int, batch: trajectory_pb2.TrajectoryBatch
) -> learner_pb2.PushTrajectoriesRequest:
    """A push."""
    return learner_pb2.PushTrajectoriesRequest(
        run_id=RUN, sampler_id=sampler_id, sequence=sequence, grant_id=grant_id, batch=batch
    )


def good_push(grant_id: int, sequence: int = 1) -> learner_pb2.PushTrajectoriesRequest:
    """What A owes a round of two fragments of two rows, the first of which ends an episode."""
    return push_request(A, sequence, grant_id, make_batch(1, [Part(0, ends=(1,)), Part(1)]))


def pushed(
    coordinator: Coordinator, now: float, request: learner_pb2.PushTrajectoriesRequest
) -> learner_pb2.PushTrajectoriesResponse | None:
    """What a push is answered that has just come."""
    return coordinator.push(now, request, since=now)


def report_request(
    sampler_id: str, evaluation_id: int, version: int, returns: dict[int, float]
) -> learner_pb2.ReportEpisodesRequest:
    """A report of one episode for each seed."""
    request = learner_pb2.ReportEpisodesRequest(
        run_id=RUN, sampler_id=sampler_id, evaluation_id=evaluation_id, version=version
    )
    for seed, value in returns.items():
        request.episodes.add(seed=seed).episode.episode_return = value
    return request
