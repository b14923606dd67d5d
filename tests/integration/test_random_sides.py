"""A trained side against a random other one, in both directions, beside what chance returns."""

from __future__ import annotations

import json

import imageio_ffmpeg
import numpy as np
import pytest
from one_process import ONE_PROCESS

import wiserl
from learner.run_folder import RunFolder
from wiserl import cli
from wiserl.evaluate import evaluate

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, own_graph_cache):
    """A run in which two agents raced each other."""
    outcome = wiserl.train(
        "ippo",
        env="matrix_games:Race",
        runs=tmp_path_factory.mktemp("runs"),
        total_steps=8_000,
        n_envs=8,
        n_steps=50,
        learning_rate=3e-3,
        hidden_sizes=(32,),
        policies="per_agent",
        **ONE_PROCESS,
    )
    return outcome.folder


@pytest.mark.parametrize(("drawing", "other"), [("agent", "adversary_0"), ("adversary", "agent_0")])
def test_a_trained_side_beats_a_random_one_in_both_directions(trained, drawing, other):
    found = evaluate(
        RunFolder(trained), episodes=50, random_agents=[drawing], allowed_modules=["matrix_games"]
    )
    # It names every one of 5 numbers, the other one in three of them: 5 (1 - 1 / 3) on the mean,
    # whose standard error is 0.15.
    assert abs(np.mean(found.agent_returns[other]) - 10 / 3) < 0.8
    assert found.returns == (0.0,) * 50


def test_the_command_says_what_chance_returns_beside_it(trained, capsys):
    command = ["eval", str(trained), "--allow-module", "matrix_games", "--episodes", "40"]
    assert cli.main([*command, "--random", "agent"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1][:1] == ["return"]
    name, policy, chance, difference, low, _ = lines[2]
    assert (name, lines[3][:2]) == ("adversary_0", ["agent_0", "(random)"])
    assert float(difference) == pytest.approx(float(policy) - float(chance), abs=0.011)
    assert float(low.strip("[,")) > 0, "the interval excludes chance"
    assert abs(float(chance)) < 1.5

    assert cli.main([*command, "--random", "agent", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["random"] == ["agent"]
    assert said["all_random"]["seeds"] == said["seeds"]
    assert np.mean(said["agent_returns"]["adversary_0"]) == pytest.approx(float(policy), abs=0.01)

    assert cli.main([*command, "--json"]) == 0
    assert "all_random" not in json.loads(capsys.readouterr().out)


def test_an_agent_that_there_is_not_is_refused(trained, capsys):
    assert cli.main(["eval", str(trained), "--random", "prey"]) == 2
    assert "'prey' is no agent (adversary_0, agent_0) and no team" in capsys.readouterr().err


@pytest.fixture(scope="module")
def chase(tmp_path_factory, own_graph_cache):
    """A run of simple_tag too short to learn anything."""
    outcome = wiserl.train(
        "maddpg",
        env="mpe2/simple_tag_v3",
        runs=tmp_path_factory.mktemp("runs"),
        total_steps=300,
        learning_starts=100,
        batch_size=32,
        buffer_size=2_000,
        **ONE_PROCESS,
    )
    return outcome.folder


@pytest.mark.parametrize("drawing", ["agent", "adversary"])
def test_the_sides_of_tag_are_told_apart(chase, drawing, capsys):
    assert cli.main(["eval", str(chase), "--random", drawing, "--episodes", "4"]) == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line for line in text.splitlines()[2:]}
    assert rows.keys() == {"adversary_0", "adversary_1", "adversary_2", "agent_0", "adversary"}
    assert "(random)" in rows["agent_0" if drawing == "agent" else "adversary"]
    assert "(random)" not in rows["adversary" if drawing == "agent" else "agent_0"]


def test_tag_is_filmed_without_a_display(chase, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    filming = ["--video-folder", str(tmp_path), "--video-episodes", "1", "--random", "adversary"]
    assert cli.main(["eval", str(chase), "--episodes", "2", *filming]) == 0
    (film,) = tmp_path.iterdir()
    assert "-random-adversary_0-random-adversary_1" in film.name
    assert f"{film}: return " in capsys.readouterr().out
    reader = imageio_ffmpeg.read_frames(str(film))
    about = next(reader)
    width, height = about["size"]
    frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    # Of the reset and of each of 25 steps; agents are drawn on white, and move.
    assert len(frames) == 26
    assert 0.5 < (frames[0] > 200).all(2).mean() < 0.99
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 100
