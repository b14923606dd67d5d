from __future__ import annotations

import math

import pytest

from wiserl.bench import statistics


def test_a_quarter_is_cut_from_either_end():
    assert statistics.interquartile_mean([0, 10, 20, 1000]) == 15
    assert statistics.interquartile_mean([500, 500, 500, 9, 500]) == 500
    assert statistics.interquartile_mean([7]) == 7


def test_no_scores_have_no_mean():
    with pytest.raises(ValueError, match="at least one seed"):
        statistics.interquartile_mean([])


def test_the_interval_holds_the_mean_and_is_the_same_every_time():
    scores = [480, 500, 495, 470, 500, 460, 499, 500]
    low, high = statistics.interval(scores)
    assert min(scores) <= low < statistics.interquartile_mean(scores) < high <= max(scores)
    assert statistics.interval(scores) == (low, high)


def test_equal_scores_have_no_spread():
    assert statistics.interval([500] * 5) == (500, 500)
    assert statistics.interval([3.5]) == (3.5, 3.5)
    assert not math.isnan(statistics.interval([1, 2])[0])


def test_a_difference_is_drawn_from_either_side_by_itself():
    assert statistics.difference_interval([5, 5], [3]) == (2, 2)
    low, high = statistics.difference_interval([1, 2, 3], [1, 2, 3])
    assert low < 0 < high
    assert statistics.difference_interval([1, 2], [0, 9]) == statistics.difference_interval(
        [1, 2], [0, 9]
    )
