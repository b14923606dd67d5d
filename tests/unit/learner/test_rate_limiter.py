"""The limiter: never are both sides blocked, and the ratio holds within the window."""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidFieldError
from learner.rate_limiter import LimiterSettings, RateLimiter

ratios = st.one_of(
    st.sampled_from([0.01, 0.1, 0.25, 0.29, 1.0, 1 / 3, 0.7, 4.0, 20.0]),
    st.floats(1e-3, 100, allow_nan=False),
)
windows = st.one_of(st.integers(1, 1000).map(float), st.floats(1, 50, allow_nan=False))
counts = st.integers(0, 5000)


@st.composite
def all_settings(draw):
    window = draw(windows)
    at_once = draw(st.integers(1, 2 * math.floor(window)))
    return LimiterSettings(draw(ratios), draw(counts), window, at_once)


def lag(limiter, settings, base):
    """e as the text of the class has it, by itself."""
    steps = max(0, limiter.steps - settings.learning_starts)
    return settings.fraction * steps - (limiter.updates - base)


@given(
    all_settings(),
    st.integers(0, 20_000),
    st.integers(0, 20_000),
    st.one_of(st.none(), st.integers(0, 20_000)),
    st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=60),
)
def test_never_are_both_sides_blocked(settings, steps, updates, left, moves):
    """From any counts, whoever moves, in segments of any size, rows that are no steps included."""
    limiter = RateLimiter(settings, steps=steps, updates=updates)
    if left is not None:
        limiter.ends_at(steps + left)
    for wants_insert, size in moves:
        can_update = limiter.due() >= settings.updates_at_once
        assert can_update or limiter.may_insert()
        if limiter.may_insert() and (wants_insert or not can_update):
            limiter.inserted(size)
        elif can_update:
            limiter.updated(settings.updates_at_once)


@given(all_settings(), st.lists(st.tuples(st.booleans(), st.integers(1, 100)), max_size=60))
def test_the_ratio_holds_within_the_window(settings, moves):
    limiter = RateLimiter(settings)
    largest = 0
    for wants_insert, size in moves:
        due = limiter.due()
        if wants_insert and limiter.may_insert():
            limiter.inserted(size)
            largest = max(largest, size)
        elif due:
            limiter.updated(min(due, size))
        behind = lag(limiter, settings, 0)
        assert -settings.window <= behind < settings.window + settings.fraction * largest


@given(all_settings(), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_run_ends_with_what_the_ratio_demands(settings, steps, updates):
    limiter = RateLimiter(settings, steps=steps)
    limiter.updated(min(updates, limiter.due()))
    ahead = lag(limiter, settings, 0) < 0
    limiter.finish()
    assert limiter.due() == limiter.owed()
    assert not limiter.may_insert()
    limiter.updated(limiter.due())
    assert limiter.due() == 0
    if steps >= settings.learning_starts and not ahead:
        counted = steps - settings.learning_starts
        assert limiter.updates == math.floor(settings.fraction * counted)


@given(
    all_settings(),
    st.integers(1, 8_000),
    st.lists(st.integers(1, 900), min_size=1, max_size=5),
    st.booleans(),
)
def test_a_whole_run_takes_as_many_updates_whoever_runs_ahead(settings, total, sizes, eager):
    limiter = RateLimiter(settings)
    limiter.ends_at(total)
    for size in itertools.cycle(sizes):
        if eager and limiter.due():
            limiter.updated(limiter.due())
        if limiter.steps >= total:
            break
        if limiter.may_insert():
            limiter.inserted(min(size, total - limiter.steps))
        else:
            limiter.updated(settings.updates_at_once)
    limiter.finish()
    limiter.updated(limiter.due())
    counted = max(0, total - settings.learning_starts)
    assert limiter.updates == math.floor(settings.fraction * counted)


@given(all_settings(), st.integers(0, 10_000), st.integers(0, 10_000))
def test_updates_that_no_rows_account_for_are_waited_for_by_a_window_at_most(
    settings, steps, updates
):
    limiter = RateLimiter(settings, steps=steps, updates=updates)
    ahead = -lag(limiter, settings, 0) - Fraction(settings.window)
    assert limiter.updates == updates
    if ahead > 0:
        assert limiter.due() == 0
        limiter.inserted(settings.learning_starts + math.ceil(1 / settings.fraction))
        assert limiter.due() >= 1
    else:
        limiter.inserted(settings.learning_starts)
        expected = math.floor(lag(limiter, settings, 0) + Fraction(settings.window))
        assert limiter.due() in {expected, expected - 1}  # the window is rounded down


@given(counts, counts)
def test_updates_lost_with_a_process_are_made_good(steps, updates):
    limiter = RateLimiter(LimiterSettings(1.0, 100, 10), steps=steps, updates=updates)
    assert limiter.owed() == (max(0, steps - 100 - updates) if steps >= 100 else 0)


@pytest.mark.parametrize("ratio", [0.29, 0.1, 1 / 3, 0.7])
def test_counts_are_exact(ratio):
    """0.29 x 100 is 28.999999999999996 in floating point, and 29 here."""
    limiter = RateLimiter(LimiterSettings(ratio, 0, 1), steps=300)
    assert limiter.owed() == round(ratio * 300)
    limiter = RateLimiter(LimiterSettings(ratio, 0, 1), steps=3 * 10**12)
    assert limiter.owed() == round(ratio * 3 * 10**12)


def test_nothing_is_due_and_all_is_let_in_while_nothing_can_be_sampled():
    rows = 0
    limiter = RateLimiter(LimiterSettings(1.0, 0, 1), can_sample=lambda: rows > 0)
    limiter.inserted(50)
    assert (limiter.due(), limiter.owed(), limiter.may_insert()) == (0, 0, True)
    rows = 1
    assert (limiter.due(), limiter.owed(), limiter.may_insert()) == (51, 50, False)


def test_what_it_reports():
    limiter = RateLimiter(LimiterSettings(0.5, 10, 4))
    assert limiter.metrics() == {"replay/ratio": 0.0, "replay/lag": 0.0}
    limiter.inserted(30)
    limiter.updated(8)
    assert limiter.metrics() == {"replay/ratio": 0.4, "replay/lag": 2.0}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ((0.0, 0, 1.0), "ratio"),
        ((-1.0, 0, 1.0), "ratio"),
        ((1e-12, 0, 1.0), "ratio"),
        ((math.nan, 0, 1.0), "ratio"),
        ((math.inf, 0, 1.0), "ratio"),
        ((1.0, -1, 1.0), "learning_starts"),
        ((1.0, 0, 0.99), "window"),
        ((1.0, 0, math.nan), "window"),
        ((1.0, 0, math.inf), "window"),
        ((1.0, 0, 3.9, 7), "window"),
        ((1.0, 0, 4.0, 0), "updates_at_once"),
    ],
)
def test_settings_that_could_block_both_sides_are_refused(values, field):
    with pytest.raises(InvalidFieldError) as caught:
        LimiterSettings(*values)
    assert caught.value.field == field


@pytest.mark.parametrize("values", [{"steps": -1}, {"updates": -1}])
def test_counts_below_zero_are_refused(values):
    with pytest.raises(InvalidFieldError, match="below 0"):
        RateLimiter(LimiterSettings(1.0, 0, 1), **values)
