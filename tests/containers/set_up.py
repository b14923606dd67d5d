"""What container tests need of the machine, put there by a script."""

import os
import subprocess
from pathlib import Path

import pytest


def done_by(script: str) -> None:
    """Runs a script beside this file; where it fails the test is skipped, and in CI it fails."""
    found = subprocess.run(
        [Path(__file__).parent / script], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(found.stderr)
        pytest.skip(found.stderr.strip().splitlines()[-1])
