"""What a pool refuses to be told, and the life of tasks in the in-process pool."""

from __future__ import annotations

import dataclasses

import numpy as np
import pool_models
import pytest
from pool_rolls import Rolled, config, ready, roll

from common.signature import ColumnKey, ColumnSpec, GraphOutput, Role
from sampler.inline_pool import InlinePool
from sampler.pool import EvaluateTask, PoolError, RollTask, SegmentRolled


@pytest.fixture
def pool():
    made = InlinePool(config("Counting", workers=2, envs_per_worker=2))
    yield made
    made.close()


def configured(pool, **changes):
    signature, _ = pool_models.uniform_choice(pool.spec)
    pool.configure(pool_models.registration(dataclasses.replace(signature, **changes)))


def test_a_task_before_registration_or_policy_is_refused(pool):
    with pytest.raises(ValueError, match="configure"):
        pool.submit(0, RollTask(1, (0,), 1))
    signature, model = pool_models.uniform_choice(pool.spec)
    with pytest.raises(ValueError, match="configure"):
        pool.set_policy(1, model, None)
    pool.configure(pool_models.registration(signature))
    with pytest.raises(ValueError, match="set_policy"):
        pool.submit(0, RollTask(1, (0,), 1))


@pytest.mark.parametrize(
    ("worker", "slots", "rows"),
    [(0, (1,), 1), (0, (0, 1), 1), (1, (3, 1), 1), (0, (), 1), (0, (0,), 0), (0, (0, 0), 1)],
)
def test_slots_must_be_the_workers_ascending(pool, worker, slots, rows):
    ready(pool, pool_models.uniform_choice)
    with pytest.raises(ValueError, match="slots"):
        pool.submit(worker, RollTask(1, slots, rows))


def test_a_column_that_nothing_fills_is_refused(pool):
    signature, _ = pool_models.uniform_choice(pool.spec)
    for key in (ColumnKey(Role.ALIVE), ColumnKey(Role.RECORD, "", "value")):
        extra = ColumnSpec(key, pool_models.FLOAT)
        with pytest.raises(PoolError, match="nothing here fills"):
            configured(pool, columns=(*signature.columns, extra))


def test_inputs_and_columns_must_have_the_environments_shapes(pool):
    signature, _ = pool_models.uniform_choice(pool.spec)
    wrong = dataclasses.replace(signature.inputs[0], shape=(4,))
    with pytest.raises(PoolError, match=r"input observation has shape \(4,\)"):
        configured(pool, inputs=(wrong, *signature.inputs[1:]))
    unknown = dataclasses.replace(signature.inputs[0], key="camera")
    with pytest.raises(PoolError, match="no such observation"):
        configured(pool, inputs=(unknown, *signature.inputs[1:]))
    action = GraphOutput("action", Role.ACTION, pool_models.INT, (2,))
    with pytest.raises(PoolError, match="the action output has shape"):
        configured(pool, outputs=(action, *signature.outputs[1:]))


def test_a_model_is_looked_into(pool):
    configured(pool)
    with pytest.raises(PoolError, match="no ONNX model"):
        pool.set_policy(1, b"nonsense", None)
    _, other = pool_models.first_available(pool.spec, 3)
    with pytest.raises(PoolError, match="lacks the outputs"):
        pool.set_policy(1, other, None)


def test_a_golden_vector_is_checked(pool):
    configured(pool)
    _, model = pool_models.uniform_choice(pool.spec)
    fed = {"observation": np.zeros((2, 3), np.float32), "noise": np.full((2, 1), 0.3, np.float32)}
    pool.set_policy(1, model, pool_models.golden(model, fed))
    with pytest.raises(PoolError, match="golden"):
        pool.set_policy(1, model, pool_models.golden(model, fed, error=0.1))


def test_a_scalar_without_a_value_is_named(pool):
    ready(pool, pool_models.recurrent_counter)
    with pytest.raises(PoolError, match="'epsilon'"):
        roll(pool, 1)
    pool.set_scalars([pool_models.learner_pb2.Scalar(key="epsilon", values=[0.1, 0.2])])
    with pytest.raises(PoolError, match="none for slot 2"):
        roll(pool, 1)


def test_tasks_are_done_in_order_one_for_each_call(pool):
    ready(pool, pool_models.uniform_choice)
    pool.submit(1, RollTask(7, (1, 3), 2))
    pool.submit(0, EvaluateTask(8, 1, (4,)))
    assert pool.next_timeout() == 0.0
    assert pool.waitables() == []
    assert [pool.events()[0].task_id for _ in range(2)] == [7, 8]
    assert pool.events() == []
    assert pool.next_timeout() is None


def test_cancelled_tasks_are_never_done(pool):
    ready(pool, pool_models.uniform_choice)
    for task_id in (1, 2, 3):
        pool.submit(0, RollTask(task_id, (0, 2), 2))
    pool.cancel({1, 3, 99})
    (event,) = pool.events()
    assert event.task_id == 2
    assert pool.events() == []
    assert event.batch.slots[0].first_row == 0


def test_tasks_are_done_with_what_was_at_hand_when_they_came(pool):
    ready(pool, pool_models.recurrent_counter, version=1)
    scalar = pool_models.learner_pb2.Scalar
    pool.set_scalars([scalar(key="epsilon", values=[0.25])])
    pool.submit(0, RollTask(1, (0, 2), 1))
    pool.set_scalars([scalar(key="epsilon", values=[0.5])])
    _, model = pool_models.recurrent_counter(pool.spec)
    pool.set_policy(2, model, None)
    pool.submit(0, RollTask(2, (0, 2), 1))
    (first,), (second,) = pool.events(), pool.events()
    assert isinstance(first, SegmentRolled)
    assert (first.batch.version, second.batch.version) == (1, 2)


def test_the_newest_is_what_is_at_hand_when_a_task_starts(pool):
    ready(pool, pool_models.recurrent_counter, version=1)
    scalar = pool_models.learner_pb2.Scalar
    pool.set_scalars([scalar(key="epsilon", values=[0.25])])
    pool.submit(0, RollTask(1, (0, 2), 1, newest=True))
    pool.submit(0, RollTask(2, (0, 2), 1))
    pool.set_scalars([scalar(key="epsilon", values=[0.5])])
    _, model = pool_models.recurrent_counter(pool.spec)
    pool.set_policy(2, model, None)
    newest, exact = (Rolled(pool.events()[0].batch) for _ in range(2))
    assert (newest.batch.version, exact.batch.version) == (2, 1)
    assert newest["record/epsilon"].tolist() == [[0.5, 0.5]]
    assert exact["record/epsilon"].tolist() == [[0.25, 0.25]]


def test_progress_counts_rows(pool):
    ready(pool, pool_models.uniform_choice)
    roll(pool, 5)
    pool.submit(1, EvaluateTask(1, 1, (4, 5)))
    pool.events()
    progress = pool.progress()
    assert progress.rows_rolled == 10 + 6  # two episodes of three steps
    assert progress.rows_dropped == progress.worker_restarts == 0
    assert progress.policy_seconds > 0
    assert progress.environment_seconds > 0
