from __future__ import annotations

import datetime as dt
import errno
import json

import numpy as np
import pytest
import yaml

from common.errors import InvalidFieldError
from learner.outcome import Outcome, Status
from learner.run_folder import RunFolder

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
