"""Tensors of a training state under dotted names, and back in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

_OTHER = "the state is of another algorithm, environment or network"


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Copies tensors under `<prefix>.` into a module, in place.

    Raises:
        InvalidFieldError: A tensor is of another shape.
    """
    copy_tensors(module.state_dict(keep_vars=True), tensors, prefix)


def copy_tensors(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Copies tensors under `<prefix>.` into `targets`, in place; all must be there.

    Raises:
        InvalidFieldError: A tensor is of another shape.
    """
    copy_all(prefixed(prefix, targets), tensors)


def copy_all(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copies tensors into `targets` of the same names, in place; all must be there.

    Raises:
        InvalidFieldError: A tensor is of another shape.
    """
    for name, target in targets.items():
        found = tensors[name]
        if found.shape != target.shape:
            raise InvalidFieldError(
                name,
                f"is of shape {tuple(found.shape)}, needed is {tuple(target.shape)}; {_OTHER}",
            )
        with torch.no_grad():
            target.copy_(found)


def refuse_other_names(tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> None:
    """Refuses a state that is not of the same names.

    Raises:
        InvalidFieldError: Tensors are missing, or there are some that nothing takes.
    """
    for text, names in (
        ("is missing", needed.keys() - tensors.keys()),
        ("is not part of this algorithm", tensors.keys() - needed.keys()),
    ):
        if names:
            raise InvalidFieldError(min(names), f"{text} ({len(names)} such); {_OTHER}")


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `<prefix>.`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those under `<prefix>.`, without it."""
    start = f"{prefix}."
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }
