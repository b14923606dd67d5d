"""The pool of real worker processes: its data, its failures, its end."""

from __future__ import annotations

import operator
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pool_models
import pytest
from pool_rolls import Rolled, config, ready
from processes import is_alive, until

from sampler.inline_pool import InlinePool
from sampler.pool import (
    EpisodesEvaluated,
    EvaluateTask,
    PoolError,
    PoolFailed,
    RollTask,
    SegmentRolled,
    WorkerLost,
)
from sampler.process_pool import ProcessPool

PATIENCE_SECONDS = 30.0


@pytest.fixture
def made():
    """Makes pools and closes them."""
    pools = []

    def make(name, **settings):
        pools.append(ProcessPool(config(name, **settings)))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def wait_for(pool, count=1, patience=PATIENCE_SECONDS):
    """The next events, at least so many."""
    found, deadline = [], time.monotonic() + patience
    while len(found) < count:
        left = deadline - time.monotonic()
        assert left > 0, f"only {found} within {patience} s"
        timeout = pool.next_timeout()
        select.select(pool.waitables(), [], [], left if timeout is None else min(timeout, left))
        found += pool.events()
    return found


def children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


@pytest.mark.parametrize(
    "name",
    [
        "Seeded",
        "pool_environments:SeededSameStep-v0",
        "pool_environments:SeededNextStep-v0",
        "CartPole-v1",
    ],
)
def test_processes_give_the_data_of_the_in_process_pool_bit_for_bit(made, name):
    tasks = [
        (0, RollTask(1, (0, 2, 4), 50)),
        (1, RollTask(2, (1, 3), 20)),
        (1, RollTask(3, (1, 3, 5), 30)),
        (0, RollTask(4, (0, 2, 4), 200)),  # needs larger buffers
        (1, EvaluateTask(5, 1, (3, 4, 5, 6))),
    ]
    batches = []
    settings = {"workers": 2, "envs_per_worker": 3}
    for pool in (made(name, **settings), InlinePool(config(name, **settings))):
        ready(pool, pool_models.uniform_choice, seed=3)
        for worker, task in tasks:
            pool.submit(worker, task)
        events = {event.task_id: event for event in wait_for(pool, len(tasks))}
        batches.append(
            [events[i].batch.SerializeToString(deterministic=True) for i in (1, 2, 3, 4)]
            + [one.SerializeToString(deterministic=True) for one in events[5].episodes]
        )
        assert pool.progress().rows_rolled >= 150 + 40 + 90 + 600
        assert isinstance(events[5], EpisodesEvaluated)
        pool.close()
    assert batches[0] == batches[1]


def test_a_worker_imports_nothing_heavy(made, tmp_path):
    report = tmp_path / "modules"
    made("Telltale", report=str(report))
    modules = set(report.read_text().split())
    assert {"onnxruntime", "gymnasium"} <= modules
    assert not modules & {"grpc", "torch", "onnx", "onnxscript", "structlog", "learner"}
    assert not [name for name in modules if name.endswith("_pb2_grpc")]


def test_the_supervisor_imports_neither_environments_nor_onnx_runtime():
    code = """
        import sys, sampler.process_pool, sampler.pool
        heavy = {"onnxruntime", "gymnasium", "torch", "onnx", "structlog"}
        print(sorted(heavy & set(sys.modules)))
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raise", "RuntimeError: the wheel came off"),
        ("shape", r"WrongObservationError: observation has shape \(1,\)"),
        ("sys.exit", "SystemExit: 4"),
        ("exit", "ended itself with status 3"),
        ("segfault", r"(?s)ended by signal 11.*Segmentation fault.*in _break"),
        ("loop", r"(?s)no step or reset ended within 2 s.*in _break"),
        ("sleep", r"(?s)no step or reset ended within 2 s.*in _break"),
    ],
)
def test_a_worker_that_fails_is_replaced_while_the_others_go_on(made, tmp_path, how, says):
    flag = str(tmp_path / "broken")
    hang_seconds = 2 if how in ("loop", "sleep") else 0
    # On a busy machine a worker that is well may be silent for a while, too.
    limit = hang_seconds or PATIENCE_SECONDS
    pool = made(
        "Broken", how=how, flag=flag, workers=2, envs_per_worker=2, step_timeout_seconds=limit
    )
    ready(pool, pool_models.uniform_choice)
    # Only one of the two workers gets far enough to break.
    pool.submit(0, RollTask(1, (0, 2), 3))
    wait_for(pool)
    began = time.monotonic()
    pool.submit(0, RollTask(2, (0, 2), 10))
    pool.submit(0, RollTask(3, (0, 2), 10))
    (lost,) = wait_for(pool)
    noticed = time.monotonic() - began
    assert isinstance(lost, WorkerLost)
    assert (lost.worker, lost.tasks) == (0, (2, 3))
    assert_text(lost.reason, says)
    assert 0 < lost.rows_dropped < 20
    pool.submit(0, RollTask(4, (0, 2), 10))
    pool.submit(1, RollTask(5, (1, 3), 10))
    events = {event.task_id: event for event in wait_for(pool, 2)}
    replaced = time.monotonic() - began
    print(f"{how}: noticed after {noticed:.2f} s, rolling again after {replaced:.2f} s")  # noqa: T201
    assert replaced < 3 * 2 + hang_seconds
    again, other = Rolled(events[4].batch), Rolled(events[5].batch)
    assert [(part.incarnation, part.first_row) for part in again.batch.slots] == [(1, 0)] * 2
    assert [(part.incarnation, part.first_row) for part in other.batch.slots] == [(0, 0)] * 2
    assert again["is_first"][0].all()
    assert pool.progress().worker_restarts == 1
    assert pool.progress().rows_dropped == lost.rows_dropped
    assert pool.progress().rows_rolled == 6 + lost.rows_dropped + 40


def assert_text(text, pattern):
    import re

    assert re.search(pattern, text), text


def test_a_flood_on_stdout_corrupts_nothing(made):
    pool = made("Broken", how="flood", envs_per_worker=1)
    ready(pool, pool_models.uniform_choice)
    pool.submit(0, RollTask(1, (0,), 10))
    (event,) = wait_for(pool)
    assert Rolled(event.batch)["observation"][:6, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_slow_is_not_hung(made):
    pool = made("Slow", envs_per_worker=2, step_timeout_seconds=2)
    ready(pool, pool_models.uniform_choice)
    pool.submit(0, RollTask(1, (0, 1), 8))  # 2.8 s in all, 0.2 s a step
    (event,) = wait_for(pool)
    assert isinstance(event, SegmentRolled)


def test_five_losses_in_a_minute_are_the_end(made):
    pool = made("Broken", how="raise", at=1, envs_per_worker=1)
    ready(pool, pool_models.uniform_choice)
    events = []
    while not any(isinstance(event, PoolFailed) for event in events):
        pool.submit(0, RollTask(len(events), (0,), 3))
        events += wait_for(pool)
    assert [type(event) for event in events] == [WorkerLost] * 5 + [PoolFailed]
    assert "5 workers were lost within 60 s" in events[-1].reason
    assert "the wheel came off" in events[-1].reason
    assert pool.events() == []
    assert pool.next_timeout() is None


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("Broken", {"how": "build"}, "RuntimeError: the wheel came off while building"),
        ("TupleObservation", {}, r"observation space\['pair'\] is a Tuple"),
        ("Counting", {"allowed_modules": ()}, "is not allowed here"),
        ("CartPole-v77", {}, "CartPole"),
    ],
)
def test_an_environment_that_cannot_be_built_is_an_error_at_once(made, name, settings, says):
    with pytest.raises(PoolError, match=says):
        made(name, **settings)


def test_a_model_that_fails_its_golden_vector_is_the_end(made):
    pool = made("Counting", workers=2, envs_per_worker=1)
    signature, model = pool_models.uniform_choice(pool.spec)
    pool.configure(pool_models.registration(signature))
    fed = {"observation": np.zeros((2, 3), np.float32), "noise": np.full((2, 1), 0.3, np.float32)}
    pool.set_policy(1, model, pool_models.golden(model, fed))
    pool.submit(0, RollTask(1, (0,), 3))
    assert isinstance(wait_for(pool)[0], SegmentRolled)
    pool.set_policy(2, model, pool_models.golden(model, fed, error=0.1))
    (event,) = wait_for(pool)
    assert isinstance(event, PoolFailed)
    assert "golden" in event.reason


def test_cancelled_tasks_are_not_heard_of(made):
    pool = made("Slow", envs_per_worker=1, seconds=0.2)
    ready(pool, pool_models.uniform_choice)
    pool.submit(0, RollTask(1, (0,), 6))
    until("rows", lambda: pool.progress().rows_rolled > 0)
    pool.submit(0, RollTask(2, (0,), 6))
    pool.submit(0, EvaluateTask(3, 1, (1, 2)))
    pool.submit(0, RollTask(4, (0,), 4))
    pool.cancel({1, 2, 3})
    (event,) = wait_for(pool)
    assert event.task_id == 4
    assert event.batch.slots[0].first_row == 6  # task 1 had begun, 2 never did
    assert pool.progress().rows_dropped == 6
    assert pool.progress().rows_rolled == 10


def test_queued_tasks_start_with_the_newest_policy_and_scalars_if_they_ask_for_it(made, tmp_path):
    gate = tmp_path / "gate"
    pool = made("Gated", envs_per_worker=1, gate=str(gate))
    ready(pool, pool_models.recurrent_counter)
    scalar = pool_models.learner_pb2.Scalar
    pool.set_scalars([scalar(key="epsilon", values=[0.25])])
    for task_id, newest in ((1, True), (2, True), (3, False)):
        pool.submit(0, RollTask(task_id, (0,), 2, newest=newest))
    pool.set_scalars([scalar(key="epsilon", values=[0.5])])
    _, model = pool_models.recurrent_counter(pool.spec)
    pool.set_policy(2, model, None)
    # Commands are read in order: a worker that has dropped this task has the policy.
    pool.submit(0, RollTask(4, (0,), 2))
    pool.cancel({4})
    until("the cancelling", lambda: pool.events() == [] and 4 not in pool._crew.hands[0].tasks)
    gate.touch()
    events = {event.task_id: event for event in wait_for(pool, 3)}
    rolled = [Rolled(events[task_id].batch) for task_id in (1, 2, 3)]
    # Whether the first one had started before the policy came is a matter of chance.
    assert [one.batch.version for one in rolled[1:]] == [2, 1]
    assert [one["record/epsilon"][0, 0] for one in rolled[1:]] == [0.5, 0.25]


def test_a_new_registration_drops_all_tasks(made):
    # So slow that the first task is still under way when the new registration comes.
    pool = made("Slow", envs_per_worker=1, seconds=0.2)
    ready(pool, pool_models.uniform_choice)
    for task_id in range(5):
        pool.submit(0, RollTask(task_id, (0,), 10))
    until("rows", lambda: pool.progress().rows_rolled > 0)
    ready(pool, pool_models.uniform_choice, version=2)
    pool.submit(0, RollTask(0, (0,), 3))
    (event,) = wait_for(pool)
    assert (event.task_id, event.batch.version, event.batch.slots[0].first_row) == (0, 2, 0)
    assert pool.progress().rows_rolled == 13
    assert pool.progress().rows_dropped == 10
    assert pool.next_timeout() is None  # nothing is owed


def test_an_evaluation_ends_while_rolling_never_pauses(made):
    pool = made("Counting", envs_per_worker=2)
    ready(pool, pool_models.uniform_choice)
    pool.submit(0, EvaluateTask(0, 1, tuple(range(50))))
    rolled, evaluated, submitted = 0, None, 0
    while evaluated is None:
        while submitted - rolled < 3:
            submitted += 1
            pool.submit(0, RollTask(submitted, (0, 1), 64))
        for event in wait_for(pool):
            match event:
                case SegmentRolled():
                    rolled += 1
                case EpisodesEvaluated():
                    evaluated = event
    assert [one.seed for one in evaluated.episodes] == list(range(50))
    assert {one.episode.length for one in evaluated.episodes} == {3}


def test_signals_for_the_whole_group_are_the_supervisors_affair(made):
    pool = made("Counting", workers=2, envs_per_worker=1)
    ready(pool, pool_models.uniform_choice)
    nursery = pool._crew.nursery.process.pid
    for pid in (nursery, *children(nursery)):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    for worker in (0, 1):
        pool.submit(worker, RollTask(worker, (worker,), 5))
    assert {type(event) for event in wait_for(pool, 2)} == {SegmentRolled}


def test_closing_ends_every_process_and_may_be_repeated(made):
    pool = made("Broken", how="sleep", at=1, workers=2, envs_per_worker=1)
    ready(pool, pool_models.uniform_choice)
    nursery = pool._crew.nursery.process.pid
    workers = children(nursery)
    assert len(workers) == 2
    pool.submit(0, RollTask(1, (0,), 5))
    progress = pool.progress()
    pool.close()
    pool.close()
    assert not any(map(is_alive, [nursery, *workers]))
    assert pool.events() == []
    assert pool.progress().rows_rolled >= progress.rows_rolled


def test_a_killed_nursery_is_the_end_of_the_pool(made):
    pool = made("Counting", workers=2, envs_per_worker=1)
    workers = children(pool._crew.nursery.process.pid)
    os.kill(pool._crew.nursery.process.pid, signal.SIGKILL)
    (event,) = wait_for(pool)
    assert isinstance(event, PoolFailed)
    assert "nursery" in event.reason
    until("their end", lambda: not any(map(is_alive, workers)))


@pytest.mark.parametrize("how", ["nan", "loop"])
@pytest.mark.parametrize("in_thread", [False, True])
def test_a_killed_supervisor_leaves_no_process_and_no_shared_memory(how, in_thread):
    """Also while a worker is stuck, and where a thread that has ended had made the pool."""
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208, S108
    code = f"""
        import sys, threading, time
        sys.path[:0] = {sys.path!r}
        import pool_models
        from pool_rolls import config, ready
        from sampler.pool import RollTask
        from sampler.process_pool import ProcessPool

        def make():
            global pool
            pool = ProcessPool(config("Broken", how={how!r}, at=2, workers=2, envs_per_worker=1))

        if {in_thread}:
            thread = threading.Thread(target=make)
            thread.start()
            thread.join()
        else:
            make()
        ready(pool, pool_models.uniform_choice)
        for worker in (0, 1):
            pool.submit(worker, RollTask(worker, (worker,), 5))
        while pool.progress().rows_rolled < 2:
            time.sleep(0.01)
        print(pool._crew.nursery.process.pid, flush=True)
        time.sleep(100)
    """
    supervisor = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    nursery = int(supervisor.stdout.readline())
    family = [nursery, *children(nursery)]
    assert len(family) == 3
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    until("their end", lambda: not any(map(is_alive, family)))
    # Other tests beside this one may have something there for a moment.
    until("an empty shelf", lambda: set(os.listdir("/dev/shm")) <= before)  # noqa: PTH208, S108


def test_replacements_leak_no_descriptors(made, tmp_path):
    pool = made("Broken", how="raise", at=2, envs_per_worker=1)
    ready(pool, pool_models.uniform_choice)

    def lose():
        pool.submit(0, RollTask(1, (0,), 5))
        assert isinstance(wait_for(pool)[0], WorkerLost)
        pool.submit(0, RollTask(2, (0,), 1))
        assert isinstance(wait_for(pool)[0], SegmentRolled)

    def descriptors(pid):
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208

    def counts():
        return [descriptors(pid) for pid in ("self", pool._crew.nursery.process.pid)]

    lose()
    before = counts()
    lose()
    lose()
    # What belonged to the last of them, or to an earlier test, may be closed a moment later.
    until("the end of files", lambda: all(map(operator.le, counts(), before)))


def test_a_replacement_knows_what_its_predecessor_was_told(made, tmp_path):
    flag = str(tmp_path / "broken")
    pool = made("Broken", how="raise", at=2, flag=flag, envs_per_worker=2)
    signature, model = pool_models.recurrent_counter(pool.spec)
    pool.configure(pool_models.registration(signature, incarnation=40))
    pool.set_policy(3, model, None)
    pool.set_scalars([pool_models.learner_pb2.Scalar(key="epsilon", values=[0.25, 0.75])])
    pool.set_evaluation_policy(2, model)
    pool.submit(0, RollTask(1, (0, 1), 5))
    assert isinstance(wait_for(pool)[0], WorkerLost)
    pool.submit(0, RollTask(1, (0, 1), 5))
    pool.submit(0, EvaluateTask(2, 2, (1, 2)))
    events = {event.task_id: event for event in wait_for(pool, 2)}
    rolled = Rolled(events[1].batch)
    assert rolled.batch.version == 3
    assert [part.incarnation for part in rolled.batch.slots] == [41, 41]
    assert rolled["record/epsilon"][0].tolist() == [0.25, 0.75]
    assert rolled["record/counted"][:, 0, 0].tolist() == [10, 11, 12, 13, 14]
    assert [one.episode.length for one in events[2].episodes] == [7, 7]
