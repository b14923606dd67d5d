"""A real engine, the images built once a session, and compose projects of a test's own."""

import os
import subprocess
from pathlib import Path

import docker
import pytest
import set_up
from compose_project import Project

ROOT = Path(__file__).resolve().parents[2]
ENGINE_BIN = "/usr/local/lib/docker-engine/bin"
"""Where `engine.sh` puts a client that builds with BuildKit."""

WHEELHOUSE = ROOT / "deploy/docker/wheelhouse"


def pytest_collection_modifyitems(items):
    """Building images takes minutes, which the first test that needs them waits for."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.containers)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def engine():
    """A client of a running engine; on a machine that cannot have one these tests are skipped."""
    set_up.done_by("engine.sh")
    os.environ["PATH"] = f"{ENGINE_BIN}:{os.environ['PATH']}"
    client = docker.from_env()
    yield client
    client.close()


def build(dockerfile, tag, context=ROOT, **arguments):
    """Builds an image; its output is shown where it fails."""
    command = ["docker", "build", "--network", "host", "--file", dockerfile, "--tag", tag]
    command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    built = subprocess.run(
        [*command, context],
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-5000:]
    return tag


@pytest.fixture(scope="session")
def sampler_image(engine):
    return build(ROOT / "deploy/docker/sampler.Dockerfile", "wiserl-sampler")


@pytest.fixture(scope="session")
def learner_image(engine):
    """With the CPU build of torch that pip finds here; from an index it might be that for CUDA."""
    if not list(WHEELHOUSE.glob("torch-*.whl")):
        download = ["pip", "download", "--quiet", "--no-deps", "--dest", WHEELHOUSE]
        subprocess.run(["python3", "-m", *download, "torch==2.13.0"], check=True)
    return build(ROOT / "deploy/docker/learner.Dockerfile", "wiserl-learner")


@pytest.fixture
def compose(engine, learner_image, sampler_image, request, tmp_path):
    """Makes compose projects with settings as in .env; whatever is left of them goes at the end."""
    made = []

    def make(*files, **settings):
        name = f"wiserl-test-{os.getpid()}-{len(made)}"
        project = Project(
            engine,
            name,
            root=ROOT,
            env_file=tmp_path / f"{name}.env",
            settings=settings,
            files=files,
        )
        made.append(project)
        return project

    yield make
    for project in made:
        if request.session.testsfailed:
            print(project.logs())
        project.remove()
