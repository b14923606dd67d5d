import socket

import pytest

from common.errors import InvalidFieldError
from sampler.options import SamplerOptions, from_environment, parse


def test_flags():
    arguments = (
        "--learner learner:5555 --workers 2 --envs-per-worker 4 --vectorization native --name box "
        "--allow-module a --allow-module b.c --step-timeout-seconds 5 --connect-timeout-seconds 0"
    )
    assert parse(arguments.split()) == SamplerOptions(
        learner="learner:5555",
        workers=2,
        envs_per_worker=4,
        vectorization="native",
        name="box",
        allow_module=("a", "b.c"),
        step_timeout_seconds=5.0,
        connect_timeout_seconds=0.0,
    )


def test_a_flag_wins_over_its_variable(monkeypatch):
    monkeypatch.setenv("WISERL_WORKERS", "7")
    monkeypatch.setenv("WISERL_ENVS_PER_WORKER", "3")
    monkeypatch.setenv("WISERL_ALLOW_MODULE", "a,b")
    options = parse(["--workers", "2"])
    assert (options.workers, options.envs_per_worker) == (2, 3)
    assert options.allow_module == ("a", "b")
    assert from_environment().workers == 7


def test_the_name_is_the_host_unless_said():
    assert SamplerOptions().name == socket.gethostname()


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"learner": "learner"}, "address: 'learner' is no HOST:PORT"),
        ({"workers": 0}, "workers: 0 is below 1"),
        ({"envs_per_worker": -1}, "envs_per_worker: -1 is below 1"),
        ({"step_timeout_seconds": 0.0}, "step_timeout_seconds: is not above 0"),
        ({"step_timeout_seconds": float("nan")}, "step_timeout_seconds: is not above 0"),
        ({"connect_timeout_seconds": -1.0}, "connect_timeout_seconds: is below 0"),
        ({"name": ""}, "name: has 0 characters"),
    ],
)
def test_values_that_cannot_be(values, complaint):
    with pytest.raises(InvalidFieldError, match=complaint):
        SamplerOptions(**values)
