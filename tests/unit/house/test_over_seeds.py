from __future__ import annotations

import math
from pathlib import Path

import pytest

from common.errors import InvalidFieldError, WiseRLError
from learner.config import RunConfig
from learner.metrics import Evaluation
from learner.observer import Observer
from learner.outcome import Outcome, Status
from wiserl import over_seeds
from wiserl.order import Order
from wiserl.over_seeds import Ending, Score


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (3,)), ("0-4", (0, 1, 2, 3, 4)), ("0, 3,7-8", (0, 3, 7, 8)), ("5-5", (5,))],
)
def test_seeds_are_numbers_and_ranges(text, seeds):
    assert over_seeds.parse(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "4-0", "-1", "1,", "0-2-4", "1.5"])
def test_what_is_no_list_of_seeds_is_refused(text):
    with pytest.raises(InvalidFieldError, match=r"is no list such as 0-4 or 0,3,7"):
        over_seeds.parse(text)


def test_a_seed_is_not_named_twice():
    with pytest.raises(InvalidFieldError, match="'0-3,2' names a seed twice"):
        over_seeds.parse("0-3,2")


def outcome(seed, *returns, status=Status.FINISHED, **more):
    lengths = tuple(range(len(returns)))
    final = Evaluation(3, 100, True, lengths, returns, lengths) if returns else None
    folder = Path(f"runs/e/a/2026-s{seed}")
    return Outcome(status, folder, 100, 3, 2.0, final=final, **more)


def train_each(seeds, launch, said=None):
    closed = []

    class Closed(Observer):
        def close(self):
            closed.append(1)

    def order(seed):
        return Order("ppo", RunConfig(seed=seed), lambda _: None, observer=Closed())

    endings = over_seeds.train_each(seeds, order, launch, (said if said is not None else []).append)
    assert len(closed) == len(endings)
    return endings


def test_a_seed_that_fails_does_not_stop_those_after_it():
    def launch(order):
        seed = order.run.seed
        if seed == 1:
            raise WiseRLError("the wheel came off")
        if seed == 2:
            # Training tells how it ended before the exception comes out.
            order.observer.ended(outcome(seed, status=Status.FAILED, error="ValueError: x"))
            raise ValueError("x")
        if seed == 3:
            return outcome(seed, status=Status.FAILED, error="every sampler was given up")
        return outcome(seed, 4.0, 8.0)

    said = []
    endings = train_each(range(5), launch, said)
    assert [each.error for each in endings] == [
        None,
        "the wheel came off",
        "ValueError: x",
        "every sampler was given up",
        None,
    ]
    assert [each.folder is None for each in endings] == [False, True, False, False, False]
    assert [each.is_finished for each in endings] == [True, False, False, False, True]
    assert said[:4] == [
        "seed 0 (1 of 5)",
        "return 6.00",
        "seed 1 (2 of 5)",
        f"failed: {endings[1].error}",
    ]
    assert over_seeds.exit_code(endings) == 1
    assert Score.over(endings).seeds == 2
    assert endings[1].to_json() == {
        "seed": 1,
        "folder": None,
        "score": None,
        "status": "failed",
        "error": "the wheel came off",
    }


def test_a_setting_that_cannot_be_ends_all_at_once():
    def launch(order):
        raise InvalidFieldError("env", "is missing")

    with pytest.raises(InvalidFieldError):
        train_each([0, 1], launch)


def test_a_signal_stops_the_seeds_after_it():
    def launch(order):
        return outcome(order.run.seed, 1.0, status=Status.STOPPED, signal=2)

    endings = train_each([0, 1], launch)
    assert len(endings) == 1
    assert over_seeds.exit_code(endings) == 130
    assert Score.over(endings) is None
    assert endings[0].described() == "stopped after 100 steps"


def test_the_score_is_over_the_seeds_that_finished():
    endings = [Ending(seed, outcome(seed, float(seed))) for seed in range(5)]
    score = Score.over(endings)
    assert (score.seeds, score.mean) == (5, 2.0)
    assert score.iqm == 2.0  # of 1, 2 and 3
    assert 0 <= score.low < 2 < score.high <= 4


@pytest.mark.parametrize(
    ("metrics", "score"),
    [({"rollout/ep_rew_mean": 7.0}, 7.0), ({}, None), ({"rollout/ep_rew_mean": math.nan}, None)],
)
def test_without_a_final_evaluation_the_last_episodes_count(metrics, score):
    assert Ending(0, outcome(0, metrics=metrics)).score == score


def test_the_table_has_a_line_for_each_seed_and_the_numbers_over_all():
    endings = [
        Ending(0, outcome(0, 1.0, 3.0)),
        Ending(1, None, "no such environment"),
        Ending(2, outcome(2, metrics={"rollout/ep_rew_mean": 4.0})),
        Ending(3, outcome(3, 9.0, status=Status.FAILED), "lost"),
    ]
    assert over_seeds.table(endings, Score.over(endings)) == [
        "  seed      return       std         steps   seconds  run folder",
        "     0        2.00      1.00           100       2.0  runs/e/a/2026-s0",
        "     1  failed: no such environment",
        "     2        4.00         -           100       2.0  runs/e/a/2026-s2",
        "     3        9.00      0.00           100       2.0  runs/e/a/2026-s3  (failed: lost)",
        "  mean        3.00",
        "   IQM        3.00  95 % interval 2.00 to 4.00, 2 of 4 seeds",
    ]
