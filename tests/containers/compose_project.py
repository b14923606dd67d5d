"""A compose project of a test: the command line starts it, the SDK looks at it and disturbs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from docker import DockerClient
    from docker.models.containers import Container

PATIENCE_SECONDS = 240.0
SERVICE = "com.docker.compose.service"


class Project:
    """A project with a name and volumes of its own, so that several can be there at once."""

    def __init__(
        self,
        engine: DockerClient,
        name: str,
        *,
        root: Path,
        env_file: Path,
        settings: dict[str, object],
        files: tuple[Path, ...] = (),
    ) -> None:
        self._engine = engine
        self.name = name
        self._settings = {key: str(value) for key, value in settings.items()}
        env_file.write_text("".join(f"{key}={value}\n" for key, value in self._settings.items()))
        self._command = ["docker", "compose", "--project-name", name, "--env-file", str(env_file)]
        for file in (root / "docker-compose.yml", *files):
            self._command += ["--file", str(file)]

    def run(self, *arguments: str) -> str:
        """A compose command; answers what it printed."""
        done = subprocess.run(
            [*self._command, *arguments],
            env=os.environ | self._settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-5000:]}"
        return done.stdout

    def up(self, samplers: int) -> None:
        """Starts what is missing and stops what is too much, without waiting for health."""
        self.run("up", "--detach", "--no-build", "--scale", f"sampler={samplers}")

    def containers(self, service: str, *, every: bool = False) -> list[Container]:
        """The containers of a service that run, or all there are."""
        labels = [f"com.docker.compose.project={self.name}", f"{SERVICE}={service}"]
        found: list[Container] = self._engine.containers.list(all=every, filters={"label": labels})
        return found

    @property
    def learner(self) -> Container:
        """The learner's container, whether it runs or not."""
        (container,) = self.containers("learner", every=True)
        return container

    def healthy(self, service: str) -> int:
        """How many containers of a service say that they are well."""
        return sum(health_of(container) == "healthy" for container in self.containers(service))

    def logs(self, service: str = "") -> str:
        """What all containers, or those of a service, have written so far."""
        return self.run("logs", "--no-color", "--no-log-prefix", *([service] if service else []))

    def events(self, service: str) -> list[dict[str, Any]]:
        """The log of a service as its lines of JSON; those of other programs are left out."""
        lines = self.logs(service).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def watch(self) -> dict[str, Any]:
        """What `wiserl watch` says, asked over TLS with the viewer's token."""
        code, output = self.learner.exec_run(["wiserl", "watch", "--once", "--json"], demux=True)
        assert code == 0, (output[1] or b"the learner has ended").decode()
        found: dict[str, Any] = json.loads(output[0])
        return found

    def status(self, page: str) -> str:
        """A page of the learner's status port."""
        ask = "import sys, common.probe as p; print(p.ask(9464, sys.argv[1]))"
        code, output = self.learner.exec_run(["python", "-I", "-c", ask, page])
        assert code == 0, output
        text: str = output.decode().partition("\r\n\r\n")[2]
        return text

    def result(self) -> dict[str, Any]:
        """How the project's only run ended."""
        code = "import pathlib; [p] = pathlib.Path('/runs').glob('*/*/*/result.json'); "
        volume = f"{self.name}_runs"
        output = self._engine.containers.run(
            "wiserl-learner",
            entrypoint=["python", "-c", code + "print(p.read_text())"],
            volumes={volume: {"bind": "/runs", "mode": "ro"}},
            remove=True,
        )
        found: dict[str, Any] = json.loads(output)
        return found

    def remove(self) -> None:
        """Everything, volumes included."""
        self.run("down", "--volumes", "--timeout", "5")


def health_of(container: Container) -> str:
    """`starting`, `healthy` or `unhealthy`."""
    container.reload()
    found: str = container.attrs["State"].get("Health", {}).get("Status", "")
    return found


def crash(container: Container) -> None:
    """Kills the main process as a crash would; after `docker kill` no engine starts it again."""
    container.reload()
    os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)


def until(what: str, holds: Callable[[], bool], *, pause_seconds: float = 0.5) -> float:
    """Waits for a condition; answers how long, and fails by its name where it does not come."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE_SECONDS, f"{what} did not come about"
        time.sleep(pause_seconds)
    return time.monotonic() - began
