"""The picture of a run: its curve, its lag, its sides."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import WiseRLError
from learner import plots, side_plot
from learner.run_folder import RunFolder
from learner.tables import Table


def test_a_curve_is_drawn_of_what_there_is(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(WiseRLError, match="is no run folder"):
        plots.draw(folder)
    folder.write_config({"algorithm": "ppo", "run": {"env": "CartPole-v1", "seed": 3}})
    assert plots.draw(folder) == folder.curve
    empty = folder.curve.read_bytes()
    assert empty.startswith(b"\x89PNG")
    table = Table(folder.episodes, ("global_step", "return", "length"))
    table.append(*({"global_step": i, "return": float(i % 50), "length": 1} for i in range(20_000)))
    plots.draw(folder)
    assert folder.curve.read_bytes() != empty
    assert plots.draw(folder, tmp_path / "curve.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("lags", "drawn"),
    [([None, 1.5, 2.0], True), ([0.0, None, 0.0], True), ([None, None, None], False)],
)
def test_the_lag_is_drawn_below_where_there_is_one(tmp_path, lags, drawn):
    folder = RunFolder(tmp_path)
    folder.write_config({"algorithm": "appo", "run": {"env": "CartPole-v1", "seed": 3}})
    table = Table(folder.metrics, ("global_step",))
    for step, lag in enumerate(lags):
        table.append(
            {"global_step": step, "learner/policy_lag": lag, "learner/policy_lag_max": lag}
        )
    picture = plots.draw(folder, tmp_path / "curve.svg").read_text()
    # Each text of a picture stands in it as a comment too.
    assert ("mean lag of experience" in picture) is drawn


def test_evaluations_whose_returns_are_equal_are_drawn(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_config({"algorithm": "ppo", "run": {"env": "CartPole-v1", "seed": 3}})
    mean = float(np.mean([0.1] * 3))
    assert mean > 0.1, "or this test shows nothing"
    names = [f"eval/{name}_reward" for name in ("mean", "std", "min", "max")]
    table = Table(folder.evaluations, ("global_step", *names))
    table.append(dict(zip(("global_step", *names), (10, mean, 1e-17, 0.1, 0.1), strict=True)))
    assert plots.draw(folder).exists()


def test_a_running_mean_is_over_the_last_values():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert side_plot.running_mean(values, 2).tolist() == [1.0, 1.5, 2.5, 3.5]


def lines_of(folder):
    axes = plots.figure((4, 3)).add_subplot()
    return side_plot.draw(axes, folder), {line.get_label(): line for line in axes.lines}


def with_returns(folder, *agents, worth=1.0):
    table = Table(folder.episodes, ("global_step", "return", "length"))
    table.append(
        *(
            {"global_step": i, "return": 0.0, "length": 1}
            | {f"return/{agent}": float(i * (1 + worth * n)) for n, agent in enumerate(agents)}
            for i in range(4)
        )
    )


def test_several_teams_have_a_curve_each(tmp_path):
    folder = RunFolder(tmp_path)
    assert lines_of(folder) == (False, {})
    with_returns(folder, "hunter_0", "hunter_1", "prey_0")
    evaluations = Table(folder.evaluations, ("global_step", "eval/mean_reward/hunter"))
    evaluations.append({"global_step": 3, "eval/mean_reward/hunter": 2.5})
    apart, lines = lines_of(folder)
    assert apart
    assert set(lines) == {
        "hunter: mean of the last 100",
        "hunter: greedy evaluation",
        "prey_0: mean of the last 100",
    }
    assert lines["hunter: mean of the last 100"].get_ydata().tolist() == [0, 0.75, 1.5, 2.25]
    assert lines["prey_0: mean of the last 100"].get_ydata()[-1] == 4.5
    assert lines["hunter: greedy evaluation"].get_ydata().tolist() == [2.5]


def test_teams_of_one_reward_are_no_several(tmp_path):
    folder = RunFolder(tmp_path)
    with_returns(folder, "speaker_0", "listener_0", worth=0.0)
    assert lines_of(folder) == (False, {})


@pytest.mark.parametrize(
    ("agents", "worth", "drawn"), [(2, 1.0, 2), (9, 1.0, 0), (2, 0.0, 0)], ids=str
)
def test_the_agents_of_one_team_are_thin_lines_where_they_differ(tmp_path, agents, worth, drawn):
    folder = RunFolder(tmp_path)
    with_returns(folder, *(f"agent_{i}" for i in range(agents)), worth=worth)
    apart, lines = lines_of(folder)
    assert not apart
    assert len(lines) == drawn
