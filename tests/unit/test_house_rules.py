"""Rules of the house that no linter knows, read off the sources and off what an import brings."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("common", "learner", "sampler", "wiserl", "scripts", "examples", "benchmarks")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

# Whatever unpickles runs what it is sent. multiprocessing pickles what it carries.
BANNED_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "multiprocessing",
    "torch.multiprocessing",
}
BANNED_CALLS = {
    "torch.load": "safetensors",
    "torch.save": "safetensors",
    "torch.jit.load": "ONNX",
    "torch.package": "ONNX",
    "yaml.load": "yaml.safe_load",
    "yaml.load_all": "yaml.safe_load",
    "yaml.unsafe_load": "yaml.safe_load",
    "yaml.full_load": "yaml.safe_load",
    "pandas.read_pickle": "CSV or JSON",
    "ProcessPoolExecutor": "subprocess",
}


def violations(source: str) -> Iterator[str]:
    """What in a source could execute what it reads, with its line."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                modules = [name.name for name in names]
            case ast.ImportFrom(module=str(module), names=names):
                modules = [module, *(f"{module}.{name.name}" for name in names)]
            case ast.Attribute() | ast.Name():
                modules = [ast.unparse(node)]
            case ast.keyword(arg="allow_pickle", value=value):
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield f"line {value.lineno}: allow_pickle={ast.unparse(value)}"
                continue
            case _:
                continue
        is_import = isinstance(node, ast.Import | ast.ImportFrom)
        for module in modules:
            if module in BANNED_CALLS:
                yield f"line {node.lineno}: {module}, use {BANNED_CALLS[module]}"
            if is_import and (module in BANNED_MODULES or module.split(".")[0] in BANNED_MODULES):
                yield f"line {node.lineno}: import of {module}"


def test_nothing_unpickles():
    found = {
        f"{path.relative_to(ROOT)} {violation}"
        for path in SOURCES
        for violation in violations(path.read_text())
    }
    assert SOURCES
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import torch, cloudpickle as c",
        "from multiprocessing.pool import Pool",
        "from torch import load",
        "def f():\n    import marshal",
        "torch.load(path, weights_only=True)",
        "save = torch.save",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "from yaml import unsafe_load",
        "from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor()",
    ],
)
def test_what_could_unpickle_is_noticed(source):
    assert list(violations(source))


@pytest.mark.parametrize(
    "source",
    ["np.load(path, allow_pickle=False)", "yaml.safe_load(text)", "'pickle'", "import json"],
)
def test_what_is_harmless_is_not_noticed(source):
    assert not list(violations(source))


def test_no_module_outgrows_its_room():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCES
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_every_module_is_a_room_with_a_name():
    anything = {"utils", "util", "helpers", "helper", "misc", "manager", "managers"}
    assert [path for path in SOURCES if anything & {path.stem, *path.parent.parts}] == []


# Refuses the modules named, then imports every module of the packages (or the modules) named.
IMPORTER = textwrap.dedent("""
    import importlib, importlib.util, pkgutil, sys

    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in refused:
                raise ModuleNotFoundError(f"{name} is refused", name=name)

    refused, names = (argument.split(",") for argument in sys.argv[1:])
    sys.meta_path.insert(0, Refuse())
    for name in names:
        module = importlib.import_module(name)
        for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    print("\\n".join(sys.modules))
""")


def import_without(refused: str, names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IMPORTER, refused, names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        ("sampler,common", "torch,onnx,onnxscript,learner"),
        ("learner,common", "gymnasium,pettingzoo,mpe2,sampler"),
        ("learner.algorithms,learner.networks,learner.losses,learner.experience", "grpc"),
        ("sampler.nursery", "grpc,torch"),
        ("sampler.supervisor", "onnxruntime,gymnasium"),
        ("wiserl.cli", "torch,onnx,onnxruntime,gymnasium,grpc"),
    ],
)
def test_it_imports_without(names, refused):
    result = import_without(refused, names)
    assert result.returncode == 0, result.stderr


def test_a_refused_import_is_noticed():
    result = import_without("numpy", "common")
    assert "numpy is refused" in result.stderr


def test_the_importer_walks_into_packages():
    modules = import_without("torch", "common").stdout.split()
    assert {"common.tensors", "common.signature"} <= set(modules)
