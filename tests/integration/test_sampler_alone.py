"""A sampler in an environment of its own, without torch: installed, and through a whole run."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The sources without what git ignores: an installation builds where it installs from."""
    folder = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/images/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def alone(source) -> Path:
    """The environment that docs/getting-started.md makes for a sampler."""
    for command in ("python3 -m venv sampler-env", "sampler-env/bin/pip install -q '.[sampler]'"):
        program, *arguments = shlex.split(command)
        program = sys.executable if program == "python3" else program
        subprocess.run([program, *arguments], cwd=source, check=True, timeout=500)
    return source / "sampler-env"


def run(alone: Path, program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # Not in the sources' folder: what is imported must be what was installed.
    return subprocess.run(
        [alone / "bin" / program, *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_sampler_needs_no_torch(alone, tmp_path):
    for absent in ("torch", "onnx", "onnxscript"):
        result = run(alone, "python", "-c", f"import {absent}", cwd=tmp_path)
        assert f"No module named '{absent}'" in result.stderr
    result = run(alone, "wiserl", "sampler", "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "--learner" in result.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_installed_is_whole_and_small(alone, source, tmp_path):
    code = "import pathlib, protos; print(pathlib.Path(protos.__file__).parent.parent)"
    packages = Path(run(alone, "python", "-c", code, cwd=tmp_path).stdout.strip())
    assert packages.is_relative_to(alone)
    for folder in ("common", "sampler", "learner", "wiserl", "protos"):
        sources = {path for path in (source / folder).rglob("*") if _ships(path)}
        missing = {path for path in sources if not (packages / path.relative_to(source)).exists()}
        assert missing == set()
    assert not (packages / "tests").exists()
    tools = ("pip", "setuptools", "pkg_resources")
    size = sum(
        path.stat().st_size
        for path in packages.rglob("*")
        if path.is_file() and not path.relative_to(packages).parts[0].startswith(tools)
    )
    assert size <= 250 * MEBIBYTE


def _ships(path: Path) -> bool:
    return path.suffix in {".py", ".pyi", ".proto", ".yaml", ".typed"} or path.name == "py.typed"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_rolls_for_a_learner_of_another_environment(alone, tmp_path):
    command = [sys.executable, "-m", "wiserl.cli", "learner", "ppo", "--env", "CartPole-v1"]
    command += ["--port", "0", "--total-steps", "2048", "--runs", str(tmp_path / "runs")]
    command += ["--eval-points", "0", "--final-eval-episodes", "2"]
    learner = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = _address(learner)
        result = run(alone, "wiserl", "sampler", "--learner", address, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        _, errors = learner.communicate(timeout=60)
        assert learner.returncode == 0, errors
    finally:
        learner.kill()
        learner.communicate()


def _address(learner: subprocess.Popen[str]) -> str:
    """Where a learner says that it listens; its log is JSON, since no terminal reads it."""
    lines = []
    for line in learner.stderr or []:
        lines.append(line)
        if "learner_listening" in line:
            address: str = json.loads(line)["address"]
            return address
    pytest.fail("the learner ended: " + "".join(lines))
