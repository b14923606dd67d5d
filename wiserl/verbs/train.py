"""`wiserl train`: everything on one machine."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from wiserl import launch, over_seeds
from wiserl.command_line import CommandLine, launched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from learner.outcome import Outcome
    from wiserl.flags import TrainFlags
    from wiserl.order import Order
    from wiserl.over_seeds import Ending

DESCRIPTION = (
    "Trains on this machine: the learner in this process, samplers as processes beside it. "
    "Every flag is also a WISERL_* variable, such as WISERL_TOTAL_STEPS."
)


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    line = CommandLine("train", arguments, local=True, description=DESCRIPTION)
    train: TrainFlags = line.sections["train"]
    if not train.seeds and not train.json:
        order = line.order()
        return launched(order, lambda: launch.train_locally(order, line.sections["local"]))
    seeds = over_seeds.parse(train.seeds) if train.seeds else (line.sections["run"].seed,)
    with _stdout_to_stderr() if train.json else contextlib.nullcontext():
        endings = _train(line, seeds)
        score = over_seeds.Score.over(endings)
        picture = over_seeds.picture(endings)
    for ending in endings:
        if ending.error is not None:
            print(f"wiserl: seed {ending.seed}: error: {ending.error}", file=sys.stderr)
    if train.json:
        document: dict[str, Any] = {
            "algorithm": line.algorithm,
            "env": line.sections["run"].env,
            "score": score.to_json() if score else None,
            "picture": str(picture) if picture else None,
            "runs": [ending.to_json() for ending in endings],
        }
        print(json.dumps(document, allow_nan=False))
    else:
        print("\n".join(over_seeds.table(endings, score)))
        if picture is not None:
            print(f"picture: {picture}")
    return over_seeds.exit_code(endings)


def _train(line: CommandLine, seeds: Sequence[int]) -> list[Ending]:
    def launch_one(order: Order) -> Outcome:
        return launch.train_locally(order, line.sections["local"])

    def say(text: str) -> None:
        if not line.sections["general"].quiet:
            print(text, flush=True)

    return over_seeds.train_each(seeds, line.order, launch_one, say)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Within it whatever is written to stdout, also by child processes, goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
