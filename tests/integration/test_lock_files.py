"""The images' pinned requirements follow pyproject.toml: asked of the resolver itself."""

import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "deploy/docker"


def check(root):
    """`scripts/lock --check` in a tree."""
    scripts = sysconfig.get_path("scripts")
    return subprocess.run(
        [root / "scripts/lock", "--check"],
        env=os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture
def tree(tmp_path):
    """What `scripts/lock` reads, for oneself."""
    for name in ("pyproject.toml", "README.md", "LICENSE", "scripts/lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(LOCKS, tmp_path / "deploy/docker", ignore=shutil.ignore_patterns("wheelhouse"))
    return tmp_path


@pytest.mark.slow
def test_the_locks_follow_the_project(tree):
    done = check(tree)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_lock_that_does_not_follow_is_noticed(tree):
    project = tree / "pyproject.toml"
    text = project.read_text()
    project.write_text(text.replace('"structlog>=25"', '"structlog>=25", "tomli-w>=1"'))
    before = (tree / "deploy/docker/sampler.lock").read_bytes()
    done = check(tree)
    assert done.returncode == 1
    assert "sampler.lock does not follow pyproject.toml" in done.stderr
    assert "tomli-w" in done.stdout
    assert (tree / "deploy/docker/sampler.lock").read_bytes() == before


@pytest.mark.parametrize(
    ("lock", "extras", "without"),
    [
        ("sampler", ("sampler", "marl", "tracing"), "scipy"),
        ("learner", ("learner", "tracing"), "torch"),
    ],
)
def test_what_is_pinned_is_what_is_asked_for(lock, extras, without):
    """Without a network: every direct requirement is there, in a version that it allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    pins = re.findall(r"^(\S+)==([^ ;]+)", (LOCKS / f"{lock}.lock").read_text(), re.MULTILINE)
    assert without not in dict(pins)
    for requirement in map(Requirement, wanted):
        versions = [version for name, version in pins if name == requirement.name.lower()]
        assert requirement.name == without or versions, requirement
        for version in versions:
            assert requirement.specifier.contains(version, prereleases=True), requirement
