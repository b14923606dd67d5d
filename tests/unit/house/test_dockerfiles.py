"""Dockerfiles as hadolint sees them, without a rule that is switched off."""

import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"
DOCKERFILES = [
    "deploy/docker/learner.Dockerfile",
    "deploy/docker/sampler.Dockerfile",
    "deploy/docker/own-environment/Dockerfile",
]


def complaints(text):
    """The rules that a Dockerfile breaks."""
    command = [HADOLINT, "--no-color", "--format", "tty", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    found = {line.split()[1] for line in done.stdout.splitlines()}
    assert bool(found) == bool(done.returncode), done.stdout
    return found


def test_every_dockerfile_is_looked_at():
    there = {str(path.relative_to(ROOT)) for path in ROOT.glob("deploy/**/*Dockerfile")}
    assert there == set(DOCKERFILES)


@pytest.mark.parametrize("path", DOCKERFILES)
def test_a_dockerfile_is_sound(path):
    text = (ROOT / path).read_text()
    assert complaints(text) == set()
    assert "hadolint ignore" not in text


@pytest.mark.parametrize(
    ("sound", "broken", "rule"),
    [
        ("USER 10001:10001", "USER root", "DL3002"),
        ("FROM ${PYTHON_IMAGE} AS dependencies", "FROM python:latest AS dependencies", "DL3007"),
        ('ENTRYPOINT ["wiserl", "learner"]', "ENTRYPOINT wiserl learner", "DL3025"),
        ("WORKDIR /build", "RUN cd /build && true", "DL3003"),
        ("WORKDIR /build", "WORKDIR build", "DL3000"),
        ('"$@" "torch==${TORCH}"', '$@ "torch==${TORCH}"', "SC2068"),
    ],
)
def test_what_is_unsound_is_noticed(sound, broken, rule):
    text = (ROOT / "deploy/docker/learner.Dockerfile").read_text()
    assert sound in text
    assert rule in complaints(text.replace(sound, broken))
