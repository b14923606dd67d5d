from __future__ import annotations

import importlib.metadata
import json
import os
import socket

import pytest

from wiserl import cli, doctor, doctor_learner, places
from wiserl.doctor import Level
from wiserl.flags import ServeFlags


def test_a_container_with_less_time_than_cores_is_told_so(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("common.machine.cpu_quota", lambda: 1.5)
    (found,) = [one for one in doctor.cores() if one.subject == "cores"]
    assert found.level == Level.WARN
    assert "time of 1.5" in found.said


@pytest.fixture
def installed(monkeypatch):
    """What is installed, and what each extra asks for."""
    versions = {"wiserl": "1.0", "core": "2.0", "roller": "1.5"}

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    wants = ["core>=2", 'roller>=1; extra == "sampler"', 'trainer>=3; extra == "learner"']
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: wants)
    return versions


def levels(findings):
    return {finding.subject: finding.level for finding in findings}


def test_a_missing_extra_is_no_failure(installed):
    found = {finding.subject: finding for finding in doctor.packages()}
    assert levels(found.values()) == {
        "wiserl": Level.OK,
        "packages": Level.OK,
        "extra sampler": Level.OK,
        "extra learner": Level.WARN,
    }
    assert found["extra learner"].remedy == "to train: pip install 'wiserl[learner]'"


@pytest.mark.parametrize(
    ("package", "version", "subject"),
    [("core", None, "packages"), ("core", "1.9", "packages"), ("roller", "0.9", "extra sampler")],
)
def test_what_is_missing_or_too_old_is_a_failure(installed, package, version, subject):
    installed[package] = version
    if version is None:
        del installed[package]
    found = {finding.subject: finding for finding in doctor.packages()}
    assert found[subject].level == Level.FAIL
    assert package in found[subject].said


def test_what_is_installed_here_is_enough():
    assert Level.FAIL not in levels(doctor.packages()).values()


def test_a_taken_port_is_noticed(monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        monkeypatch.setattr(doctor, "ServeFlags", lambda: ServeFlags(port=port))
        (found,) = doctor.ports()
    assert found.level == Level.WARN
    assert f"wiserl doctor 127.0.0.1:{port}" in found.remedy


def test_folders_are_those_that_will_be_written_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(places.CACHE_VARIABLE, str(tmp_path / "cache"))
    found = {finding.subject: finding.said for finding in doctor.files()}
    assert found["runs"].startswith(str(tmp_path / "runs"))
    assert found["graph cache"].startswith(str(tmp_path / "cache" / "graphs"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert levels(doctor.files())["runs"] == Level.FAIL
    assert list(tmp_path.iterdir()) == []


def test_a_forbidden_memfd_is_a_failure(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert levels(doctor.memory())["shared memory"] == Level.FAIL


def test_variables_that_change_runs_are_shown(monkeypatch):
    monkeypatch.setenv("WISERL_TOTAL_STEPS", "7")
    (found,) = doctor.variables()
    assert "WISERL_TOTAL_STEPS=7" in found.said


def test_a_closed_port_says_how_to_start_a_learner():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        (found,) = doctor_learner.examine(f"127.0.0.1:{reserved.getsockname()[1]}")
    assert found.level == Level.FAIL
    assert "Connection refused" in found.said
    assert found.remedy == "start one: wiserl learner ALGORITHM --env ID"


def test_a_proxy_in_the_way_is_noticed(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert list(doctor_learner._proxies("127.0.0.1:5555")) == []
    (found,) = doctor_learner._proxies("learner.example:5555")
    assert "no_proxy=learner.example" in found.remedy


@pytest.fixture
def ailing(monkeypatch):
    findings = [doctor.ok("one", "fine"), doctor.fail("two", "broken", "mend it")]
    monkeypatch.setattr(doctor, "examine_machine", lambda: iter(findings))


def test_the_verb_fails_where_a_finding_does(ailing, capsys):
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok   one            fine",
        "fail two            broken",
        "                    -> mend it",
        "1 failed, 0 to look at",
    ]


def test_the_verb_speaks_json(ailing, capsys):
    assert cli.main(["doctor", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said[1] == {"subject": "two", "level": "fail", "said": "broken", "remedy": "mend it"}
