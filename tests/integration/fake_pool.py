"""A pool without environments: a task is done as soon as it is asked for, or when a test says."""

import contextlib
import os

import numpy as np

from common import specs, tensors
from common.signature import Role
from common.spaces import Box, Discrete
from protos.wiserl.v1 import learner_pb2, trajectory_pb2
from sampler.pool import EpisodesEvaluated, RollTask, SegmentRolled


class FakePool:
    """Attributes.

    config: What it was asked to build.
    happens: Events that the next look finds.
    at_once: Whether tasks are done when they are submitted.
    cancelled: The tasks that were called off.
    closed: Whether it was closed.
    """

    def __init__(self, config, *, at_once=True):
        self.config = config
        self.workers = config.workers
        self.slots_per_worker = config.envs_per_worker
        self.slots = self.workers * self.slots_per_worker
        self.spec = specs.single_agent(
            Box(np.zeros(2, np.float32), np.ones(2, np.float32)), Discrete(2)
        )
        self.at_once = at_once
        self.happens = []
        self.submitted = []
        self.cancelled = []
        self.policies = []
        self.closed = False
        self._rows = 0
        self._version = 0
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)

    def configure(self, registration):
        self.happens.clear()

    def set_policy(self, version, model, golden):
        self._version = version
        self.policies.append((version, model))

    def set_scalars(self, scalars):
        pass

    def set_evaluation_policy(self, version, model):
        self.policies.append((version, model))

    def submit(self, worker, task):
        self.submitted.append(task)
        if self.at_once:
            self.happen(self.done(worker, task))

    def done(self, worker, task):
        """The event of a task that is done."""
        if not isinstance(task, RollTask):
            episodes = tuple(learner_pb2.EvaluatedEpisode(seed=seed) for seed in task.seeds)
            return EpisodesEvaluated(worker, task.task_id, task.version, episodes)
        batch = trajectory_pb2.TrajectoryBatch(version=self._version, rows=task.rows)
        for slot in task.slots:
            batch.slots.add(slot=slot)
        column = batch.columns.add(role=int(Role.REWARD))
        rewards = np.zeros((task.rows, len(task.slots)), np.float32)
        column.tensor.CopyFrom(tensors.encode(rewards))
        self._rows += rewards.size
        return SegmentRolled(worker, task.task_id, batch)

    def happen(self, event):
        """Makes an event visible, as the pool's processes would."""
        self.happens.append(event)
        os.eventfd_write(self._descriptor, 1)

    def cancel(self, task_ids):
        self.cancelled += task_ids

    def events(self):
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)
        found, self.happens = self.happens, []
        return found

    def waitables(self):
        return [self._descriptor]

    def next_timeout(self):
        return None

    def progress(self):
        return learner_pb2.SamplerProgress(rows_rolled=self._rows)

    def close(self):
        if not self.closed:
            os.close(self._descriptor)
        self.closed = True
