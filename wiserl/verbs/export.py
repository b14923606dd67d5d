"""`wiserl export`: a trained policy as a file for use elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path  # noqa: TC003 - flags are made from the types
from typing import TYPE_CHECKING, Annotated

import tyro

from common.errors import InvalidFieldError
from wiserl import parsing, runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.signature import GraphTensor
    from learner.policy_file import SavedPolicy
    from wiserl.export import Export

ENDING = ".onnx"


@dataclasses.dataclass(frozen=True)
class ExportFlags:
    """Writes a run's newest policy as an ONNX model of the action alone, and checks it.

    The model takes raw observations (normalisation is inside) in batches of any size; a JSON file
    beside it says how to feed it, with an example. Needs no torch. Exit codes: 0 written; 1 no
    policy, or it cannot be written; 2 a flag that cannot be.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder, or one above it: then it is the newest run there."""

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE.onnx")] = None
    """Where the model goes; the run's export/policy.onnx by default."""

    stochastic: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The actions of training, exploration included, instead of greedy ones."""


FLAGS = ExportFlags


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    parsed = parsing.one(ExportFlags, arguments, program="wiserl export")
    folder = runs.chosen(parsed.run)
    runs.tell(parsed.run, folder.path)
    path = parsed.output or folder.path / "export" / "policy.onnx"
    if path.suffix != ENDING:
        raise InvalidFieldError("output", f"{path} does not end in {ENDING}")
    if path.resolve() == folder.policy_model.resolve():
        raise InvalidFieldError(
            "output", f"{path} is the run's own policy, which resuming and eval need; name another"
        )
    from learner import policy_file
    from wiserl.export import export

    saved = policy_file.load(folder)
    exported = export(saved, stochastic=parsed.stochastic)
    description = exported.write(path)
    print("\n".join(_described(saved, exported, path, description)))
    return 0


def _described(
    saved: SavedPolicy, exported: Export, path: Path, description: Path
) -> Iterator[str]:
    from wiserl.export import CHECKED

    what = f"{saved.algorithm} on {saved.environment.id}"
    when = f"policy {saved.version} after {saved.environment_steps:,} steps"
    yield f"{path}: {what}, {when}, {len(exported.model):,} bytes"
    for direction, tensors in (("in", exported.inputs), ("out", exported.outputs)):
        yield from (f"  {direction:<4}{_tensor(tensor)}" for tensor in tensors)
    yield f"{description}: how to feed it"
    yield f"checked: it answers {CHECKED} random inputs as the run's own policy does"


def _tensor(tensor: GraphTensor) -> str:
    shape = ", ".join(["batch", *map(str, tensor.shape)])
    return f"{tensor.name}: {tensor.dtype.name} [{shape}]"
