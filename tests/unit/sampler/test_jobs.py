from __future__ import annotations

import threading

from protos.wiserl.v1 import learner_pb2
from sampler.jobs import Acting, Configure, Evaluate, Jobs, Name, Roll, Stop

NO_POLICY = Acting(1, None, {})


def roll(task_id):
    return Roll(Name(1, task_id), [0], 4, NO_POLICY, newest=False)


def evaluate(task_id):
    return Evaluate(Name(1, task_id), [7], policy=None, scalars={})


def filled(*jobs):
    made = Jobs()
    for job in jobs:
        made.put(job)
    return made


def test_evaluations_wait_beside_the_line():
    jobs = filled(roll(1), evaluate(2), roll(3), Stop())
    assert [jobs.next() for _ in range(4)] == [roll(1), roll(3), Stop(), None]
    assert [jobs.next_evaluation(), jobs.next_evaluation()] == [evaluate(2), None]


def test_a_new_configuration_drops_what_came_before_it():
    jobs = filled(roll(1), evaluate(2))
    jobs.cancel({Name(1, 9)})
    configure = Configure(2, learner_pb2.RegisterResponse(), [0])
    jobs.put(configure)
    jobs.put(roll(3))
    assert [jobs.next(), jobs.next(), jobs.next_evaluation()] == [configure, roll(3), None]
    assert not jobs.is_cancelled(Name(1, 9))


def test_what_has_not_started_is_taken_out_and_the_rest_is_told():
    jobs = filled(roll(1), roll(2), evaluate(3))
    started = jobs.next().name
    cancelled = {started, Name(1, 2), Name(1, 3)}
    assert jobs.cancel(cancelled) == cancelled - {started}
    assert [jobs.is_cancelled(name) for name in sorted(cancelled)] == [True, False, False]
    assert (jobs.next(), jobs.next_evaluation()) == (None, None)


def test_either_ends_the_waiting():
    for job in (roll(1), evaluate(2)):
        jobs = Jobs()
        waiting = threading.Thread(target=jobs.wait)
        waiting.start()
        jobs.put(job)
        waiting.join(30)
        assert not waiting.is_alive()
