"""Every command of the README and of docs/ is run here, elsewhere, or has a reason why not."""

from __future__ import annotations

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import processes
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "benchmarks/README.md", *sorted((ROOT / "docs").rglob("*.md"))]

TRAIN = ".venv/bin/wiserl train ppo --env CartPole-v1"
LEARNER = ".venv/bin/wiserl learner ppo --env CartPole-v1 --port 5555"
OWN = "PYTHONPATH=examples .venv/bin/wiserl"
OWN_PRESETS = "--presets examples/ddpg_tutorial.yaml"

# Run as they stand, in a folder that looks like a checkout where one run was made.
ALONE = {
    f"scripts/setup && {TRAIN}",
    "scripts/setup",
    TRAIN,
    f"{TRAIN} --in-process",
    f"{TRAIN} --env-arg sutton_barto_reward=true",
    f"{TRAIN} --help",
    ".venv/bin/wiserl train ppo --help",
    ".venv/bin/wiserl train ppo --config runs/CartPole-v1/ppo/*/config.yaml --seed 1",
    ".venv/bin/wiserl learner ppo --help",
    ".venv/bin/wiserl sampler --help",
    ".venv/bin/wiserl plot runs/CartPole-v1/ppo/*",
    ".venv/bin/wiserl plot",
    f"{TRAIN} --seeds 0-2",
    f"{TRAIN} --init-from runs/CartPole-v1/ppo",
    ".venv/bin/wiserl train --resume runs/CartPole-v1/ppo --total-steps 120000",
    ".venv/bin/wiserl train dqn --env CartPole-v1",
    "PYTHONPATH=. .venv/bin/wiserl train ppo --config examples/recall.yaml",
    ".venv/bin/wiserl train maddpg --env mpe2/simple_spread_v3",
    ".venv/bin/wiserl train maddpg --env mpe2/simple_tag_v3 --env-arg continuous_actions=true",
    ".venv/bin/wiserl train trpo --env CartPole-v1",
    ".venv/bin/wiserl train appo --env CartPole-v1",
    ".venv/bin/wiserl train impala --env CartPole-v1",
    ".venv/bin/wiserl train td3 --env Pendulum-v1",
    ".venv/bin/wiserl train ddpg --env MountainCarContinuous-v0",
    ".venv/bin/wiserl train sac --env Pendulum-v1",
    ".venv/bin/wiserl train sac --env CartPole-v1",
    ".venv/bin/wiserl train qmix --env mpe2/simple_spread_v3",
    ".venv/bin/wiserl train maddpg --env mpe2/simple_tag_v3",
    ".venv/bin/wiserl train ippo --env pettingzoo/tictactoe_v3",
    ".venv/bin/wiserl train qmix --env sampler.environments.matrix_games:TwoStep",
    ".venv/bin/wiserl train mappo --env mpe2/simple_spread_v3",
    ".venv/bin/wiserl train mappo --env mpe2/simple_spread_v3 --recurrent-units 64 --n-steps 50",
    ".venv/bin/wiserl train dqn --env CartPole-v1 --replay-storage disk",
    f"{TRAIN} --json",
    f"WANDB_MODE=offline {TRAIN} --callback wiserl.weights_and_biases:WeightsAndBiases",
    ".venv/bin/wiserl eval runs/CartPole-v1/ppo",
    ".venv/bin/wiserl eval runs/CartPole-v1/ppo --stochastic --episodes 20",
    ".venv/bin/wiserl eval runs/CartPole-v1/ppo --video --episodes 3",
    ".venv/bin/wiserl export runs/CartPole-v1/ppo -o policy.onnx",
    ".venv/bin/wiserl train dqn --env LunarLander-v3",
    ".venv/bin/wiserl presets",
    ".venv/bin/wiserl presets dqn",
    f"{OWN} train ppo --env own_environment:Corridor --env-arg length=12",
    f"{OWN} train ppo --env CartPole-v1 --wrapper own_wrapper:WithoutVelocities",
    f"{OWN} train ppo --env CartPole-v1 --network own_network:make",
    f"{OWN} train ddpg_tutorial:TutorialDDPG --env Pendulum-v1 {OWN_PRESETS}",
    f"{OWN} presets ddpg_tutorial:TutorialDDPG {OWN_PRESETS}",
    ".venv/bin/wiserl doctor",
    ".venv/bin/wiserl credentials credentials --host learner.example.org",
    ".venv/bin/wiserl --print-completion bash > wiserl-completion.bash",
    ".venv/bin/buf build --exclude-source-info -o protos/baseline.binpb",
    ".venv/bin/pre-commit install",
}
# Run beside the learner above.
BESIDE_A_LEARNER = {
    ".venv/bin/wiserl sampler --learner 127.0.0.1:5555",
    ".venv/bin/python examples/minimal_sampler.py 127.0.0.1:5555",
}
# Look at that learner and end.
LOOKS = {
    ".venv/bin/wiserl watch 127.0.0.1:5555 --once",
    ".venv/bin/wiserl doctor 127.0.0.1:5555",
}
# End when the run does.
WATCHING = {
    ".venv/bin/wiserl watch 127.0.0.1:5555",
    ".venv/bin/wiserl watch 127.0.0.1:5555 --json --interval-seconds 5",
}
ATARI = ".venv/bin/wiserl train {} --env ALE/Pong-v5"
PLOTS_LAG = ".venv/bin/wiserl plot runs/CartPole-v1/appo/* --metric learner/policy_lag"
ELSEWHERE = {PLOTS_LAG: "test_train_from_queue.py::test_the_lag_is_drawn"}
ELSEWHERE |= (
    dict.fromkeys(
        (ATARI.format("dqn"), ATARI.format("ppo")),
        "test_atari_runs.py::test_pong_is_played_with_the_preset",
    )
    | {
        "npm ci --ignore-scripts --prefix examples/sampler-node": (
            "test_node_sampler.py::test_its_own_tests_pass"
        ),
        "node examples/sampler-node/src/main.js --learner 127.0.0.1:5555": (
            "test_node_sampler_runs.py::test_alone_it_trains_to_the_gate"
        ),
        ".venv/bin/wiserl train sac --env HalfCheetah-v5": (
            "test_mujoco_runs.py::test_halfcheetah_is_run_with_the_preset"
        ),
    }
    | dict.fromkeys(
        (
            ".venv/bin/wiserl eval runs/mpe2-simple_tag_v3/maddpg --random agent",
            ".venv/bin/wiserl eval runs/mpe2-simple_tag_v3/maddpg --random adversary",
        ),
        "test_random_sides.py::test_the_sides_of_tag_are_told_apart",
    )
    | dict.fromkeys(
        (
            "python3 -m venv sampler-env",
            "sampler-env/bin/pip install '.[sampler]'",
            "sampler-env/bin/wiserl sampler --help",
        ),
        "test_sampler_alone.py::test_the_sampler_needs_no_torch",
    )
    | dict.fromkeys(
        (
            ".venv/bin/wiserl learner ppo --env own_environment:Corridor --port 5556",
            f"{OWN} sampler --learner 127.0.0.1:5556 --allow-module own_environment",
        ),
        "test_own_things.py::test_a_sampler_builds_what_its_own_command_line_allows",
    )
)
WHY_NOT = {
    ".venv/bin/pip install --editable '.[atari]'": "changes the environment under test",
    ".venv/bin/pip install --editable '.[mujoco]'": "changes the environment under test",
    (
        ".venv/bin/wiserl train ppo --env ALE/Qbert-v5 --env-arg frameskip=1 "
        "--wrapper sampler.environments.atari:preprocessed --clip-rewards True"
    ): "minutes; test_atari_runs.py plays Pong with the same wrapper",
    ".venv/bin/wiserl bench learning --minutes 60": "an hour; test_bench_queue.py runs one",
    ".venv/bin/python benchmarks/samplers.py --name samplers": (
        "ten minutes, and rewrites data; test_benchmark_programs.py runs it in small"
    ),
    ".venv/bin/python benchmarks/report.py": "rewrites a page; test_results_page.py checks it",
    ".venv/bin/pip install --editable '.[wandb]'": "changes the environment under test",
    ".venv/bin/wiserl learner --resume runs/CartPole-v1/ppo --total-steps 120000 --port 5555": (
        "test_killed_learner.py kills and resumes learners"
    ),
    "CHAOS_KILLS=100 .venv/bin/pytest -m chaos tests/chaos -k ring_in_files": (
        "the long form of a test"
    ),
    "scripts/test": "this test is part of it; CI runs it",
    ".venv/bin/wiserl learner ppo --env CartPole-v1 --host 0.0.0.0 --tls-cert "
    "credentials/learner/cert.pem --tls-key credentials/learner/key.pem --tokens-file "
    "credentials/learner/tokens": "test_encrypted_run.py runs it on loopback",
    ".venv/bin/wiserl sampler --learner learner.example.org:5555 --tls-ca "
    "credentials/sampler/ca.pem --token-file credentials/sampler/token": (
        "test_encrypted_run.py runs it on loopback"
    ),
    **dict.fromkeys(
        (
            "docker compose build",
            "docker compose up --scale sampler=16",
            "cp .env.example .env",
            "docker compose exec learner wiserl watch",
            "docker compose up --detach --no-recreate --scale sampler=4",
            "docker compose cp learner:/runs runs",
            "docker build -t my-sampler deploy/docker/own-environment",
            (
                "WISERL_SAMPLER_IMAGE=my-sampler WISERL_ALLOW_MODULE=lights WISERL_ENV=lights:make "
                "docker compose up"
            ),
        ),
        "needs an engine; tests/containers does the same on one",
    ),
    "docker compose --profile observability up --scale sampler=16": (
        "needs a registry; test_prometheus.py has a real Prometheus scrape a run"
    ),
    ".venv/bin/wiserl credentials deploy/kubernetes/components/credentials --host learner": (
        "writes into the checkout; test_manifests.py does it in a copy"
    ),
    **dict.fromkeys(
        (
            "kubectl apply -k deploy/kubernetes/overlays/cpu",
            "kubectl -n wiserl logs -f learner-0",
            "kubectl -n wiserl exec learner-0 -- wiserl watch",
            "kubectl -n wiserl scale deployment sampler --replicas=16",
            "kubectl -n wiserl cp learner-0:/runs runs",
        ),
        "needs a cluster; test_manifests.py validates what is applied",
    ),
    "docker compose -f docker-compose.yml -f docker-compose.gpu.yml up --build "
    "--scale sampler=16": "needs a GPU; test_compose.py checks the file",
    "scripts/test lint types imports": "parts of scripts/test, which CI runs",
    "scripts/test quick": "a part of scripts/test, which CI runs",
    "scripts/test fix": "rewrites the sources under test",
    "scripts/test stubs protos": "rewrites the stubs under test; test_protos.py checks their drift",
    ".venv/bin/tensorboard --logdir runs": "serves until it is stopped, and is not ours",
}

# The commands as they stand, on a budget that ends in seconds.
SHORT = {
    "WISERL_TOTAL_STEPS": "2048",
    "WISERL_EVAL_POINTS": "1",
    "WISERL_EVAL_EPISODES": "2",
    "WISERL_FINAL_EVAL_EPISODES": "2",
}


def commands(page: str) -> list[str]:
    """What stands after a `$` in a page's blocks of shell."""
    blocks = re.findall(r"^```(?:console|bash|sh|shell)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+", " ", line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]


def documented() -> set[str]:
    return {command for page in PAGES for command in commands(page.read_text())}


def test_every_command_is_accounted_for_once():
    tables = [ALONE, {LEARNER}, BESIDE_A_LEARNER, LOOKS, WATCHING, set(ELSEWHERE), set(WHY_NOT)]
    assert documented() == set().union(*tables)
    assert sum(map(len, tables)) == len(set().union(*tables))


def test_every_block_of_shell_marks_its_commands():
    for page in PAGES:
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        for language, block in blocks:
            assert language in {"console", "mermaid", "python", "yaml", "text"}, (page, block)
            assert language != "console" or block.startswith("$ "), (page, block)


def test_commands_are_found_with_their_continuations():
    page = "text\n```console\n$ one \\\n    --flag\noutput\n$ two\n```\n```text\n$ three\n```\n"
    assert commands(page) == ["one --flag", "two"]


def test_what_is_run_elsewhere_is_run_there():
    for place in ELSEWHERE.values():
        name, _, function = place.partition("::")
        tree = ast.parse((ROOT / "tests/integration" / name).read_text())
        assert function in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


def test_verbs_of_scripts_test_exist():
    script = (ROOT / "scripts/test").read_text()
    verbs = set(re.findall(r"^    (\w+)\)", script, re.MULTILINE))
    for command in documented():
        if command.startswith("scripts/test "):
            assert set(command.split()[1:]) <= verbs, command


def test_links_and_paths_lead_somewhere():
    for page in PAGES:
        text = page.read_text()
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
        for path in re.findall(
            r"`((?:common|learner|sampler|wiserl|protos|tests|scripts)/[^`*<]*)`", text
        ):
            # Metrics such as `learner/policy_lag` are named like paths, without a suffix.
            if "." in path or path.endswith("/"):
                assert (ROOT / path).exists(), f"{page.name} names {path}"


def without_layout(code: str) -> str:
    """Its lines without indentation and blank ones between: a method alone begins at the margin."""
    return "\n".join(line.strip() for line in code.splitlines() if line.strip())


def environment(**more: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WISERL_")}
    return clean | SHORT | more


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A folder in which the documented commands find what they name, with one run in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("protos", "examples"):
        ignored = shutil.ignore_patterns("node_modules")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("buf.yaml", ".pre-commit-config.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["bash", "-c", TRAIN], cwd=folder, env=environment(), check=True)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", sorted(ALONE))
def test_a_command_runs(command, checkout, tmp_path):
    folder = ROOT if command.startswith("scripts/") else checkout
    # Only the run that the fixture made is to be found where the pages look for runs.
    trains = re.search(r"\btrain [a-z]", command) is not None
    runs = {"WISERL_RUNS": str(tmp_path)} if trains else {}
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(**runs),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    if trains and not command.endswith("--help"):
        seeds = 3 if "--seeds 0-2" in command else 1
        assert len(list(tmp_path.glob("*/*/*/curve.png"))) == seeds


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_documented_python_runs(tmp_path):
    blocks = [
        block
        for page in PAGES
        for block in re.findall(
            r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
        )
    ]
    examples = [without_layout(path.read_text()) for path in (ROOT / "examples").glob("*.py")]
    alone = [b for b in blocks if not any(without_layout(b) in example for example in examples)]
    assert 0 < len(alone) < len(blocks), "what is no excerpt of an example runs by itself"
    for block in alone:
        subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, env=environment(), check=True, timeout=280
        )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", sorted(BESIDE_A_LEARNER))
def test_a_command_runs_beside_a_learner(command, checkout, tmp_path):
    port = str(processes.free_port())
    variables = environment(WISERL_RUNS=str(tmp_path))
    learner = subprocess.Popen(
        ["bash", "-c", "exec " + LEARNER.replace("5555", port)],
        cwd=checkout,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        result = subprocess.run(
            ["bash", "-c", "exec " + command.replace("5555", port)],
            cwd=checkout,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        output, _ = learner.communicate(timeout=200)
        assert learner.returncode == 0, output
    finally:
        learner.kill()
        learner.communicate()
    (record,) = tmp_path.glob("CartPole-v1/ppo/*")
    assert (record / "curve.png").exists()
    assert len((record / "evaluations.csv").read_text().splitlines()) == 3


def answers(port: int) -> bool:
    """Whether anything listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_commands_watch_a_run_to_its_end(checkout, tmp_path):
    port = str(processes.free_port())
    variables = environment(WISERL_RUNS=str(tmp_path / "runs"))
    sampler = ".venv/bin/wiserl sampler --learner 127.0.0.1:5555"
    numbers = {command: n for n, command in enumerate((LEARNER, sampler, *LOOKS, *WATCHING))}

    def said(command: str) -> str:
        return (tmp_path / f"{numbers[command]}.log").read_text()

    def started(command: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{numbers[command]}.log").open("wb") as log:
            return subprocess.Popen(
                ["bash", "-c", "exec " + command.replace("5555", port)],
                cwd=checkout,
                env=variables,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    running = {LEARNER: started(LEARNER)}
    try:
        processes.until("a learner", lambda: answers(int(port)))
        for command in sorted(LOOKS):
            running[command] = started(command)
            assert running[command].wait(200) == 0, said(command)
            assert "CartPole-v1" in said(command)
        running |= {command: started(command) for command in sorted(WATCHING)}
        # Without a sampler the run does not begin, and so is not over before it is watched.
        for command in WATCHING:
            processes.until("somebody who watches", lambda command=command: said(command))
        running[sampler] = started(sampler)
        for command in (*WATCHING, LEARNER, sampler):
            assert running[command].wait(200) == 0, f"{command}: {said(command)}"
            assert "finished" in said(command) or command not in WATCHING
    finally:
        for process in running.values():
            process.kill()
            process.wait()
