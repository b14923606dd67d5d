"""The checks of killed runs find what is broken on purpose: in what they are given, and in code."""

from __future__ import annotations

import dataclasses
import re

import history
import numpy as np
import pytest
from front_support import (
    COLUMNS,
    VALID,
    A,
    B,
    Part,
    make_batch,
    make_coordinator,
    publication,
    push_request,
    pushed,
    register_request,
)
from history import Push, Record, Ring, Tables

from learner.experience.replay import ReplaySettings, ReplayStore
from learner.front import admission, flowing
from learner.front.session import Session
from learner.header import MappedHeader
from learner.ledger import Loss, LossReason
from learner.rate_limiter import LimiterSettings, RateLimiter
from learner.totals import SamplerTotals, Totals
from protos.wiserl.v1 import learner_pb2

ACCEPTED, ENDED = "VERDICT_ACCEPTED", "VERDICT_ENDED"

# The third got no answer and is there, the fourth got none and is not. The fifth met the budget.
PUSHES = (
    Push(A, 1, 1, 4, (1, 2, 3), ACCEPTED, 1),
    Push(B, 1, 1, 4, (11, 12, 13, 14), "VERDICT_DUPLICATE", 2),
    Push(A, 2, 1, 4, (4, 5, 6, 7)),
    Push(B, 2, 1, 4, (15, 16)),
    Push(A, 3, 2, 4, (8, 9, 10), ACCEPTED, 2),
    Push(B, 3, 2, 4, (17, 18), ENDED, 2),
)
STEPS = (1, 2, 3, 11, 12, 13, 14, 4, 5, 6, 7, 8, 9)


def totals(**losses):
    counted = {"unknown_sampler": Loss(1, 4), "ended": Loss(1, 4), "beyond_budget": Loss(0, 1)}
    counted |= losses
    return Totals(
        environment_steps=len(STEPS),
        rows=20,
        samplers={A: SamplerTotals(3, 12), B: SamplerTotals(3, 4)},
        losses={LossReason(name): loss for name, loss in counted.items()},
    )


def ring_violations(pushes=PUSHES, steps=STEPS, of=None):
    return list(history.check_ring(pushes, Ring(steps, of or totals()), samplers=0))


def without(*lost):
    return tuple(step for step in STEPS if step not in lost)


def with_push(number, **changes):
    pushes = list(PUSHES)
    pushes[number] = dataclasses.replace(pushes[number], **changes)
    return pushes


def test_a_sound_ring_is_sound():
    assert ring_violations() == []


@pytest.mark.parametrize(
    ("faulty", "found"),
    [
        ({"steps": without(2)}, "2 rows of an acknowledged push lack, beyond the budget were 1"),
        ({"steps": without(2)}, "12 rows are there, counted are 13"),
        ({"steps": without(2)}, "only the push that met the budget"),
        ({"steps": without(1, 2, 3)}, r"push 1 of sampler- .* is nowhere"),
        ({"steps": (*STEPS, 5)}, "row 5 is there 2 times"),
        ({"steps": (*STEPS, 99)}, "row 99 is there and was never sent"),
        ({"steps": (*STEPS, 17)}, r"push 3 of sampler- \(VERDICT_ENDED\) is there"),
        ({"steps": without(6)}, "only the push that met the budget"),
        ({"steps": (*STEPS, 10)}, "0 rows of an acknowledged push lack"),
        ({"pushes": with_push(3, verdict="REFUSED")}, "nothing was wrong"),
        ({"of": totals(lost_in_restart=Loss(0, 8))}, "8 rows were lost in restarts"),
        ({"of": totals(ended=Loss())}, "2 pushes are nowhere .* the ledger has 1"),
        ({"of": totals(sequence_gap=Loss(1, 0))}, "2 pushes are nowhere .* the ledger has 3"),
    ],
)
def test_a_faulty_ring_is_found(faulty, found):
    assert any(re.search(found, text) for text in ring_violations(**faulty)), ring_violations(
        **faulty
    )


BEFORE = Tables(((1, 0), (3, 8)), (1,))
AFTER = Tables((*BEFORE.metrics, (7, 9), (7, 16)), (1, 7, 8))
RECORDS = (
    Record(PUSHES[::2], ((1, "a"), (3, "b"))),
    Record(PUSHES[1::2], ((1, "a"), (7, "c"))),
)


def test_a_sound_record_is_sound():
    assert list(history.check_restart(Tables((), ()), BEFORE)) == []
    assert list(history.check_restart(BEFORE, AFTER)) == []
    assert list(history.check_versions(AFTER, RECORDS)) == []
    assert list(history.check_budget([0, 8, 8, 16], 16)) == []
    assert list(history.check_acknowledged(PUSHES, totals())) == []


@pytest.mark.parametrize(
    ("violations", "found"),
    [
        (
            history.check_restart(BEFORE, Tables((*BEFORE.metrics, (3, 9)), (1, 7))),
            "version 3 came after a restart, 3 before it",
        ),
        (
            history.check_restart(BEFORE, Tables(BEFORE.metrics, (1, 2))),
            "version 2 came after a restart, 3 before it",
        ),
        (history.check_restart(BEFORE, Tables(AFTER.metrics[1:], (1, 7))), "the 2 rows of before"),
        (history.check_restart(BEFORE, Tables(AFTER.metrics, ())), "evaluations: the 1 rows"),
        (
            history.check_versions(Tables(((3, 0), (2, 8)), ()), ()),
            "metrics.csv: version 2 after 3",
        ),
        (
            history.check_versions(Tables((), (1, 7, 7)), ()),
            "version 7 was evaluated more than once",
        ),
        (
            history.check_versions(AFTER, [*RECORDS, Record((), ((3, "another"),))]),
            "version 3 is 2 models",
        ),
        (history.check_versions(AFTER, [Record(PUSHES[1::-1], ())]), "answers: version 1 after 2"),
        (history.check_budget([0, 8, 7, 16], 16), "environment steps fell from 8 to 7"),
        (history.check_budget([0, 8, 17], 16), r"ended at \[17\], the budget is 16"),
        (history.check_budget([], 16), r"ended at \[\]"),
        (
            history.check_acknowledged([Push(A, 4, 1, 4, (), ACCEPTED)], totals()),
            "push 4 .* was answered",
        ),
        (
            history.check_acknowledged([Push("another", 1, 1, 4, (), ACCEPTED)], totals()),
            "the header has None",
        ),
    ],
)
def test_a_faulty_record_is_found(violations, found):
    texts = list(violations)
    assert len(texts) == 1
    assert re.search(found, texts[0])


def test_what_a_header_knows_of_lies_between_what_was_answered_and_what_was_sent():
    known = Totals(samplers={A: SamplerTotals(2), B: SamplerTotals(3)})
    assert history.rows_known(PUSHES, known) == (8, 16)


# The front and a ring in files, without a network: three processes, each killed after some pushes,
# every one of which is sent twice as if its answer had not come.


def serve(folder, pushes):
    """What one process does until it is killed."""
    path = folder / "header.bin"
    header = MappedHeader.open(path) if path.exists() else MappedHeader.create(path)
    coordinator = make_coordinator(header=header)
    base = coordinator.register(0.0, register_request(A)).incarnation_base
    coordinator.publish(publication(1))
    limiter = RateLimiter(LimiterSettings(1.0, 0, 1000.0))
    coordinator.open_replay(0.0, opened(folder, header.totals), limiter, fragments_in_flight=8)
    for first_row in range(0, 6, 2):
        parts = [Part(slot, first_row, base) for slot in range(2)]
        sequence = len(pushes) + 1
        request = push_request(A, sequence, 1, make_batch(1, parts))
        pushed(coordinator, 0.0, request)
        verdict = pushed(coordinator, 0.0, request).verdict
        steps = [(0, slot, base, first_row + row) for slot in range(2) for row in range(2)]
        name = learner_pb2.Verdict.Name(verdict)
        pushes.append(Push(A, sequence, 1, len(steps), tuple(steps), name, 1))
    header._file.close()


def opened(folder, found):
    settings = ReplaySettings(128, 2, 0.99)
    return ReplayStore(COLUMNS, settings, seed=1, folder=folder / "replay", cursor=found.ring)


def violations_of_a_run(folder):
    folder.mkdir()
    pushes = []
    for _ in range(3):
        serve(folder, pushes)
    with MappedHeader.open(folder / "header.bin") as header:
        found = header.totals
        dump = opened(folder, found).dump()
    valid = np.flatnonzero(dump.columns[VALID])
    ring = Ring([tuple(dump.keys[row]) for row in valid], found)
    return [*history.check_ring(pushes, ring, 0), *history.check_acknowledged(pushes, found)]


def forget_sequences(patch):
    patch.setattr(Session, "last_sequence", 0)
    patch.setattr(admission, "advance", lambda *_: None)


def store_nothing(patch):
    patch.setattr(ReplayStore, "insert", lambda _, segment, __: int(np.sum(segment.columns[VALID])))


def store_in_part(patch):
    def shortened(segment, *_):
        valid = segment.columns[VALID].copy()
        valid[-1, 0] = False
        return dataclasses.replace(segment, columns={**segment.columns, VALID: valid})

    patch.setattr(flowing, "within", shortened)


def leave_the_ring_out(patch):
    insert = ReplayStore.insert

    def inserted(store, *arguments):
        count = insert(store, *arguments)
        store._written -= 1
        store._resident -= 1
        return count

    patch.setattr(ReplayStore, "insert", inserted)


@pytest.mark.parametrize(
    ("seed", "found"),
    [
        (lambda patch: patch.setattr(MappedHeader, "commit", lambda _: None), "is nowhere"),
        (store_nothing, "is nowhere"),
        (store_in_part, "may be there in part"),
        (leave_the_ring_out, "lack, beyond the budget were 0"),
        (forget_sequences, "is there 2 times"),
    ],
    ids=["answered without a commit", "not stored", "in part", "not in the ring", "no dedupe"],
)
def test_a_bug_in_the_front_is_found(tmp_path, monkeypatch, seed, found):
    assert violations_of_a_run(tmp_path / "sound") == []
    with monkeypatch.context() as patch:
        seed(patch)
        violations = violations_of_a_run(tmp_path / "seeded")
    assert any(re.search(found, text) for text in violations), violations
