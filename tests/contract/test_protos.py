"""The contract's own rules: buf lint, no breaking change since the baseline, stubs as generated."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
BUF = Path(sysconfig.get_path("scripts")) / "buf"


def buf(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BUF, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(PROTOS, tmp_path / "protos", ignore=shutil.ignore_patterns("*.py*"))
    return tmp_path


def edit(copy: Path, name: str, old: str, new: str) -> None:
    path = copy / "protos/wiserl/v1" / name
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} is not there exactly once"
    path.write_text(text.replace(old, new))


def test_the_protos_pass_buf_lint_and_are_formatted():
    assert buf(ROOT, "lint").stdout == ""
    assert buf(ROOT, "format", "--diff", "--exit-code").stdout == ""


def test_nothing_breaks_a_peer_of_the_baseline():
    result = buf(ROOT, "breaking", "--against", "protos/baseline.binpb")
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("tensor.proto", "bytes data = 3;", "bytes data = 4;"),
        ("tensor.proto", "repeated uint64 shape = 2;", "repeated uint32 shape = 2;"),
        ("grant.proto", "  FinishGrant finish = 4;\n", ""),
        ("learner.proto", "returns (stream WatchRunResponse)", "returns (WatchRunResponse)"),
    ],
)
def test_a_breaking_change_is_noticed(copy, name, old, new):
    edit(copy, name, old, new)
    result = buf(copy, "breaking", "--against", "protos/baseline.binpb")
    assert result.returncode != 0
    assert name in result.stdout


def test_an_addition_breaks_nothing(copy):
    edit(copy, "tensor.proto", "bytes data = 3;", "bytes data = 3;\n  string note = 4;")
    result = buf(copy, "breaking", "--against", "protos/baseline.binpb")
    assert (result.returncode, result.stdout) == (0, "")


def test_an_unfit_name_is_noticed(copy):
    edit(copy, "tensor.proto", "bytes data = 3;", "bytes Data = 3;")
    assert "lower_snake_case" in buf(copy, "lint").stdout


def drift(root: Path) -> subprocess.CompletedProcess[str]:
    script = root / "scripts/generate_protos.py"
    return subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_stubs_are_what_the_protos_generate():
    result = drift(ROOT)
    assert (result.returncode, result.stderr) == (0, "")


def test_drift_is_noticed(tmp_path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/generate_protos.py", tmp_path / "scripts")
    shutil.copytree(PROTOS, tmp_path / "protos")
    edit(tmp_path, "tensor.proto", "bytes data = 3;", "bytes data = 3;\n  string note = 4;")
    (tmp_path / "protos/wiserl/v1/grant_pb2.pyi").unlink()
    (tmp_path / "protos/wiserl/v1/orphan_pb2.py").write_text("")
    result = drift(tmp_path)
    assert result.returncode == 1
    for name in ("tensor_pb2.py", "tensor_pb2.pyi", "grant_pb2.pyi", "orphan_pb2.py"):
        assert name in result.stderr


def test_every_rpc_says_which_status_codes_it_answers():
    lines = (PROTOS / "wiserl/v1/learner.proto").read_text().splitlines()
    calls = [number for number, line in enumerate(lines) if line.startswith("  rpc ")]
    assert calls
    for number in calls:
        above = itertools.takewhile(lambda line: line.startswith("  //"), reversed(lines[:number]))
        codes = "INVALID_ARGUMENT|FAILED_PRECONDITION|RESOURCE_EXHAUSTED"
        assert re.search(codes, "\n".join(above)), lines[number]
