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
            taken = work.take(worker, idle=True)
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


@given(layouts, st.integers(1, 40), st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_a_window_is_never_exceeded_and_never_left_empty(layout, fragments, steps):
    work = WindowWork(window(fragments), layout)
    tasks = collections.deque()
    for lost, idle in steps:
        for worker in range(layout.workers):
            if taken := work.take(worker, idle=idle):
                tasks.append(taken)
        in_flight = sum(map(len, tasks))
        assert in_flight <= fragments
        assert in_flight or not idle
        if tasks:
            (work.give_back if lost else work.done)(tasks.popleft())


@given(layouts, st.integers(1, 40))
def test_slots_of_a_worker_take_turns(layout, fragments):
    work = WindowWork(window(fragments), layout)
    turns = collections.Counter(dict.fromkeys(layout.slots_of(0), 0))
    for _ in range(10):
        taken = work.take(0, idle=True)
        turns.update(taken)
        work.done(taken)
    assert max(turns.values()) - min(turns.values()) <= 1


def test_versions():
    layout = Layout(1, 1)
    exact, newer = FiniteWork(finite(1, 1), layout), WindowWork(window(1), layout)
    assert [exact.can_use(version) for version in range(4)] == [False, True, False, False]
    assert [newer.can_use(version) for version in range(4)] == [False, False, True, True]


def test_a_window_of_nothing_deals_nothing():
    assert WindowWork(window(0), Layout(2, 4)).take(0, idle=True) == ()


def test_an_amount_of_another_version_is_no_work():
    grant = grant_pb2.Grant(grant_id=1)
    grant.collect.rows = 4
    assert collect_work(grant, Layout(1, 1)) is None
