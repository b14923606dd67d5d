"""A learner that is killed when its run is over, before all samplers know, says goodbye later."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading

import grpc
import gymnasium
import processes
import pytest

from common import specs
from learner.run_folder import RunFolder
from protos.wiserl.v1 import learner_pb2, learner_pb2_grpc
from sampler.environments import plain

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("own_graph_cache"),
]


@contextlib.contextmanager
def deaf_sampler(address):
    """Keeps a sampler registered that never pulls, so that it cannot hear that the run is over."""
    spec = specs.to_proto(plain.specification(gymnasium.make("CartPole-v1")))
    over = threading.Event()

    def register_again_and_again(channel):
        stub = learner_pb2_grpc.LearnerServiceStub(channel)
        while not over.is_set():
            with contextlib.suppress(grpc.RpcError):
                run = stub.GetRun(learner_pb2.GetRunRequest(), timeout=5)
                me = {"run_id": run.run_id, "sampler_id": "deaf-sampler", "name": "deaf"}
                about = {"spec": spec, "slots": 1, "max_slots_per_push": 1, "protocol_version": 1}
                stub.Register(learner_pb2.RegisterRequest(**me, **about), timeout=60)
            over.wait(1)

    with grpc.insecure_channel(address) as channel:
        thread = threading.Thread(target=register_again_and_again, args=(channel,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def test_samplers_of_a_run_that_was_over_are_told_by_the_next_process(tmp_path):
    runs, address = tmp_path / "runs", f"127.0.0.1:{processes.free_port()}"
    # Of three samplers the first one rolls the round's only fragment.
    command = processes.wiserl(
        *("learner", "ppo", "--env", "CartPole-v1", "--total-steps", "1024", "--n-envs", "1"),
        *("--n-steps", "64", "--n-minibatches", "1", "--epochs", "1", "--expect-samplers", "3"),
        *("--eval-points", "0", "--final-eval-episodes", "1", "--runs", str(runs), "--quiet"),
        *("--port", address.rpartition(":")[2]),
    )
    sampler = processes.wiserl("sampler", "--learner", address, "--workers", "1")

    with contextlib.ExitStack() as stack:

        def start(command, name):
            return stack.enter_context(processes.process(command, tmp_path / f"{name}.log"))

        def log(name):
            return (tmp_path / f"{name}.log").read_text()

        def is_over():
            return any(RunFolder(path.parent).owes_farewells for path in runs.glob("*/*/*/run_id"))

        first = start(command, "first")
        samplers = []
        for name in ("rolling", "waiting"):
            samplers.append(start(sampler, name))
            processes.until("a sampler", lambda name=name: '"registered"' in log(name))
        os.kill(samplers[1].pid, signal.SIGSTOP)
        with deaf_sampler(address):
            processes.until("the end of the run", is_over)
            assert samplers[0].wait(processes.PATIENCE_SECONDS) == 0
            first.kill()
            first.wait()
        os.kill(samplers[1].pid, signal.SIGCONT)

        second = start([*command, "--recover"], "second")
        assert samplers[1].wait(processes.PATIENCE_SECONDS) == 0
        assert second.wait(processes.PATIENCE_SECONDS) == 0, log("second")
        assert "is over; its samplers are told so now" in log("second")

    folder = RunFolder(processes.run_folder(runs))
    assert (folder.is_finished, folder.owes_farewells) == (True, False)
    again = processes.wiserl("learner", "--resume", str(folder.path), "--port", "0")
    refused = subprocess.run(again, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "1024 are done already" in refused.stderr
