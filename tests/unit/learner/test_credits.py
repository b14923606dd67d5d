"""Credits: the total is met, everybody has some, and a grant stays the same while it changes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidFieldError
from learner.credits import Credit, Credits, proportional
from learner.rounds import Seat

weights = st.lists(st.integers(1, 64), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("total", "slots", "shares"),
    [
        (8, [1, 3], [2, 6]),
        (8, [2, 2, 2], [3, 3, 2]),
        (3, [100, 1, 1], [1, 1, 1]),
        (5, [100, 1, 1], [3, 1, 1]),
        (2, [4, 4, 4], [1, 1, 1]),
        (10, [1, 1, 98], [1, 1, 8]),
        (7, [], []),
    ],
)
def test_shares_by_hand(total, slots, shares):
    assert proportional(total, slots) == shares


@given(st.integers(1, 500), weights)
def test_shares_meet_the_total_and_follow_the_slots(total, slots):
    shares = proportional(total, slots)
    assert sum(shares) == max(total, len(slots))
    assert min(shares) >= 1
    for i, j in itertools.combinations(range(len(slots)), 2):
        if slots[i] > slots[j]:
            assert shares[i] >= shares[j]
    # Nobody above the least gets more than a fragment beyond the exact share.
    assert all(
        share == 1 or share < total * slot / sum(slots) + 1
        for share, slot in zip(shares, slots, strict=True)
    )


@given(
    st.integers(1, 40),
    st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), max_size=6), max_size=12
    ),
)
def test_grants_are_resized_in_place_and_never_used_twice(fragments, crowds):
    dealt = Credits(fragments, rows=4, version=3, grant_ids=itertools.count(1))
    known, used = {}, set()
    for crowd in crowds:
        seats = [Seat(name, slots) for name, slots in crowd.items()]
        known = {name: credit for name, credit in known.items() if name in crowd}
        for credit in dealt.deal(seats):
            before = known.get(credit.sampler_id)
            if before is None:
                assert credit.grant_id not in used
                used.add(credit.grant_id)
            else:
                assert credit.grant_id == before.grant_id
                assert credit.fragments != before.fragments
            known[credit.sampler_id] = credit
        assert set(known) == set(crowd)
        if crowd:
            total = sum(credit.fragments for credit in known.values())
            assert total == max(fragments, len(crowd))
        assert dealt.deal(seats) == []


def test_what_was_taken_back_is_dealt_under_a_new_id():
    dealt = Credits(4, rows=2, version=1, grant_ids=itertools.count(1))
    seats = [Seat("a", 1), Seat("b", 1)]
    assert dealt.deal(seats) == [Credit(1, "a", 2, 2), Credit(2, "b", 2, 2)]
    assert dealt.take_back("a") == [1]
    assert dealt.take_back("a") == []
    assert dealt.deal(seats) == [Credit(3, "a", 2, 2)]


def test_no_fragments_in_flight_are_refused():
    with pytest.raises(InvalidFieldError) as caught:
        Credits(0, rows=2, version=1, grant_ids=itertools.count(1))
    assert caught.value.field == "fragments_in_flight"
