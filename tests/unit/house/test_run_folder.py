from __future__ import annotations

import datetime as dt
import errno
import json

import numpy as np
import pytest
import yaml

from common import specs
from common.errors import InvalidFieldError, WiseRLError
from common.signature import ColumnKey, ColumnSpec, GraphInput, GraphOutput, Role, Signature
from common.spaces import Box, Discrete
from learner import plots, policy_file, side_plot
from learner.outcome import Outcome, Status
from learner.policy_file import SavedPolicy
from learner.run_folder import RunFolder
from learner.tables import Table
from protos.wiserl.v1 import environment_pb2

AT = dt.datetime(2025, 3, 1, 12, 30, 5, tzinfo=dt.UTC)


def make(root, **changes):
    settings = {"environment": "CartPole-v1", "algorithm": "ppo", "seed": 3, "at": AT} | changes
    return RunFolder.create(root, **settings)


def test_a_run_gets_a_folder_of_its_own(tmp_path):
    paths = [make(tmp_path).path.relative_to(tmp_path).as_posix() for _ in range(3)]
    assert paths == [
        "CartPole-v1/ppo/20250301-123005-s3",
        "CartPole-v1/ppo/20250301-123005-s3-2",
        "CartPole-v1/ppo/20250301-123005-s3-3",
    ]


@pytest.mark.parametrize(
    ("environment", "name"),
    [("ALE/Pong-v5", "ALE-Pong-v5"), ("my.module:make", "my.module-make"), ("../..", "unnamed")],
)
def test_a_name_with_separators_is_one_folder(tmp_path, environment, name):
    assert make(tmp_path, environment=environment).path.parts[-3] == name


def test_where_no_folder_can_be_made_another_is_asked_for(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidFieldError, match=r"no folder can be made in .*file .*--runs"):
        make(tmp_path / "file")


def test_a_discarded_folder_goes_with_those_it_was_alone_in(tmp_path):
    root = tmp_path / "runs"
    first, second = make(root), make(root, algorithm="dqn")
    second.discard(root)
    assert first.path.is_dir()
    assert not (root / "CartPole-v1" / "dqn").exists()
    first.discard(root)
    assert not root.exists()
    assert tmp_path.is_dir()


def test_a_root_that_cannot_go_stays(tmp_path, monkeypatch):
    """Such as a volume's mount: whatever kept the run from beginning is what a person is told."""
    root = tmp_path / "runs"
    folder = make(root)
    remove = type(root).rmdir

    def rmdir(path):
        if path == root:
            raise OSError(errno.EROFS, "Read-only file system")
        remove(path)

    monkeypatch.setattr(type(root), "rmdir", rmdir)
    folder.discard(root)
    assert list(root.iterdir()) == []


def test_settings_are_plain_yaml(tmp_path):
    folder = make(tmp_path)
    folder.write_config({"run": {"path": tmp_path, "sizes": (64, 64), "none": None, "rate": 1e-3}})
    assert yaml.safe_load(folder.config.read_text()) == {
        "run": {"path": str(tmp_path), "sizes": [64, 64], "none": None, "rate": 1e-3}
    }


def test_provenance_says_what_made_the_run(tmp_path):
    folder = make(tmp_path)
    folder.write_provenance(["wiserl", "train", "ppo", "--env", "a b"], started=AT)
    found = json.loads(folder.provenance.read_text())
    assert found["command"] == "wiserl train ppo --env 'a b'"
    assert found["started"] == "2025-03-01T12:30:05+00:00"
    assert found["versions"]["numpy"] == np.__version__
    assert found["machine"]["cores"] >= 1
    assert found["git"] is None or len(found["git"]["commit"]) == 40


def saved_policy():
    space = Box(np.full(4, -np.inf, np.float32), np.full(4, np.inf, np.float32))
    signature = Signature(
        (GraphInput("observation", Role.OBSERVATION, np.dtype(np.float32), (4,)),),
        (GraphOutput("action", Role.ACTION, np.dtype(np.int64)),),
        (ColumnSpec(ColumnKey(Role.VALID), np.dtype(np.bool_)),),
    )
    return SavedPolicy(
        "ppo",
        7,
        1024,
        environment_pb2.EnvironmentReference(
            id="CartPole-v1", arguments=specs.arguments_to_proto({"x": [1, 2.5, "a"]})
        ),
        specs.single_agent(space, Discrete(2), max_episode_steps=500),
        signature,
        {"epsilon": [0.1]},
        b"a model",
    )


def test_a_saved_policy_is_loaded_as_it_was(tmp_path):
    folder, policy = make(tmp_path), saved_policy()
    policy_file.save(folder, policy)
    found = policy_file.load(folder)
    assert (found.algorithm, found.version, found.environment_steps) == ("ppo", 7, 1024)
    assert found.environment == policy.environment
    assert not found.spec.differences(policy.spec)
    assert found.signature.columns == policy.signature.columns
    assert [tensor.name for tensor in found.signature.inputs] == ["observation"]
    assert found.scalars == {"epsilon": [0.1]}
    assert found.model == b"a model"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: folder.policy.unlink(), "holds no policy"),
        (lambda folder: folder.policy_model.unlink(), "holds no policy"),
        (lambda folder: folder.policy_model.write_bytes(b"other"), "is not the model"),
        (lambda folder: folder.policy.write_bytes(b"{"), "does not parse"),
        (
            lambda folder: folder.policy.write_text(
                folder.policy.read_text().replace("ROLE_OBSERVATION", "ROLE_UNKNOWN")
            ),
            "does not describe a policy",
        ),
    ],
)
def test_a_damaged_policy_is_refused_in_words(tmp_path, damage, message):
    folder = make(tmp_path)
    policy_file.save(folder, saved_policy())
    damage(folder)
    with pytest.raises(WiseRLError, match=message):
        policy_file.load(folder)


def test_an_outcome_is_json_even_where_numbers_are_not(tmp_path):
    outcome = Outcome(
        Status.FAILED, tmp_path, 5, 1, 0.5, metrics={"a": float("nan"), "b": 1.0}, error="why"
    )
    found = json.loads(json.dumps(outcome.to_json(), allow_nan=False))
    assert found["metrics"] == {"a": None, "b": 1.0}
    assert (found["status"], found["error"]) == ("failed", "why")


def test_a_run_that_is_finished_owes_farewells_until_its_samplers_know(tmp_path):
    folder = make(tmp_path)
    assert (folder.is_finished, folder.owes_farewells) == (False, False)
    folder.write_result(Outcome(Status.STOPPED, tmp_path, 5, 1, 0.5).to_json())
    assert (folder.is_finished, folder.owes_farewells) == (False, False)
    folder.write_result(Outcome(Status.FINISHED, tmp_path, 5, 1, 0.5).to_json())
    assert (folder.is_finished, folder.owes_farewells) == (True, True)
    folder.note_farewells()
    assert (folder.is_finished, folder.owes_farewells) == (True, False)
    assert json.loads(folder.result.read_text())["environment_steps"] == 5


def test_a_curve_is_drawn_of_what_there_is(tmp_path):
    folder = make(tmp_path)
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
    folder = make(tmp_path)
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
    folder = make(tmp_path)
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
    folder = make(tmp_path)
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
    folder = make(tmp_path)
    with_returns(folder, "speaker_0", "listener_0", worth=0.0)
    assert lines_of(folder) == (False, {})


@pytest.mark.parametrize(
    ("agents", "worth", "drawn"), [(2, 1.0, 2), (9, 1.0, 0), (2, 0.0, 0)], ids=str
)
def test_the_agents_of_one_team_are_thin_lines_where_they_differ(tmp_path, agents, worth, drawn):
    folder = make(tmp_path)
    with_returns(folder, *(f"agent_{i}" for i in range(agents)), worth=worth)
    apart, lines = lines_of(folder)
    assert not apart
    assert len(lines) == drawn
