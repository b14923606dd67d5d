"""A whole run as the page on security describes it: real processes, TLS, tokens, a restart."""

import json
import signal
import subprocess
import sys
import urllib.request

import credential_flags
import processes
import pytest
from credential_flags import of_client
from processes import SMALL_ROUNDS, process, until, wiserl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def credentials(tmp_path):
    return credential_flags.made(tmp_path / "credentials")


@pytest.fixture
def learner(tmp_path, credentials):
    """The command line of a learner, its port and the port of its status."""
    port, status = processes.free_port(), processes.free_port()
    command = wiserl(
        *("learner", "ppo", "--env", "CartPole-v1", "--runs", str(tmp_path / "runs")),
        *("--port", str(port), "--status-port", str(status), "--recover"),
        *credential_flags.of_learner(credentials / "learner"),
        # More than any machine takes while a test looks: it is always stopped.
        *("--checkpoint-seconds", "0.2", "--total-steps", "100000000", *SMALL_ROUNDS),
    )
    return command, port, status


def watch(port, folder):
    command = wiserl("watch", f"127.0.0.1:{port}", "--once", "--json", *of_client(folder))
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


def test_a_run_goes_on_behind_tls(tmp_path, credentials, learner):
    command, port, status = learner
    sampler = wiserl(
        *("sampler", "--learner", f"localhost:{port}", "--workers", "1"),
        *of_client(credentials / "sampler"),
    )
    runs = tmp_path / "runs"
    with process(sampler, tmp_path / "sampler.log") as sampling:
        with process(command, tmp_path / "learner-1.log") as first:
            until("steps", lambda: processes.steps_so_far(runs) > 2000)
            until("a checkpoint", lambda: list(runs.glob("*/*/*/checkpoints/*/manifest.json")))
            with urllib.request.urlopen(f"http://127.0.0.1:{status}/readyz", timeout=20) as page:
                assert page.status == 200
            before = watch(port, credentials / "viewer")
            first.kill()
            first.wait()
        with process(command, tmp_path / "learner-2.log") as second:
            until("the learner's return", lambda: "learner_listening" in log(tmp_path, 2))
            after = watch(port, credentials / "viewer")
            assert after["run_id"] == before["run_id"]
            assert after["environment_steps"] >= before["environment_steps"]
            until("the sampler's return", lambda: watch(port, credentials / "viewer")["samplers"])
            second.send_signal(signal.SIGTERM)
            assert second.wait(timeout=60) == 143
        assert "run_recovered" in log(tmp_path, 2)
        assert sampling.poll() is None
    assert_bound(tmp_path, before["run_id"])
    assert len(list(runs.glob("*/*/*/config.yaml"))) == 1


def assert_bound(folder, run_id):
    """Every line of JSON after the first moments says of which run and which version it is."""
    learner = lines(folder / "learner-2.log")
    assert {line["run_id"] for line in learner[first(learner, "learner_listening") :]} == {run_id}
    assert learner[-1]["version"] > 1
    sampler = lines(folder / "sampler.log")
    later = [line for line in sampler[first(sampler, "registered") :] if line["index"] == 0]
    assert len(later) > 1
    assert {line["run_id"] for line in later} == {run_id}
    assert {line["process"] for line in later} == {"sampler"}
    assert later[-1]["version"] > 1


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def first(lines, event):
    return [line["event"] for line in lines].index(event)


def log(folder, number):
    return (folder / f"learner-{number}.log").read_text()


def test_another_seed_is_another_run(tmp_path, credentials, learner):
    command, _port, _ = learner
    for number, seed in ((1, "0"), (2, "1")):
        with process([*command, "--seed", seed], tmp_path / f"learner-{number}.log") as running:
            until("a learner", lambda n=number: "learner_listening" in log(tmp_path, n))
            folders = list((tmp_path / "runs").glob("*/*/*/run_id"))
            assert len(folders) == number
            until(
                "the settings",
                lambda n=number: len(list((tmp_path / "runs").glob("*/*/*/config.yaml"))) == n,
            )
            running.kill()


def test_a_sampler_that_is_not_let_in_says_so(tmp_path, credentials, learner):
    command, port, _ = learner
    (credentials / "sampler/token").write_text("a-token-that-nobody-knows\n")
    sampler = wiserl(
        *("sampler", "--learner", f"127.0.0.1:{port}", "--workers", "1"),
        *of_client(credentials / "sampler"),
    )
    with process(command, tmp_path / "learner.log"):
        done = subprocess.run(sampler, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 4
    assert "TOKEN_UNKNOWN" in done.stderr
    assert "--tokens-file" in done.stderr


def test_a_file_that_cannot_be_used_is_told_without_a_traceback(tmp_path):
    """As the image's entry point has it."""
    command = [sys.executable, "-m", "sampler", "--tls-ca", str(tmp_path / "missing.pem")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    (line,) = [json.loads(each) for each in done.stderr.splitlines()]
    assert line["event"] == "sampler_stopped"
    assert "missing.pem" in line["reason"]


def test_the_doctor_names_what_keeps_a_connection_from_coming_about(tmp_path, credentials, learner):
    command, port, _ = learner
    other = credential_flags.made(tmp_path / "other")

    def doctor(folder):
        done = subprocess.run(
            wiserl("doctor", f"127.0.0.1:{port}", "--json", *of_client(folder)),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return {each["subject"]: each for each in json.loads(done.stdout)}

    with process(command, tmp_path / "learner.log"):
        until("a learner", lambda: "learner_listening" in (tmp_path / "learner.log").read_text())
        assert "not to be trusted" in doctor(other / "viewer")["tls"]["said"]
        assert doctor(credentials / "viewer")["learner"]["level"] == "ok"
