"""Runs scenarios of SamplerCore that are written as text.

A line that begins with `> ` is what happens to the sampler; the lines after it are what it does
about it. Blank lines and lines with `#` are for the reader. Words of a happening are `key=value`;
parts of a pull's answer are separated by `|`.
"""

from __future__ import annotations

import collections
import hashlib

import numpy as np

from common import signature, specs, tensors
from common.signature import (
    ColumnKey,
    ColumnSpec,
    GraphInput,
    GraphOutput,
    Role,
    Signature,
)
from common.spaces import Box, Discrete
from common.statuses import Code
from protos.wiserl.v1 import grant_pb2, learner_pb2, trajectory_pb2
from sampler.core import SamplerCore
from sampler.pool import (
    EpisodesEvaluated,
    EvaluateTask,
    PoolFailed,
    RollTask,
    SegmentRolled,
    WorkerLost,
)
from sampler.refusals import Refused

SIGNATURE = Signature(
    inputs=(GraphInput("observation", Role.OBSERVATION, np.dtype("float32"), (2,)),),
    outputs=(GraphOutput("action", Role.ACTION, np.dtype("int64")),),
    columns=(ColumnSpec(ColumnKey(Role.REWARD), np.dtype("float32")),),
)


class RecordingPool:
    """Writes down what it is told; happens only what the scenario says.

    The first task of a worker that is not over is being rolled; those behind it have not started,
    and start with the newest policy where they ask for it.
    """

    def __init__(self, workers, envs_per_worker):
        self.workers = workers
        self.slots_per_worker = envs_per_worker
        self.slots = workers * envs_per_worker
        self.spec = specs.single_agent(
            Box(np.zeros(2, np.float32), np.ones(2, np.float32)), Discrete(2)
        )
        self.lines = []
        self.tasks = {}
        self.rolled = learner_pb2.SamplerProgress()
        self._version = 0
        self._lines = collections.defaultdict(list)

    def configure(self, registration):
        self.lines.append(f"pool: configure index={registration.index}")
        self._lines.clear()

    def set_policy(self, version, model, golden):
        self.lines.append(
            f"pool: policy {version} is {model.decode()}{' with golden' if golden else ''}"
        )
        self._version = version

    def set_evaluation_policy(self, version, model):
        self.lines.append(f"pool: evaluation policy {version} is {model.decode()}")

    def set_scalars(self, scalars):
        values = " ".join(f"{scalar.key}={list(scalar.values)}" for scalar in scalars)
        self.lines.append(f"pool: scalars {values}")

    def submit(self, worker, task):
        self.tasks[task.task_id] = (worker, task, self._version)
        if isinstance(task, RollTask):
            self._lines[worker].append(task)
            what = f"roll {task.rows} rows of slots {_numbers(task.slots)}"
        else:
            what = f"play version {task.version} seeds {_numbers(task.seeds)}"
        self.lines.append(f"worker {worker}: task {task.task_id}: {what}")

    def cancel(self, task_ids):
        self.lines.append(f"pool: cancel tasks {_numbers(task_ids)}")
        for task_id in task_ids:
            self.end(task_id)

    def end(self, task_id):
        """A task is over, and what is behind it starts."""
        worker, task, _ = self.tasks[task_id]
        line = self._lines[worker]
        if task in line:
            starts = line[0] is task
            line.remove(task)
            if starts and line and line[0].newest:
                self.tasks[line[0].task_id] = (worker, line[0], self._version)

    def roll(self, task_id):
        """The event of a task that is done, or would be if it were not called off."""
        worker, task, version = self.tasks[task_id]
        self.end(task_id)
        return SegmentRolled(worker, task_id, batch_of(version, task))

    def progress(self):
        return self.rolled


def _numbers(values):
    return " ".join(str(value) for value in values)


def batch_of(version, task):
    batch = trajectory_pb2.TrajectoryBatch(version=version, rows=task.rows)
    for slot in task.slots:
        batch.slots.add(slot=slot)
    column = batch.columns.add(role=int(Role.REWARD))
    column.tensor.CopyFrom(tensors.encode(np.zeros((task.rows, len(task.slots)), np.float32)))
    return batch


class Scenario:
    """One sampler and its pool; `run` answers the whole text as it should stand in the file."""

    def __init__(self):
        self.pool = RecordingPool(1, 1)
        self.core = None
        self.now = 0.0

    def run(self, text):
        written = []
        for line in text.splitlines():
            if not line.startswith("> "):
                if not line.strip() or line.startswith("#"):
                    written.append(line)
                continue
            written.append(line)
            head, *parts = line[2:].split("|")
            name, *words = head.split()
            values = dict(word.split("=", 1) for word in words if "=" in word)
            said = getattr(self, f"on_{name}")(values, *map(str.strip, parts)) or []
            written += self._pool_lines() + said
        return "\n".join(written) + "\n"

    def _pool_lines(self):
        lines, self.pool.lines = self.pool.lines, []
        return lines

    def on_pool(self, values):
        self.pool = RecordingPool(int(values["workers"]), int(values["envs"]))
        self.core = SamplerCore(self.pool, name="test", sampler_id="sampler-1")

    def on_register(self, values):
        run = learner_pb2.GetRunResponse(run_id=values["run"])
        run.limits.wait_milliseconds = 2000
        request = self.core.register_request(run)
        previous = request.previous_index if request.HasField("previous_index") else "none"
        said = f"register run={request.run_id} slots={request.slots} previous_index={previous}"
        self.core.on_registered(
            learner_pb2.RegisterResponse(
                signature=signature.to_proto(SIGNATURE),
                index=int(values["index"]),
                last_sequence=int(values.get("last_sequence", 0)),
            )
        )
        return [said, *self._pool_lines()]

    def on_pull(self, values):
        request = self.core.pull_request(self.now, leaving=values.get("leaving") == "yes")
        progress = request.progress
        said = (
            f"pull version={request.version} have_version={request.have_version} "
            f"scalars={request.have_scalars_version} grants={request.have_grants_revision}"
        )
        if progress.rows_dropped or progress.pushes_refused:
            said += f" dropped={progress.rows_dropped} refused={progress.pushes_refused}"
        return [said + (" leaving" if request.leaving else "")]

    def on_answer(self, values, *grants):
        response = learner_pb2.PullWeightsResponse(
            version=int(values.get("version", 0)),
            scalars_version=int(values.get("scalars", 0)),
            grants_revision=int(values.get("revision", 0)),
        )
        model = values.get("model", values.get("same_model", ""))
        response.model_sha256 = hashlib.sha256(model.encode()).digest()
        if "model" in values:
            response.model = values.get("damaged", model).encode()
        if "golden" in values:
            response.golden.SetInParent()
        if "epsilon" in values:
            response.scalars.add(key="epsilon", values=[float(values["epsilon"])])
        for text in grants:
            self._add_grant(response.grants, text)
        self.core.on_pull(self.now, response)

    def _add_grant(self, grants, text):
        kind, *words = text.split()
        values = {key: int(value) for key, value in (word.split("=") for word in words[1:])}
        grant = grants.add(grant_id=int(words[0]))
        if kind == "evaluate":
            seeds = range(values["seeds"], values["seeds"] + values["count"])
            grant.evaluate.CopyFrom(
                grant_pb2.EvaluateGrant(evaluation_id=1, version=values["version"], seeds=seeds)
            )
        elif kind == "finish":
            grant.finish.reason = "done"
        elif kind in ("round", "window"):
            collect = grant.collect
            collect.rows, collect.version = values["rows"], values["version"]
            if kind == "round":
                collect.finite.fragments = values["fragments"]
                collect.finite.slots = values["slots"]
            else:
                collect.or_newer = True
                collect.window.fragments = values["fragments"]

    def on_version_gone(self, values):
        self.core.on_version_gone()

    def on_rolled(self, values):
        self.core.on_events(self.now, [self.pool.roll(int(values["task"]))])

    def on_played(self, values):
        worker, task, _ = self.pool.tasks[int(values["task"])]
        assert isinstance(task, EvaluateTask)
        episodes = tuple(learner_pb2.EvaluatedEpisode(seed=seed) for seed in task.seeds)
        event = EpisodesEvaluated(worker, task.task_id, task.version, episodes)
        self.core.on_events(self.now, [event])

    def on_lost(self, values):
        self.core.on_events(self.now, [self._lost(values)])

    def on_pool_failed(self, values):
        """With `worker` and `tasks` of the last one lost, which made it fail."""
        self.core.on_events(self.now, [self._lost(values), PoolFailed("too many crashes")])

    def _lost(self, values):
        tasks = tuple(int(task) for task in values["tasks"].split(","))
        for task in tasks:
            self.pool.end(task)
        return WorkerLost(int(values["worker"]), "crashed", 0, tasks)

    def on_push(self, values):
        request = self.core.next_push()
        if request is None:
            return ["nothing to push"]
        assert self.core.next_push() is request
        batch = request.batch
        slots = _numbers(part.slot for part in batch.slots)
        grant = f"grant={request.grant_id} version={batch.version}"
        return [f"push {request.sequence} {grant} slots={slots}"]

    def on_verdict(self, values):
        verdict = learner_pb2.Verdict.Value(f"VERDICT_{values['is'].upper()}")
        self.core.on_push_answer(self.now, learner_pb2.PushTrajectoriesResponse(verdict=verdict))

    def on_refused(self, values):
        code = Code[values.get("code", "INVALID_ARGUMENT")]
        sent = values.get("sent", "yes") == "yes"
        self.core.on_push_answer(self.now, Refused(code, "a NaN reward", sent=sent))

    def on_report(self, values):
        request = self.core.next_report()
        if request is None:
            return ["nothing to report"]
        assert self.core.next_report() is request
        seeds = _numbers(episode.seed for episode in request.episodes)
        return [f"report grant={request.grant_id} version={request.version} seeds={seeds}"]

    def on_reported(self, values):
        self.core.on_report_answer(self.now, learner_pb2.ReportEpisodesResponse())

    def on_report_refused(self, values):
        self.core.on_report_answer(self.now, Refused(Code.INVALID_ARGUMENT, "a NaN return"))

    def on_wait(self, values):
        self.now += float(values["seconds"])

    def on_drain(self, values):
        self.core.drain()

    def on_state(self, values):
        if self.core.finished is not None:
            return [f"finished: {self.core.finished.reason}"]
        return [f"failed: {self.core.failure}" if self.core.failure else "working"]
