import collections

from hypothesis import given
from hypothesis import strategies as st

from protos.wiserl.v1 import grant_pb2
from sampler.collecting import FiniteWork, Layout, WindowWork, collect_work

layouts = st.builds(
    lambda workers, envs: Layout(workers, workers * envs), st.integers(1, 4), st.integers(1, 4)
)


def finite(fragments, slots):
    grant = grant_pb2.Grant(grant_id=1)
    grant.collect.rows, grant.collect.version = 4, 1
    grant.collect.finite.fragments, grant.collect.finite.slots = fragments, slots
    return grant


def window(fragments):
    grant = grant_pb2.Grant(grant_id=1)
    grant.collect.rows, grant.collect.version, grant.collect.or_newer = 4, 2, True
    grant.collect.window.fragments = fragments
    return grant


@given(layouts, st.integers(0, 20), st.lists(st.booleans(), max_size=20), st.data())
def test_a_finite_grant_is_rolled_exactly_whatever_is_lost(layout, fragments, losses, data):
    slots = data.draw(st.integers(1, layout.slots))
    work = FiniteWork(finite(fragments, slots), layout)
    done = collections.Counter()
    more = True
    while more:
        more = False
        for worker in range(layout.workers):
            taken = work.take(worker)
            more |= bool(taken)
            assert list(taken) == sorted(set(taken) & set(layout.slots_of(worker)))
            if losses and losses.pop():
                work.give_back(taken)
            else:
                work.done(taken)
                done.update(taken)
    laps, extra = divmod(fragments, slots)
    wanted = {slot: laps + (slot < extra) for slot in range(slots)}
    assert done == collections.Counter(wanted)


@given(layouts, st.integers(1, 40), st.lists(st.booleans(), max_size=60), st.randoms())
def test_a_window_is_never_exceeded_and_never_left_empty(layout, fragments, losses, random):
    work = WindowWork(window(fragments), layout)
    tasks = []
    for lost in losses:
        for worker in range(layout.workers):
            if taken := work.take(worker):
                assert list(taken) == sorted(set(taken) & set(layout.slots_of(worker)))
                tasks.append(taken)
        assert 0 < sum(map(len, tasks)) <= fragments
        (work.give_back if lost else work.done)(tasks.pop(random.randrange(len(tasks))))


@given(layouts, st.integers(1, 40), st.randoms())
def test_the_tasks_of_a_worker_stay_as_large_as_its_part_of_the_window(layout, fragments, random):
    work = WindowWork(window(fragments), layout)
    part = [fragments // layout.workers + (w < fragments % layout.workers) for w in range(4)]
    slots = layout.slots_per_worker
    in_flight = []
    for _ in range(60):
        for worker in range(layout.workers):
            if taken := work.take(worker):
                assert len(taken) >= min(max(part[worker], 1), (slots + 1) // 2)
                in_flight += taken
        # Answers come in pieces, in any order.
        work.done([in_flight.pop(random.randrange(len(in_flight)))])


@given(layouts, st.integers(1, 40))
def test_slots_of_a_worker_take_turns(layout, fragments):
    work = WindowWork(window(fragments), layout)
    turns = collections.Counter(dict.fromkeys(layout.slots_of(0), 0))
    for _ in range(10):
        taken = work.take(0)
        turns.update(taken)
        work.done(taken)
    assert max(turns.values()) - min(turns.values()) <= 1


def test_no_worker_takes_the_part_of_another():
    work = WindowWork(window(5), Layout(2, 8))
    assert [work.take(worker) for worker in (0, 1)] == [(0, 2, 4), (1, 3)]
    work.done((1,))
    assert [work.take(worker) for worker in (0, 1)] == [(), ()]
    work.done((3,))
    assert [work.take(worker) for worker in (0, 1)] == [(), (5, 7)]


def test_versions():
    layout = Layout(1, 1)
    exact, newer = FiniteWork(finite(1, 1), layout), WindowWork(window(1), layout)
    assert [exact.can_use(version) for version in range(4)] == [False, True, False, False]
    assert [newer.can_use(version) for version in range(4)] == [False, False, True, True]


def test_a_window_of_nothing_deals_nothing():
    assert WindowWork(window(0), Layout(2, 4)).take(0) == ()


def test_an_amount_of_another_version_is_no_work():
    grant = grant_pb2.Grant(grant_id=1)
    grant.collect.rows = 4
    assert collect_work(grant, Layout(1, 1)) is None
