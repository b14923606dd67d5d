"""What pushes in ingest.py: a sampler, as far as a learner sees it, that has everything rolled.

python benchmarks/prepared_sampler.py HOST:PORT KIND NUMBER          # to a learner
python benchmarks/prepared_sampler.py HOST:PORT KIND NUMBER --raw    # the same bytes to nobody
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from typing import TYPE_CHECKING

import numpy as np

from common import signature, spaces, specs, tensors
from common.allocator import keep_large_buffers
from common.channel import open_channel
from common.signature import ColumnKey, Role
from protos.wiserl.v1 import learner_pb2, trajectory_pb2
from sampler.client import LearnerClient

if TYPE_CHECKING:
    from common.signature import Signature
    from common.specs import EnvironmentSpec

RAW = "/raw/Push"
_ACCEPTED = learner_pb2.VERDICT_ACCEPTED
EPISODE_ROWS = 256


@dataclasses.dataclass(frozen=True)
class Kind:
    """Pushes of about 1 MiB.

    Attributes:
        observation: What is observed; there are two actions.
        rows: T.
        slots: B.
    """

    observation: spaces.Box
    rows: int
    slots: int

    @property
    def spec(self) -> EnvironmentSpec:
        """The environment."""
        return specs.single_agent(self.observation, spaces.Discrete(2), max_episode_steps=500)

    @property
    def ends(self) -> tuple[np.ndarray, int]:
        """The slots in which an episode ends, and the row in which it does."""
        return np.arange(0, self.slots, max(1, EPISODE_ROWS // self.rows)), self.rows // 2


_NUMBERS = spaces.Box(np.full(4, -1, np.float32), np.full(4, 1, np.float32))
_PIXELS = np.zeros((4, 84, 84), np.uint8)
KINDS = {
    "CartPole": Kind(_NUMBERS, 256, 128),
    "CartPole, short fragments": Kind(_NUMBERS, 16, 2048),
    "4 frames of 84 x 84": Kind(spaces.Box(_PIXELS, _PIXELS + 255), 16, 2),
}


def batch_of(kind: Kind, policy: Signature) -> trajectory_pb2.TrajectoryBatch:
    """A batch of random values in which one in 256 steps ends an episode; a reset follows it."""
    random = np.random.default_rng(0)
    batch = trajectory_pb2.TrajectoryBatch(version=1, rows=kind.rows)
    for slot in range(kind.slots):
        batch.slots.add(slot=slot)
    slots, row = kind.ends
    for column in policy.columns:
        shape = column.extent.leading(kind.rows, kind.slots) + column.shape
        values = random.integers(0, 2, shape).astype(column.dtype)
        if column.dtype == np.bool_:
            values[...] = column.key == ColumnKey(Role.VALID)
        if column.key.role in {Role.TERMINATED, Role.EPISODE_END}:
            values[row, slots] = True
        elif column.key.role == Role.VALID:
            values[row + 1, slots] = False
        key = column.key
        added = batch.columns.add(role=key.role.value, group=key.group, key=key.key)
        added.tensor.CopyFrom(tensors.encode(values))
    for slot in slots.tolist():
        batch.episodes.add(slot=slot, end_row=row, length=EPISODE_ROWS, terminated=True)
    return batch


async def push(address: str, kind: Kind, number: int) -> None:
    """Pushes to a learner until it is gone, or this process is told to stop."""
    client = LearnerClient(address, connect_timeout_seconds=10)
    run = await client.get_run()
    who = {"run_id": run.run_id, "sampler_id": f"prepared-{number}"}
    hello = await client.register(
        learner_pb2.RegisterRequest(
            **who,
            protocol_version=1,
            spec=specs.to_proto(kind.spec),
            slots=kind.slots,
            max_slots_per_push=kind.slots,
        )
    )
    batch = batch_of(kind, signature.from_proto(hello.signature))
    for part in (*batch.slots, *batch.episodes):
        part.incarnation = hello.incarnation_base
    request = learner_pb2.PushTrajectoriesRequest(**who, batch=batch)
    beating = asyncio.create_task(_beat(client, learner_pb2.PullWeightsRequest(**who)))
    while not beating.done():
        request.sequence += 1
        answer = await client.push(request)
        if answer != learner_pb2.PushTrajectoriesResponse(verdict=_ACCEPTED, newest_version=1):
            sys.exit(f"a push was not accepted: {answer}")
        for part in request.batch.slots:
            part.first_row += kind.rows
        for episode in request.batch.episodes:
            episode.end_row += kind.rows
    beating.result()


async def _beat(client: LearnerClient, request: learner_pb2.PullWeightsRequest) -> None:
    """Renews the lease."""
    request.wait_milliseconds = 2000
    while True:
        response = await client.pull(lambda: request)
        request.have_version = response.version
        request.have_model_sha256 = response.model_sha256
        request.have_grants_revision = response.grants_revision
        request.have_scalars_version = response.scalars_version


async def push_raw(address: str, payload: bytes) -> None:
    """Sends the same bytes again and again; fails when nobody listens any more."""
    async with open_channel(address) as channel:
        call = channel.unary_unary(RAW)
        while True:
            await call(payload)


def main() -> None:
    """Pushes until it is stopped."""
    address, name, number, *raw = sys.argv[1:]
    keep_large_buffers()  # as a sampler does
    if raw:
        asyncio.run(push_raw(address, os.urandom(2**20)))
    else:
        asyncio.run(push(address, KINDS[name], int(number)))


if __name__ == "__main__":
    main()
