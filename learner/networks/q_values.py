"""Action values from observations, and epsilon-greedy actions from values."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from learner.networks.bodies import Activation, activation_layer, mlp, orthogonal
from learner.networks.distributions import available

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.networks.observations import Encoder


class QNetwork(nn.Module):
    """Preprocessed observations to the value of each action.

    Args:
        encoder: The stage with parameters that depends on the observation space.
        actions: A, how many there are.
        hidden_sizes: Hidden layers behind the encoder.
        activation: Of the hidden layers.
        dueling: See `DuelingHead`; the last hidden layer is then one of each stream.
    """

    def __init__(
        self,
        encoder: Encoder,
        actions: int,
        *,
        hidden_sizes: Sequence[int],
        activation: Activation,
        dueling: bool,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head: nn.Module
        if dueling:
            self.head = DuelingHead(
                encoder.features, actions, hidden_sizes=hidden_sizes, activation=activation
            )
        else:
            self.head = mlp(
                encoder.features, hidden_sizes, actions, activation=activation, head_gain=1.0
            )

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """What a preprocessor gives, to [N, A] float32."""
        values: Tensor = self.head(self.encoder(parts))
        return values


class DuelingHead(nn.Module):
    """Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a'), over shared layers and a stream each.

    Wang et al. 2016, https://arxiv.org/abs/1511.06581, eq. 9.
    """

    def __init__(
        self, features: int, actions: int, *, hidden_sizes: Sequence[int], activation: Activation
    ) -> None:
        super().__init__()
        *shared, last = (features, *hidden_sizes)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(shared):
            layers += [orthogonal(nn.Linear(before, after)), activation_layer(activation)]
        self.shared = nn.Sequential(*layers)
        streams = (last,) if hidden_sizes else ()
        width = shared[-1] if hidden_sizes else last
        self.value = mlp(width, streams, 1, activation=activation, head_gain=1.0)
        self.advantages = mlp(width, streams, actions, activation=activation, head_gain=1.0)

    def forward(self, features: Tensor) -> Tensor:
        """[N, features] to [N, A]."""
        shared = self.shared(features)
        advantages = self.advantages(shared)
        values: Tensor = self.value(shared) + (advantages - advantages.mean(1, keepdim=True))
        return values


class Choice(NamedTuple):
    """Numbers of actions from 0 on, [N] int64 both.

    Attributes:
        action: What to do while exploring.
        greedy: The action of the highest value.
    """

    action: Tensor
    greedy: Tensor


def noise_width(actions: int, *, masked: bool) -> int:
    """How many uniform numbers `epsilon_greedy` takes."""
    return 1 + (actions if masked else 1)


def epsilon_greedy(values: Tensor, epsilon: Tensor, noise: Tensor, mask: Tensor | None) -> Choice:
    """The best action, or with probability epsilon one at random, all available ones alike.

    A graph holds no random operator. The first number of the noise decides whether to explore.
    Without a mask the second one gives the action. With a mask there is one number for each
    action, and the largest of those that are available wins. A mask that allows nothing gives any
    action.

    Args:
        values: [N, A].
        epsilon: [N].
        noise: [N, `noise_width`], uniform in (0, 1).
        mask: [N, A] bool, or None.
    """
    greedy = available(values, mask).argmax(1)
    if mask is None:
        # A float32 below 1 times A stays below A for every A.
        random = (noise[:, 1] * values.shape[1]).to(torch.int64)
    else:
        random = (noise[:, 1:] + mask.to(noise.dtype)).argmax(1)
    return Choice(torch.where(noise[:, 0] < epsilon, random, greedy), greedy)
