"""Rounds: everything is dealt, nothing is dealt twice, the same way each time."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.rounds import Round, Seat, shares_of


def round_of(fragments):
    return Round(1, fragments=fragments, rows=2, grant_ids=itertools.count(1))


@pytest.mark.parametrize(
    ("fragments", "slots", "shares"),
    [
        (6, [1, 4, 2], [1, 3, 2]),
        (7, [1, 4, 2], [1, 4, 2]),
        (8, [1, 4, 2], [2, 4, 2]),
        (12, [1, 4, 2, 2], [2, 5, 3, 2]),
        (1, [3, 3], [1, 0]),
        (100, [3], [100]),
    ],
)
def test_shares_by_hand(fragments, slots, shares):
    assert shares_of(fragments, slots) == shares


@given(st.integers(1, 200), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_shares_are_what_dealing_one_by_one_gives(fragments, slots):
    one_by_one = [0] * len(slots)
    lap = [turn for turn in range(max(slots)) for _ in (0,)]
    order = [seat for turn in lap for seat, count in enumerate(slots) if turn < count]
    for seat in itertools.islice(itertools.cycle(order), fragments):
        one_by_one[seat] += 1
    assert shares_of(fragments, slots) == one_by_one


def test_positions_follow_index_slot_and_lap():
    current = round_of(5)
    first, second = current.deal([Seat("a", 1), Seat("b", 2)])
    assert [list(slot) for slot in first.pending] == [[0, 1]]
    assert [list(slot) for slot in second.pending] == [[2, 3], [4]]
    assert (first.slots, second.slots) == (1, 2)


def test_who_lost_work_comes_last():
    current = round_of(2)
    current.deal([Seat("a", 2)])
    current.take_back("a")
    (grant,) = current.deal([Seat("a", 2), Seat("b", 1)])
    assert grant.sampler_id == "b"
    current.take_back("b")
    assert {grant.sampler_id for grant in current.deal([Seat("a", 2), Seat("b", 1)])} == {"a", "b"}


def test_complete_work_is_not_taken_back():
    current = round_of(1)
    (grant,) = current.deal([Seat("a", 1)])
    current.deliver(grant, [0])
    assert current.take_back("a") == []
    assert current.complete


def test_a_grant_is_its_holder_s_alone():
    current = round_of(1)
    (grant,) = current.deal([Seat("a", 1)])
    assert current.grant(grant.grant_id, "a") is grant
    assert current.grant(grant.grant_id, "b") is None
    assert current.grant(99, "a") is None


SEATS = [Seat("a", 1), Seat("b", 3), Seat("c", 4)]
EVENTS = st.one_of(
    st.tuples(st.just("deal"), st.sets(st.sampled_from(SEATS), min_size=1)),
    st.tuples(st.just("deliver"), st.integers(0, 5)),
    st.tuples(st.just("lose"), st.sampled_from("abc")),
)


@given(st.integers(1, 20), st.lists(EVENTS, max_size=30))
def test_any_order_of_events_delivers_every_position_once(fragments, events):
    """Samplers come, lose work and deliver in any order; each position arrives exactly once."""
    current = round_of(fragments)
    used, seen = [], []

    def grants():
        live = (current.grant(grant.grant_id, grant.sampler_id) for grant in used)
        return [grant for grant in live if grant is not None]

    def deliver(slot):
        for grant in grants():
            if slot < grant.slots and grant.pending[slot]:
                seen.extend(current.deliver(grant, [slot]))

    for kind, value in events:
        if kind == "deal":
            used += current.deal(sorted(value))
        elif kind == "deliver":
            deliver(value)
        else:
            current.take_back(value)
    used += current.deal(SEATS)
    while not current.complete:
        for slot in range(4):
            deliver(slot)
    assert sorted(seen) == list(range(fragments))
    assert len({grant.grant_id for grant in used}) == len(used)
