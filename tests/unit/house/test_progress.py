from __future__ import annotations

import dataclasses
import io
import re

import pytest
from terminal import Terminal

from learner.metrics import Evaluation
from learner.observer import Observer
from wiserl import progress
from wiserl.progress import LiveProgress, PlainProgress, make_progress

METRICS = {
    "rollout/ep_rew_mean": 101.26,
    "rollout/ep_rew_mean_20": 120.04,
    "time/fps": 2000.0,
}
EVALUATION = Evaluation(9, 5000, False, (1, 2), (10.0, 20.0), (5, 6))


def test_a_line_is_written_now_and_then(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = PlainProgress(1_000_000, stream)
    for seconds, steps in ((1, 1000), (progress.LINE_SECONDS, 20_000), (1, 21_000)):
        now[0] += seconds
        shown.trained(steps, 7, METRICS)
    assert stream.getvalue() == (
        "20,000/1,000,000 steps | 2,000 steps/s | last 20: 120.0 | last 100: 101.3 | policy 7 | "
        "8:10 left\n"
    )


def test_before_the_first_episode_there_is_no_return():
    line = " | ".join(progress._described(10, 100, 2, {"time/fps": 5.0}))
    assert line == "10/100 steps | 5 steps/s | policy 2 | 0:18 left"


def test_several_teams_are_told_apart_and_the_agents_of_one_are_not():
    def shown(**means):
        metrics = {f"rollout/ep_rew_mean/{name}": mean for name, mean in means.items()}
        return progress._described(10, 100, 2, metrics)[1:-1]

    assert shown(hunter_0=1.0, hunter_1=3.0, prey_0=-5.0, hunter=2.0) == [
        "hunter: 2.0",
        "prey_0: -5.0",
    ]
    assert shown(agent_0=1.0, agent_1=3.0) == []
    assert shown(speaker_0=-5.0, listener_0=-5.0) == []


def test_where_policies_lag_it_is_said_how_far():
    line = " | ".join(progress._described(10, 100, 2, {"learner/policy_lag": 1.25}))
    assert line == "10/100 steps | policy 2, lag 1.2"


def test_evaluations_are_written_at_once():
    stream = io.StringIO()
    PlainProgress(10, stream).evaluated(EVALUATION)
    assert stream.getvalue() == (
        "policy 9 after 5,000 steps: return 15.00 +- 5.00 over 2 greedy episodes "
        "(min 10.00, max 20.00)\n"
    )


def test_the_final_evaluation_is_left_to_the_last_words():
    stream = io.StringIO()
    PlainProgress(10, stream).evaluated(dataclasses.replace(EVALUATION, final=True))
    assert not stream.getvalue()


def test_on_a_terminal_there_is_a_bar():
    stream = Terminal()
    shown = LiveProgress(1000, stream)
    shown.began(1)
    shown.trained(500, 3, METRICS)
    shown.evaluated(EVALUATION)
    shown.close()
    assert "policy 9 after 5,000 steps" in stream.getvalue()
    assert "500/1,000 steps" in stream.getvalue()


def test_on_a_narrow_terminal_nothing_is_cut_off(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    shown = LiveProgress(1000, stream)
    shown.trained(500, 3, METRICS)
    shown.close()
    drawn = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", stream.getvalue()).split())
    assert " 50% " in drawn
    assert "last 100: 101.3" in drawn
    assert "0:00 left" in drawn
    assert "…" not in drawn


@pytest.mark.parametrize(
    ("quiet", "stream", "expected"),
    [
        (False, io.StringIO(), PlainProgress),
        (False, Terminal(), LiveProgress),
        (True, Terminal(), Observer),
    ],
)
def test_what_is_shown_fits_where_it_is_shown(quiet, stream, expected):
    shown = make_progress(10, quiet=quiet, stream=stream)
    assert type(shown) is expected
    shown.close()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (7265, "2:01:05")]
)
def test_time_is_shown_as_on_a_clock(seconds, text):
    assert progress._clock(seconds) == text
