from __future__ import annotations

import contextlib
import threading

import pytest

from common.errors import InvalidFieldError
from sampler.exits import ExitCode
from wiserl import local
from wiserl.local import RESTARTS, LocalConfig, LocalSamplers


class FakeProcess:
    """A child that ends when it is told to, or with the exit codes of its number."""

    def __init__(self, codes):
        self._ended = threading.Event()
        self._code = None
        if codes:
            self._end(codes.pop(0))

    def _end(self, code):
        self._code = code
        self._ended.set()

    def wait(self, timeout=None):
        assert self._ended.wait(timeout or 30)
        return self._code

    def poll(self):
        return self._code

    def terminate(self):
        self._end(143)


class Fixture:
    """Samplers whose processes end with given codes, number by number."""

    def __init__(self, tmp_path, monkeypatch, codes):
        self.commands = []
        self.failed = threading.Event()
        numbers = {f"local-{number}": list(entries) for number, entries in enumerate(codes)}

        def start(command, **_):
            self.commands.append(command)
            return FakeProcess(numbers[command[command.index("--name") + 1]])

        monkeypatch.setattr(local.subprocess, "Popen", start)
        self.samplers = LocalSamplers(
            "127.0.0.1:5",
            log=lambda number: tmp_path / f"{number}.log",
            modules=("mine",),
            on_failure=self.failed.set,
        )
        self.samplers.start(LocalConfig(samplers=len(codes), workers=2, envs_per_worker=3))

    def restarts(self, expected):
        """Waits until the watchers are through with the codes."""
        with contextlib.suppress(AssertionError):
            for watcher in self.samplers._watchers:
                watcher.join(30)
        assert len(self.commands) == expected


@pytest.fixture
def started(tmp_path, monkeypatch):
    fixtures = []

    def start(*codes):
        fixtures.append(Fixture(tmp_path, monkeypatch, codes))
        return fixtures[-1]

    yield start
    for fixture in fixtures:
        fixture.samplers.stop()


def test_a_sampler_is_told_everything(started):
    (command,) = started([0]).commands
    assert command[1:3] == ["-m", "wiserl.child"]
    assert command[4:] == [
        *("--learner", "127.0.0.1:5", "--name", "local-0", "--workers", "2"),
        *("--envs-per-worker", "3", "--allow-module", "mine"),
    ]


def test_a_sampler_whose_run_is_over_is_not_started_again(started):
    fixture = started([ExitCode.FINISHED], [ExitCode.FINISHED])
    fixture.restarts(2)
    assert fixture.samplers.failure is None
    assert not fixture.failed.is_set()


def test_a_sampler_that_crashed_is_started_again(started):
    fixture = started([-9, 1, ExitCode.UNREACHABLE, ExitCode.FINISHED])
    fixture.restarts(4)
    assert fixture.samplers.failure is None


def test_a_sampler_that_crashes_too_often_is_given_up(started):
    fixture = started([1] * (RESTARTS + 5))
    assert fixture.failed.wait(30)
    fixture.restarts(RESTARTS + 1)
    assert "sampler 0 stopped with exit code 1: it wrote nothing" in fixture.samplers.failure


def test_a_sampler_that_would_fail_again_is_given_up_with_its_last_words(started, tmp_path):
    (tmp_path / "0.log").write_text('{"event": "x"}\n{"reason": "no such environment"}\n')
    fixture = started([ExitCode.ENVIRONMENT])
    assert fixture.failed.wait(30)
    fixture.restarts(1)
    assert fixture.samplers.failure == (
        f"sampler 0 stopped with exit code 5: no such environment (see {tmp_path / '0.log'})"
    )


def test_the_run_goes_on_while_any_sampler_is_left(started):
    fixture = started([ExitCode.ENVIRONMENT], [])
    fixture.samplers._watchers[0].join(30)
    assert fixture.samplers.failure is None
    assert not fixture.failed.is_set()


def test_stopping_ends_all_and_starts_none(started):
    fixture = started([], [])
    fixture.samplers.stop()
    fixture.restarts(2)
    assert fixture.samplers.failure is None
    fixture.samplers.stop()


@pytest.mark.parametrize("name", ["samplers", "workers", "envs_per_worker"])
def test_a_negative_number_is_refused(name):
    with pytest.raises(InvalidFieldError, match=name):
        LocalConfig(**{name: -1})
