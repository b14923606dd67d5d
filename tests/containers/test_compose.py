"""`docker compose up` on a real engine: encrypted, hardened, many samplers, crashes, own code."""

import json
import os
import subprocess
import time

import pytest
from compose_project import crash, until
from conftest import ROOT, build

RETURN = "rollout/ep_rew_mean"
"""The mean return of the last episodes in training."""

SIGTERMED = 143
"""The exit code of who was told to stop."""

PROMISED_SECONDS = 60.0
"""Within which all are healthy on a machine with nothing else to do; asserted at three times it."""


def steps(project):
    return project.watch()["environment_steps"]


def moves_on(project, more=1):
    """Waits until more environment steps were accepted than now."""
    before = steps(project)
    until("progress", lambda: steps(project) >= before + more)


def finished(project):
    until(
        "the end of the run",
        lambda: not project.containers("learner"),
        pause_seconds=1.0,
    )
    assert project.learner.attrs["State"]["ExitCode"] == 0, project.logs("learner")
    return project.result()


def complaints(project):
    """Errors in the learner's log."""
    return [each for each in project.events("learner") if each["level"] == "error"]


def assert_hardened(container, memory):
    """What the engine and the kernel say of a container, asked inside where that can be."""
    code, output = container.exec_run(["cat", "/proc/1/status"])
    assert code == 0
    status = dict(line.split(":\t", 1) for line in output.decode().splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["10001"] * 4
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert container.exec_run(["touch", "/opt/wiserl/x"])[0] != 0
    assert container.exec_run(["touch", "/tmp/x"])[0] == 0
    assert container.attrs["HostConfig"]["Memory"] == memory
    assert not container.attrs["HostConfig"]["PortBindings"]


def test_sixteen_samplers_learn_and_come_and_go(compose):
    project = compose(
        WISERL_N_ENVS=16,
        WISERL_ENVS_PER_WORKER=1,
        # On no machine is it over before all has been looked at.
        WISERL_TOTAL_STEPS=10**8,
    )
    began = time.monotonic()
    project.up(16)
    until("16 healthy samplers", lambda: project.healthy("sampler") == 16)
    print(f"16 samplers and the learner were healthy after {time.monotonic() - began:.0f} s")
    assert time.monotonic() - began < 3 * PROMISED_SECONDS
    seen = project.watch()["samplers"]
    assert len({each["sampler_id"] for each in seen}) == len({each["index"] for each in seen}) == 16
    assert "wiserl_samplers 16.0" in project.status("metrics")

    assert_hardened(project.learner, memory=4 << 30)
    for container in project.containers("sampler")[:2]:
        assert_hardened(container, memory=300 << 20)
    moves_on(project)
    used = [mebibytes_used(container) for container in project.containers("sampler")]
    print(f"memory of samplers in MiB: {sorted(used)}")
    assert max(used) < 300
    assert {each["worker_restarts"] for each in project.watch()["samplers"]} == {0}

    project.up(4)
    until("4 samplers", lambda: len(project.watch()["samplers"]) == 4)
    moves_on(project)
    project.up(16)
    until("16 samplers again", lambda: len(project.watch()["samplers"]) == 16)
    moves_on(project)
    until("a return of 475", lambda: project.watch()["metrics"][RETURN] >= 475)
    assert complaints(project) == []
    project.run("stop")
    for container in (project.learner, *project.containers("sampler", every=True)):
        assert container.wait()["StatusCode"] == SIGTERMED
        # Within the limit by itself, and not because the kernel killed what was above it.
        assert (restarts(container), container.attrs["State"]["OOMKilled"]) == (0, False)


def mebibytes_used(container):
    """As `docker stats` has it: without pages of files that the kernel could have back."""
    memory = container.stats(stream=False, one_shot=True)["memory_stats"]
    cached = memory["stats"].get("total_inactive_file", memory["stats"]["inactive_file"])
    return round((memory["usage"] - cached) / 2**20)


def test_crashes_pauses_and_cut_networks(compose, engine):
    project = compose(
        WISERL_N_ENVS=4, WISERL_ENVS_PER_WORKER=2, WISERL_TOTAL_STEPS=10**7, WISERL_LOG_LEVEL="info"
    )
    project.up(2)
    until("2 samplers", lambda: len(project.watch()["samplers"]) == 2)
    moves_on(project)
    run = project.watch()["run_id"]

    victim = project.containers("sampler")[0]
    crash(victim)  # the engine starts it again
    until("a restart", lambda: restarts(victim) == 1)
    until("a restarted sampler", lambda: project.healthy("sampler") == 2)
    moves_on(project)

    victim.kill()  # and this for good, as a lost machine
    until("one sampler", lambda: len(project.watch()["samplers"]) == 1)
    moves_on(project)
    victim.start()
    until("both samplers", lambda: len(project.watch()["samplers"]) == 2)

    until("a checkpoint", lambda: has_checkpoint(project))
    before = steps(project)
    crash(project.learner)  # started again, it goes on with its run
    until("a restart", lambda: restarts(project.learner) == 1)
    until("the learner's return", lambda: project.healthy("learner") == 1)
    until("both samplers again", lambda: len(project.watch()["samplers"]) == 2)
    state = project.watch()
    assert state["run_id"] == run
    assert state["environment_steps"] >= before
    moves_on(project)

    project.learner.kill()
    project.learner.start()
    until("the learner's return", lambda: project.healthy("learner") == 1)
    until("both samplers again", lambda: len(project.watch()["samplers"]) == 2)
    assert project.watch()["run_id"] == run

    victim.pause()
    until("one sampler", lambda: len(project.watch()["samplers"]) == 1)
    victim.unpause()
    until("both samplers", lambda: len(project.watch()["samplers"]) == 2)

    (network,) = engine.networks.list(names=[f"{project.name}_default"])
    network.disconnect(victim)
    until("one sampler", lambda: len(project.watch()["samplers"]) == 1)
    network.connect(victim)
    until("both samplers", lambda: len(project.watch()["samplers"]) == 2)
    moves_on(project)

    project.run("stop")  # SIGTERM: everyone drains, and the state is in a checkpoint
    assert project.learner.attrs["State"]["ExitCode"] == SIGTERMED
    codes = {each.wait()["StatusCode"] for each in project.containers("sampler", every=True)}
    assert codes <= {SIGTERMED}


def restarts(container):
    container.reload()
    return container.attrs["RestartCount"]


def has_checkpoint(project):
    return project.learner.exec_run(["sh", "-c", "ls /runs/*/*/*/policy.onnx"])[0] == 0


def test_a_sampler_with_an_environment_of_one_s_own(compose, sampler_image, monkeypatch):
    image = build(
        ROOT / "deploy/docker/own-environment/Dockerfile",
        "wiserl-test-own-environment",
        ROOT / "deploy/docker/own-environment",
    )
    project = compose(
        WISERL_SAMPLER_IMAGE=image,
        WISERL_ENV="lights:make",
        WISERL_ALLOW_MODULE="lights",
        WISERL_TOTAL_STEPS=20_000,
    )
    project.up(2)
    result = finished(project)
    assert result["final_evaluation"]["return_mean"] == pytest.approx(20, abs=1)


def lacking(service):
    """What of the hardening a service lacks."""
    wanted = {
        "read_only": service.get("read_only") is True,
        "cap_drop": service.get("cap_drop") == ["ALL"],
        "security_opt": service.get("security_opt") == ["no-new-privileges:true"],
        "privileged": not service.get("privileged"),
    }
    return {name for name, there in wanted.items() if not there}


def test_the_composed_files_are_sound(engine):
    """Both files, as compose itself reads them; no sampler has a name or a port of its own."""
    files = ["--profile=observability", "-f", "docker-compose.yml", "-f", "docker-compose.gpu.yml"]
    printed = subprocess.run(
        ["docker", "compose", *files, "config", "--format", "json"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("WISERL_")},
        capture_output=True,
        text=True,
        check=True,
    )
    services = json.loads(printed.stdout)["services"]
    assert "container_name" not in services["sampler"]
    assert "ports" not in services["sampler"]
    for name, service in services.items():
        assert lacking(service) == set(), name
    for field in ("read_only", "cap_drop", "security_opt"):
        without = {key: value for key, value in services["sampler"].items() if key != field}
        assert lacking(without) == {field}
    assert lacking(services["learner"] | {"privileged": True}) == {"privileged"}
    (device,) = services["learner"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
