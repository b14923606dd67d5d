"""From observations to features: the project's own encoders, or a user's network."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from common import references, spaces
from common.errors import InvalidFieldError
from learner.networks.encoders import ObservationEncoder, ObservationPreprocessor

if TYPE_CHECKING:
    from collections.abc import Sequence

AUTO = "auto"


class RawObservations(nn.Module):
    """Hands every leaf on as it is: a network of a user's own sees raw observations."""

    normaliser = None

    def raw_numbers(self, leaves: Sequence[Tensor]) -> Tensor:
        """Nothing to take statistics of: [N, 0]."""
        return torch.zeros((len(leaves[0]), 0), device=leaves[0].device)

    def forward(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """Leaves `[N, *shape]`, unchanged."""
        return list(leaves)


class CustomEncoder(nn.Module):
    """A user's network between raw observations and features.

    It is called with the leaves of the observation space, in their order, `[N, *shape]` each in the
    dtype in which they travel (floats as float32), and returns [N, F] float32.

    Attributes:
        features: F, found by a call with zeros.
        learns: True.

    Raises:
        InvalidFieldError: The network cannot be called so, or does not return one tensor [N, F].
    """

    def __init__(self, network: nn.Module, leaves: Sequence[spaces.Leaf]) -> None:
        super().__init__()
        self.network = network
        self.learns = True
        probe = _called(network, [_zeros(leaf) for leaf in leaves])
        if not isinstance(probe, Tensor) or probe.ndim != 2 or len(probe) != 2:
            found = tuple(probe.shape) if isinstance(probe, Tensor) else type(probe).__name__
            raise InvalidFieldError(
                "network", f"returned {found} for 2 observations; return a tensor of [2, features]"
            )
        self.features = int(probe.shape[1])

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Leaves `[N, *shape]` to [N, F]."""
        features: Tensor = self.network(*parts)
        return features


Preprocessor: TypeAlias = ObservationPreprocessor | RawObservations
Encoder: TypeAlias = ObservationEncoder | CustomEncoder


def preprocessor_of(space: spaces.Space, *, network: str, normalise: bool) -> Preprocessor:
    """The stage without parameters, for `network` `auto` or `module:factory`."""
    if network != AUTO:
        return RawObservations()
    return ObservationPreprocessor(list(spaces.leaves(space).values()), normalise=normalise)


def encoder_of(space: spaces.Space, *, network: str) -> Encoder:
    """The stage with parameters, for `network` `auto` or `module:factory`.

    A factory takes the observation space (of common.spaces) and returns an `nn.Module` as
    `CustomEncoder` takes one.

    Raises:
        InvalidFieldError: There is no such factory, or its network does not return [N, F].
    """
    leaves = list(spaces.leaves(space).values())
    if network == AUTO:
        return ObservationEncoder(leaves)
    if not references.is_reference(network):
        raise InvalidFieldError("network", f"{network!r} is neither {AUTO!r} nor `module:factory`")
    made = references.call(
        references.load(network, "network"),
        (space,),
        {},
        reference=network,
        field="network",
        given="the observation space (of common.spaces)",
    )
    if not isinstance(made, nn.Module):
        raise InvalidFieldError(
            "network", f"{network!r} returned a {type(made).__name__}; return an nn.Module"
        )
    return CustomEncoder(made, leaves)


@torch.no_grad()
def _called(network: nn.Module, leaves: list[Tensor]) -> object:
    """What a user's network answers.

    Raises:
        InvalidFieldError: It fails; says what it was called with.
    """
    try:
        return network(*leaves)
    except Exception as error:
        fed = ", ".join(f"{str(one.dtype).removeprefix('torch.')} {[*one.shape]}" for one in leaves)
        raise InvalidFieldError(
            "network",
            f"{type(network).__name__} was called with ({fed}), a tensor for each leaf of the "
            f"observation space, and failed: {type(error).__name__}: {error}",
        ) from error


def _zeros(leaf: spaces.Leaf) -> Tensor:
    """Two observations that the space has: zeros, or the first number of a Discrete."""
    zeros = np.zeros((2, *leaf.shape), np.float32 if leaf.dtype.kind == "f" else leaf.dtype)
    if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
        zeros += np.asarray(leaf.start, leaf.dtype)
    return torch.from_numpy(zeros)
