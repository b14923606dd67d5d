"""The sampler in JavaScript trains with real learners: alone, beside ours, through a kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess

import credential_flags
import node_sampler
import processes
import pytest
from credential_flags import of_client
from processes import process, until, wiserl

pytestmark = [
    pytest.mark.learning,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("own_graph_cache"),
]

PATIENCE = 400
FEW_EVALUATIONS = ("--eval-points", "1", "--eval-episodes", "4", "--final-eval-episodes", "20")


def learner(tmp_path, algorithm, port, *flags):
    return wiserl(
        *("learner", algorithm, "--env", "CartPole-v1", "--seed", "1", "--quiet"),
        *("--port", str(port), "--runs", str(tmp_path / "runs"), *FEW_EVALUATIONS, *flags),
    )


def final_return(tmp_path):
    return processes.result(tmp_path / "runs")["final_evaluation"]["return_mean"]


def log(path):
    return path.read_text() if path.exists() else ""


def test_alone_it_trains_to_the_gate(tmp_path):
    port = processes.free_port()
    with (
        process(learner(tmp_path, "ppo", port), tmp_path / "learner.log") as learning,
        process(
            node_sampler.sampler("--learner", f"127.0.0.1:{port}"), tmp_path / "node.log"
        ) as sampling,
    ):
        assert sampling.wait(PATIENCE) == 0, log(tmp_path / "node.log")
        assert learning.wait(60) == 0, log(tmp_path / "learner.log")
    assert final_return(tmp_path) >= 475
    losses = processes.result(tmp_path / "runs")["losses"]
    assert set(losses) <= {"beyond_budget"}


def test_beside_a_python_sampler_behind_mutual_tls(tmp_path):
    port, credentials = processes.free_port(), credential_flags.made(tmp_path / "credentials")
    guarded = credential_flags.of_learner(credentials / "learner")
    address = f"localhost:{port}"
    command = learner(tmp_path, "ppo", port, *guarded, "--expect-samplers", "2")
    flags = ["--learner", address, *of_client(credentials / "sampler")]
    with contextlib.ExitStack() as stack:

        def start(command, name):
            return stack.enter_context(process(command, tmp_path / f"{name}.log"))

        learning = start(command, "learner")
        node = start(node_sampler.sampler(*flags, "--envs", "4", "--name", "node"), "node")
        # Who is the first one, and rolls which environments, is no matter of chance.
        until("the first sampler", lambda: '"registered"' in log(tmp_path / "node.log"))
        python = start(
            wiserl("sampler", *flags, "--workers", "1", "--envs-per-worker", "4"), "python"
        )
        until("steps", lambda: processes.steps_so_far(tmp_path / "runs") > 2_000)
        watched = subprocess.run(
            wiserl("watch", address, "--once", "--json", *of_client(credentials / "viewer")),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        samplers = json.loads(watched.stdout)["samplers"]
        assert len(samplers) == 2
        assert min(one["environment_steps"] for one in samplers) > 0
        for sampling, name in ((node, "node"), (python, "python")):
            assert sampling.wait(PATIENCE) == 0, log(tmp_path / f"{name}.log")
        assert learning.wait(60) == 0, log(tmp_path / "learner.log")
    assert final_return(tmp_path) >= 475
    assert set(processes.result(tmp_path / "runs")["losses"]) <= {"beyond_budget"}


def test_with_a_memory_its_states_are_those_that_the_learner_computes(tmp_path):
    port = processes.free_port()
    flags = (*processes.SMALL_ROUNDS, "--recurrent-units", "16", "--total-steps", "4096")
    with (
        process(learner(tmp_path, "ppo", port, *flags), tmp_path / "learner.log") as learning,
        process(
            node_sampler.sampler("--learner", f"127.0.0.1:{port}", "--envs", "3"),
            tmp_path / "node.log",
        ) as sampling,
    ):
        assert sampling.wait(PATIENCE) == 0, log(tmp_path / "node.log")
        assert learning.wait(60) == 0, log(tmp_path / "learner.log")
    # A round begins at the ratio 1 where both sides agree on every log-probability.
    assert processes.result(tmp_path / "runs")["metrics"]["train/fresh_ratio_error"] < 1e-4


def test_wrong_token_and_wrong_authority(tmp_path):
    port = processes.free_port()
    credentials, others = map(
        credential_flags.made, (tmp_path / "credentials", tmp_path / "others")
    )
    guarded = credential_flags.of_learner(credentials / "learner", mutual=False)

    def sampled(authority, token, patience):
        command = node_sampler.sampler(
            *("--learner", f"localhost:{port}", "--connect-timeout-seconds", patience),
            *("--tls-ca", str(authority / "sampler/ca.pem")),
            *("--token-file", str(token / "sampler/token")),
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stderr

    with process(learner(tmp_path, "ppo", port, *guarded), tmp_path / "learner.log"):
        until("a learner", lambda: "learner_listening" in log(tmp_path / "learner.log"))
        code, said = sampled(credentials, others, "100")
        assert (code, "TOKEN_UNKNOWN" in said) == (4, True), said
        code, said = sampled(others, credentials, "3")
        assert (code, "certificate" in said) == (3, True), said


def test_dqn_goes_on_when_its_learner_was_killed(tmp_path):
    port = processes.free_port()
    flags = ("--total-steps", "8000", "--learning-starts", "500", "--checkpoint-seconds", "0.2")
    command = learner(tmp_path, "dqn", port, *flags, "--recover")
    runs, node_log = tmp_path / "runs", tmp_path / "node.log"
    sampler = node_sampler.sampler("--learner", f"127.0.0.1:{port}", "--envs", "4")
    with process(sampler, node_log) as sampling:
        with process(command, tmp_path / "first.log") as first:
            until("steps", lambda: processes.steps_so_far(runs) > 1_000)
            until("a checkpoint", lambda: list(runs.glob("*/*/*/checkpoints/*/manifest.json")))
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
        with process(command, tmp_path / "second.log") as second:
            assert sampling.wait(PATIENCE) == 0, log(node_log)
            assert second.wait(60) == 0, log(tmp_path / "second.log")
    assert "registering_again" in log(node_log)
    result = processes.result(runs)
    assert (result["environment_steps"], result["status"]) == (8000, "finished")
    assert result["metrics"]["replay/ratio"] > 0
    # Nothing was refused. The one push that may have been on its way when the learner died is
    # given up, and its sequence is then missed.
    losses = result["losses"]
    assert not {"refused", "stale"} & set(losses)
    assert losses.get("sequence_gap", {"pushes": 0})["pushes"] <= 1
