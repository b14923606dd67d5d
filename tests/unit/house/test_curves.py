from __future__ import annotations

import numpy as np
import pytest
import yaml

from common.errors import InvalidFieldError, WiseRLError
from learner import curves, group_plot
from learner.curves import Curve
from wiserl import cli


def run_folder(
    path, *, seed=0, env="CartPole-v1", algorithm="ppo", rows=((10, 1.0), (20, 2.0)), **own
):
    path.mkdir(parents=True, exist_ok=True)
    run = {"env": env, "seed": seed, "eval_points": seed}
    document = {"algorithm": algorithm, "run": run, "hyperparameters": own}
    (path / "config.yaml").write_text(yaml.safe_dump(document))
    lines = [f"{i},{step},{value},{step / 10}" for i, (step, value) in enumerate(rows)]
    header = "version,global_step,rollout/ep_rew_mean,time/time_elapsed"
    (path / "metrics.csv").write_text("\n".join([header, *lines, ""]))
    names = ("mean", "std", "min", "max")
    header = ["version,global_step,final,episodes", *(f"eval/{name}_reward" for name in names)]
    (path / "evaluations.csv").write_text(
        f"{','.join(header)}\n1,0,0,3,5.0,1,4,6\n2,15,1,3,7.0,1,6,8\n"
    )
    return path


def test_runs_are_found_below_a_folder_but_not_within_a_run(tmp_path):
    run_folder(tmp_path / "a" / "ppo" / "s0")
    run_folder(tmp_path / "a" / "ppo" / "s1")
    run_folder(tmp_path / "a" / "ppo" / "s1" / "wandb" / "files")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.yaml").write_text("something: else")
    found = curves.find(tmp_path)
    assert [run.folder.path.name for run in found] == ["s0", "s1"]
    assert [run.folder.path.name for run in curves.find(tmp_path / "a" / "ppo" / "s1")] == ["s1"]
    assert curves.find(tmp_path / "b") == []
    assert curves.find(tmp_path / "b" / "config.yaml") == []


def test_settings_that_are_not_a_runs_are_refused_by_their_path(tmp_path):
    path = run_folder(tmp_path / "s0")
    (path / "config.yaml").write_text("algorithm: ppo")
    with pytest.raises(WiseRLError, match=r"s0/config\.yaml is not a run's: KeyError: 'run'"):
        curves.find(tmp_path)


def grouped(groups):
    return [(group.environment, group.name, len(group.runs)) for group in groups]


def test_groups_are_by_environment_algorithm_label_and_settings(tmp_path):
    for seed in range(3):
        run_folder(tmp_path / "x" / f"s{seed}", seed=seed, rate=0.1 * (seed % 2))
    run_folder(tmp_path / "y" / "s0", env="Acrobot-v1")
    run_folder(tmp_path / "z" / "s0", algorithm="dqn")
    plain = curves.find(tmp_path)
    assert grouped(curves.group([*plain, *plain])) == [
        ("Acrobot-v1", "ppo", 1),
        ("CartPole-v1", "dqn", 1),
        ("CartPole-v1", "ppo", 3),
    ]
    assert grouped(curves.group(curves.find(tmp_path / "x"), ["rate"])) == [
        ("CartPole-v1", "ppo, rate=0.0", 2),
        ("CartPole-v1", "ppo, rate=0.1", 1),
    ]
    labelled = [*curves.find(tmp_path / "x", "old"), *curves.find(tmp_path / "z", "new")]
    assert {group.name for group in curves.group(labelled)} == {"old", "new"}
    assert {group.name for group in curves.group(curves.find(tmp_path, "all"))} == {
        "all, ppo",
        "all, dqn",
    }
    with pytest.raises(InvalidFieldError, match="no setting rat; did you mean rate"):
        curves.group(plain, ["rat"])


def test_a_group_says_in_what_its_runs_differ_but_for_seeds(tmp_path):
    for seed in range(2):
        run_folder(tmp_path / f"s{seed}", seed=seed, rate=seed, same=1)
    (group,) = curves.group(curves.find(tmp_path))
    assert group.differences() == ["rate"]


def test_a_curve_is_a_column_without_its_empty_cells(tmp_path):
    run_folder(tmp_path, rows=((10, ""), (20, "nan"), (30, 3.0), (40, 4.0)))
    (run,) = curves.find(tmp_path)
    found = curves.curve(run)
    assert (found.x.tolist(), found.y.tolist()) == ([30.0, 40.0], [3.0, 4.0])
    assert curves.curve(run, against="time").x.tolist() == [3.0, 4.0]
    assert curves.curve(run, "train/loss") is None
    assert curves.curve(run, "eval/mean_reward").x.tolist() == [0.0, 15.0]
    # Step 15 is halfway between the rows of 1 s and 2 s; nothing is known of before the first row.
    assert curves.curve(run, "eval/mean_reward", "time").x.tolist() == [0.0, 1.5]


def test_a_run_without_a_value_yet_has_no_curve(tmp_path):
    run_folder(tmp_path, rows=((10, ""),))
    (run,) = curves.find(tmp_path)
    assert curves.curve(run) is None


def points(x, y):
    return Curve(np.array(x, np.float64), np.array(y, np.float64))


def test_the_mean_is_where_all_curves_are():
    mean = curves.mean([points([0, 10, 20], [0, 10, 20]), points([5, 15], [1, 1])])
    assert (mean.x[0], mean.x[-1]) == (5.0, 15.0)
    np.testing.assert_allclose(mean.y, (mean.x + 1) / 2)


def test_the_interval_lies_around_the_mean_and_within_the_curves():
    ys = np.random.default_rng(3).normal(size=(8, 2)) * 5
    mean = curves.mean([points([0, 1], y) for y in ys])
    assert (mean.low <= mean.y).all()
    assert (mean.y <= mean.high).all()
    at_zero = ys[:, 0]
    # The bootstrap's standard error of a mean is std / sqrt(n); 95 % is 1.96 of them either side.
    width = 2 * 1.96 * at_zero.std() / np.sqrt(8)
    assert (mean.high[0] - mean.low[0]) == pytest.approx(width, rel=0.1)
    assert ys[:, 0].min() <= mean.low[0]


def test_a_single_curve_is_its_own_mean_and_apart_there_is_none():
    one = points([0, 3, 4], [1, 2, 0])
    mean = curves.mean([one])
    assert mean.y.tolist() == mean.low.tolist() == mean.high.tolist() == [1.0, 2.0, 0.0]
    assert curves.mean([one, points([5, 6], [0, 0])]) is None


@pytest.mark.parametrize(
    ("seconds", "scale"),
    [(599.0, (1.0, "seconds")), (600.0, (60.0, "minutes")), (14_400.0, (3600.0, "hours"))],
)
def test_time_is_shown_in_a_unit_that_fits(seconds, scale):
    divisor, unit = group_plot._scale(seconds)
    assert (divisor, unit.split()[0]) == scale


def test_the_command_draws_one_run_several_and_with_labels(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        run_folder(tmp_path / "runs" / f"s{seed}", seed=seed, rate=1 + seed // 2)
    assert cli.main(["plot", "runs/s0"]) == 0
    assert cli.main(["plot"]) == 0
    assert cli.main(["plot", "runs/s0", "runs/s1", "--label", "a", "--label", "b"]) == 0
    assert cli.main(["plot", "runs", "--by", "rate", "--x", "time", "--output", "p.svg"]) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == ["runs/s0/curve.png", "runs/curves.png", "curves.png", "p.svg"]
    assert printed.err == (
        "wiserl: ppo on CartPole-v1 is the mean of runs that differ in rate; tell them apart with "
        "--by rate\n"
    )
    assert "rate=2" in (tmp_path / "p.svg").read_text()
    for name in ("runs/s0/curve.png", "runs/curves.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_panels_that_stay_empty_and_runs_without_values_are_no_error(tmp_path):
    for i in range(4):
        run_folder(tmp_path / str(i), env=f"Env{i}-v0", rows=() if i == 1 else ((1, 2.0),))
    path = group_plot.draw(curves.group(curves.find(tmp_path)), tmp_path / "p.png")
    assert path.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no run in nowhere"),
        (["runs", "--metric", "rollout/ep_rew"], "did you mean rollout/ep_rew_mean"),
        (["runs", "--label", "a", "--label", "b"], "2 given for 1 folders"),
        (["empty"], "no run has a value of rollout/ep_rew_mean yet"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_words(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    run_folder(tmp_path / "runs" / "s0")
    for name in ("s0", "s1"):
        run_folder(tmp_path / "empty" / name, rows=())
    assert cli.main(["plot", *arguments]) in {1, 2}
    assert message in capsys.readouterr().err
