"""Critics that see the observations and actions of all agents, one for each agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from learner.networks.stacked_mlp import StackedMLP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.networks.bodies import Activation


class JointCritic(nn.Module):
    """Q_i(x, a_1, ..., a_A) for each of A agents, where x are the observations of all.

    Args:
        agents: A.
        features: F, numbers of an agent's observation.
        actions: U, numbers of an agent's action.
        hidden_sizes: Hidden layers of each critic.
        activation: Of the hidden layers.

    Attributes:
        layers: The critics.
    """

    def __init__(
        self,
        agents: int,
        features: int,
        actions: int,
        *,
        hidden_sizes: Sequence[int],
        activation: Activation,
    ) -> None:
        super().__init__()
        self._agents, self._actions = agents, actions
        self.layers = StackedMLP(
            agents,
            agents * (features + actions),
            hidden_sizes,
            1,
            activation=activation,
            head_gain=1.0,
        )

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The values [A, M] of observations [A, M, F] and actions [A, M, U]."""
        values: Tensor = self.layers(_joint(observations, actions)).squeeze(2)
        return values

    def of_own(self, observations: Tensor, actions: Tensor, own: Tensor) -> Tensor:
        """The values [A, M], with each agent's own action another one for its own critic alone.

        The first layer is computed once for what all critics see; what an own action changes in it
        is added. No gradient goes into the critics, nor into `actions`.

        Args:
            observations: [A, M, F].
            actions: [A, M, U], which the critics of the others see.
            own: [A, M, U], in the place of an agent's own.
        """
        with torch.no_grad():
            weight, bias = self.layers.weights[0], self.layers.biases[0]
            seen = torch.matmul(_joint(observations, actions), weight) + bias
            of_actions = weight[:, -self._agents * self._actions :]
            shape = (self._agents, self._agents, self._actions, -1)
            of_own = of_actions.reshape(shape).diagonal().permute(2, 0, 1)
        changed = seen + torch.matmul(own - actions, of_own)
        return self.layers.frozen_behind(changed).squeeze(2)


def _joint(observations: Tensor, actions: Tensor) -> Tensor:
    """[M, A F + A U]."""
    return torch.cat([each.transpose(0, 1).flatten(1) for each in (observations, actions)], 1)
