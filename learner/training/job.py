"""What to train, and where."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

from common.errors import InvalidFieldError
from learner.totals import Header, MemoryHeader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from learner.algorithms.base import Algorithm
    from learner.checkpoints import Checkpoint
    from learner.config import RunConfig
    from learner.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Job:
    """What to train.

    Attributes:
        config: The run's settings.
        algorithm: The class.
        hyperparameters: An instance of its `Config`.
        device: Where it computes, as `device_of` gives it.
        folder: Where the record goes.
        graphs: The cache of exported graphs; None for no cache.
        header: What outlives this process; the front's own.
        resumed: The training state to go on from, of the same run.
        initial: Tensors of another run's training state to begin with.
        failure: Says why the front was drained, where that was no wish but an error.
    """

    config: RunConfig
    algorithm: type[Algorithm[Any]]
    hyperparameters: Any
    device: torch.device
    folder: RunFolder
    graphs: Path | None
    header: Header = dataclasses.field(default_factory=MemoryHeader)
    resumed: Checkpoint | None = None
    initial: Mapping[str, torch.Tensor] | None = None
    failure: Callable[[], str | None] = lambda: None


def device_of(name: str) -> torch.device:
    """The device of a setting: `cpu`, `cuda`, `cuda:N`, or `auto` for CUDA where there is any.

    Raises:
        InvalidFieldError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidFieldError(
            "device", f"{name!r} is none; use auto, cpu, cuda or cuda:N"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidFieldError(
            "device", f"{name} is not there: torch sees no CUDA device; use cpu"
        )
    return device
