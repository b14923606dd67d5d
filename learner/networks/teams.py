"""Several agents and the networks that they share: who has which, what goes in, what comes out.

Agents are numbered group after group, as `EnvironmentSpec.agents` names them. A *policy* is a
network that one agent has or several share. What agents of different spaces share is as wide as the
widest of them: narrower ones are filled up with zeros here, inside the graph, and an agent's own
number among those that share, as a one-hot vector, tells the network which one it is.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common import spaces
from common.errors import UnsupportedSpaceError
from common.signature import ColumnKey, Role
from learner.networks.encoders import ObservationEncoder, ObservationPreprocessor
from learner.networks.images import is_picture
from learner.networks.observations import encoder_of, preprocessor_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.specs import EnvironmentSpec

Members: TypeAlias = tuple[int, ...]
"""The numbers of the agents that share a policy, ascending."""


class TeamObservations(nn.Module):
    """The raw observations of all groups to vectors, and to what each policy is fed.

    Args:
        spec: The environment's.
        policies: Who shares a network.
        network: `auto`, or `module:factory` for a user's encoder of a group's observations.
        told_apart: Whether those that share a policy are told apart here, by their numbers.

    Attributes:
        parts: How many tensors the preprocessors of all groups give.
        features: The width of what each policy is fed, its agents' numbers included.
        widths: How many features each agent's own observation has.
        learns: Whether there is anything to learn in it.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        policies: Sequence[Members],
        network: str,
        *,
        told_apart: bool = True,
    ) -> None:
        super().__init__()
        self._leaves = [len(spaces.leaves(group.observation)) for group in spec.groups]
        self._sizes = [len(group.agents) for group in spec.groups]
        self.preprocess = nn.ModuleList(
            preprocessor_of(group.observation, network=network, normalise=False)
            for group in spec.groups
        )
        self._parts = [
            preprocess.parts if isinstance(preprocess, ObservationPreprocessor) else leaves
            for preprocess, leaves in zip(self.preprocess, self._leaves, strict=True)
        ]
        self.parts = sum(self._parts)
        group_of = [i for i, size in enumerate(self._sizes) for _ in range(size)]
        starts = [sum(self._sizes[:i]) for i in range(len(self._sizes))]
        self._taken: list[list[tuple[int, list[int]]]] = []
        self.encoders = nn.ModuleList()
        self.features: list[int] = []
        self.widths = [0] * len(group_of)
        self.learns = False
        for members in policies:
            groups = sorted({group_of[number] for number in members})
            taken = [(g, [n - starts[g] for n in members if group_of[n] == g]) for g in groups]
            encoders = [encoder_of(spec.groups[g].observation, network=network) for g in groups]
            self._taken.append(taken)
            self.encoders.append(nn.ModuleList(encoders))
            ids = len(members) if told_apart and len(members) > 1 else 0
            self.features.append(max(encoder.features for encoder in encoders) + ids)
            for number in members:
                self.widths[number] = encoders[groups.index(group_of[number])].features
            self.learns = self.learns or any(encoder.learns for encoder in encoders)
            eye = torch.eye(len(members)) if ids else torch.zeros(1, 0)
            self.register_buffer(f"ids_{len(self._taken) - 1}", eye, persistent=False)

    def forward(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """Leaves `[N, n, *shape]`, group after group, to `[N, k, features]` for each policy."""
        return self.encode(self.preprocessed(leaves))

    def preprocessed(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """What the preprocessors give, group after group, `[N, n, ...]`."""
        found: list[Tensor] = []
        for preprocess, own, size in zip(
            self.preprocess, _split(leaves, self._leaves), self._sizes, strict=True
        ):
            parts = preprocess([leaf.reshape(-1, *leaf.shape[2:]) for leaf in own])
            found += [part.reshape(-1, size, *part.shape[1:]) for part in parts]
        return found

    def encode(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """What `preprocessed` gives to `[N, k, features]` for each policy."""
        by_group = _split(parts, self._parts)
        return [self._of_policy(policy, by_group) for policy in range(len(self._taken))]

    def _of_policy(self, policy: int, parts: Sequence[Sequence[Tensor]]) -> Tensor:
        ids: Tensor = getattr(self, f"ids_{policy}")
        width = self.features[policy] - ids.shape[1]
        encoded = []
        encoders = cast("nn.ModuleList", self.encoders[policy])
        for encoder, (group, places) in zip(encoders, self._taken[policy], strict=True):
            whole = len(places) == self._sizes[group]
            own = [part if whole else part[:, places] for part in parts[group]]
            features = encoder([part.reshape(-1, *part.shape[2:]) for part in own])
            features = features.reshape(-1, len(places), features.shape[1])
            encoded.append(padded(features, width))
        joined = encoded[0] if len(encoded) == 1 else torch.cat(encoded, 1)
        if not ids.shape[1]:
            return joined
        return torch.cat((joined, ids.expand(joined.shape[0], -1, -1)), 2)


def _split(tensors: Sequence[Tensor], counts: Sequence[int]) -> list[Sequence[Tensor]]:
    ends = list(itertools.accumulate(counts))
    return [tensors[end - count : end] for end, count in zip(ends, counts, strict=True)]


def has_pictures(space: spaces.Space) -> bool:
    """Whether a space has images of more pixels than networks without convolutions can use."""
    return any(is_picture(leaf) for leaf in spaces.leaves(space).values())


def padded(numbers: Tensor, width: int) -> Tensor:
    """[..., U] with zeros behind up to a width."""
    missing = width - numbers.shape[-1]
    return F.pad(numbers, (0, missing)) if missing else numbers


def in_order(of_policies: Sequence[Tensor], policies: Sequence[Members]) -> Tensor:
    """`[N, k, W]` of each policy to [N, A, W max] of all agents by their numbers, zeros behind."""
    if len(of_policies) == 1:
        return of_policies[0]
    widest = max(tensor.shape[2] for tensor in of_policies)
    joined = torch.cat([padded(one, widest) for one in of_policies], 1)
    numbers = [number for members in policies for number in members]
    if numbers == sorted(numbers):
        return joined
    return joined[:, [numbers.index(number) for number in range(len(numbers))]]


class TeamState(nn.Module):
    """What is known of the whole environment, as a vector.

    Args:
        spec: The environment's.
        from_observations: Takes what all agents observe side by side; else the global state.

    Attributes:
        keys: Of the columns it is made from, in the order of `forward`.
        width: S.

    Raises:
        UnsupportedSpaceError: There is no such state, or it has images.
    """

    def __init__(self, spec: EnvironmentSpec, *, from_observations: bool) -> None:
        super().__init__()
        if not from_observations and spec.global_state is None:
            raise UnsupportedSpaceError(
                "the environment has no global state; set state to observations, or give it a "
                "state_space and a state()"
            )
        sources = [
            (Role.OBSERVATION, group.name, group.observation, len(group.agents))
            for group in spec.groups
        ]
        if not from_observations and spec.global_state is not None:
            sources = [(Role.GLOBAL_STATE, "", spec.global_state, 1)]
        self.keys = [
            ColumnKey(role, name, path)
            for role, name, space, _ in sources
            for path in spaces.leaves(space)
        ]
        self._leaves = [list(spaces.leaves(space).values()) for _, _, space, _ in sources]
        self.preprocess = nn.ModuleList(
            ObservationPreprocessor(leaves, normalise=False, convolved=is_picture)
            for leaves in self._leaves
        )
        encoders = [ObservationEncoder(leaves, is_picture) for leaves in self._leaves]
        if any(encoder.learns for encoder in encoders):
            source = "what agents observe" if from_observations else "the global state"
            raise UnsupportedSpaceError(
                f"the state of all must be numbers, and {source} has images; give the environment "
                "a state() without"
            )
        counts = [count for *_, count in sources]
        self.width = sum(e.features * n for e, n in zip(encoders, counts, strict=True))

    def forward(self, columns: Sequence[Tensor]) -> Tensor:
        """Columns `[N, ...]` in the order of `keys` to [N, S]."""
        found, start = [], 0
        for preprocess, leaves in zip(self.preprocess, self._leaves, strict=True):
            own = [
                column.reshape(-1, *leaf.shape)
                for column, leaf in zip(columns[start:], leaves, strict=False)
            ]
            (vector,) = preprocess(own)
            found.append(vector.reshape(len(columns[start]), -1))
            start += len(leaves)
        return torch.cat(found, 1)
