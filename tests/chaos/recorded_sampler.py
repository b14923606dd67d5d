"""A sampler that writes down what it pushes and is answered: `recorded_sampler.py RECORD FLAGS...`.

Everything else about it is that of `python -m sampler`. A line of JSON is written before a push
leaves, and one when its final answer is there; no answer means that nobody knows. Pulls leave a
line for each policy.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
from counting_env import decoded

from common.signature import Role
from protos.wiserl.v1 import learner_pb2
from sampler import __main__ as sampler
from sampler.client import LearnerClient
from sampler.refusals import Refused


class Recorder:
    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._policies: set[tuple[int, str]] = set()

    def attach(self) -> None:
        """Records every call of any client from now on."""
        push, pull = LearnerClient.push, LearnerClient.pull

        @functools.wraps(push)
        async def recorded_push(client, request):
            self._sent(request)
            answer = await push(client, request)
            self._answered(request, answer)
            return answer

        @functools.wraps(pull)
        async def recorded_pull(client, request):
            response = await pull(client, request)
            self._pulled(response)
            return response

        LearnerClient.push, LearnerClient.pull = recorded_push, recorded_pull

    def _sent(self, request) -> None:
        batch = request.batch
        self._write(
            event="push",
            sampler=request.sampler_id,
            sequence=request.sequence,
            version=batch.version,
            rows=batch.rows * len(batch.slots),
            steps=decoded(_observations(batch)),
        )

    def _answered(self, request, answer) -> None:
        is_refused = isinstance(answer, Refused)
        self._write(
            event="answer",
            sampler=request.sampler_id,
            sequence=request.sequence,
            verdict="REFUSED" if is_refused else learner_pb2.Verdict.Name(answer.verdict),
            newest_version=0 if is_refused else answer.newest_version,
        )

    def _pulled(self, response) -> None:
        found = response.version, response.model_sha256.hex()
        if response.HasField("model"):
            assert hashlib.sha256(response.model).hexdigest() == found[1]
        if found not in self._policies:
            self._policies.add(found)
            self._write(event="policy", version=found[0], sha256=found[1])

    def _write(self, **entry) -> None:
        os.write(self._descriptor, json.dumps(entry).encode() + b"\n")


def _observations(batch):
    """[N, 6]: those of the valid rows, slot after slot."""
    arrays = {column.role: column.tensor for column in batch.columns}
    observed, valid = arrays[Role.OBSERVATION], arrays[Role.VALID]
    rows = np.frombuffer(observed.data, "<f4").reshape(observed.shape)[: batch.rows]
    return rows.swapaxes(0, 1)[np.frombuffer(valid.data, np.bool_).reshape(valid.shape).T]


if __name__ == "__main__":
    record = Path(sys.argv.pop(1))
    Recorder(record).attach()
    sys.exit(sampler.main())
