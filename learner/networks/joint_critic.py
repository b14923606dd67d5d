"""Critics that see the observations and actions of all agents, one for each agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from learner.networks.stacked_mlp import StackedMLP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.networks.agent_features import AgentFeatures
    from learner.networks.bodies import Activation


class JointCritic(nn.Module):
    """Q_i(x, a_1, ..., a_A) for each of A agents, where x are the observations of all.

    Args:
        agents: A.
        seen: Observations of all agents to F features each, the same for all critics.
        actions: U, numbers of an agent's action.
        hidden_sizes: Hidden layers of each critic.
        activation: Of the hidden layers.

    Attributes:
        layers: The critics.
    """

    def __init__(
        self,
        agents: int,
        seen: AgentFeatures,
        actions: int,
        *,
        hidden_sizes: Sequence[int],
        activation: Activation,
    ) -> None:
        super().__init__()
        self._agents, self._actions = agents, actions
        self.seen = seen
        self.layers = StackedMLP(
            agents,
            agents * (seen.features + actions),
            hidden_sizes,
            1,
            activation=activation,
            head_gain=1.0,
        )

    def forward(self, parts: Sequence[Tensor], acting: Tensor, actions: Tensor) -> Tensor:
        """The values of what agents observe and do.

        Args:
            parts: What `seen` takes, `[M, ...]`.
            acting: [A, M, 1], 1 for agents that act; the others are zeros to critics.
            actions: [A, M, U].

        Returns:
            [A, M].
        """
        values: Tensor = self.layers(self._joint(parts, acting, actions)).squeeze(2)
        return values

    def of_own(
        self, parts: Sequence[Tensor], acting: Tensor, actions: Tensor, own: Tensor
    ) -> Tensor:
        """The values [A, M], with each agent's own action another one for its own critic alone.

        The first layer is computed once for what all critics see; what an own action changes in it
        is added. No gradient goes into the critics, nor into `actions`.

        Args:
            parts: As above.
            acting: As above.
            actions: [A, M, U], which the critics of the others see.
            own: [A, M, U], in the place of an agent's own.
        """
        with torch.no_grad():
            weight, bias = self.layers.weights[0], self.layers.biases[0]
            seen = torch.matmul(self._joint(parts, acting, actions), weight) + bias
            of_actions = weight[:, -self._agents * self._actions :]
            shape = (self._agents, self._agents, self._actions, -1)
            of_own = of_actions.reshape(shape).diagonal().permute(2, 0, 1)
        changed = seen + torch.matmul(own - actions, of_own)
        return self.layers.frozen_behind(changed).squeeze(2)

    @torch.no_grad()
    def clip_gradients(self, norm: float | None) -> Tensor:
        """Scales the gradient of each critic down to a norm, and that of what they see through.

        Returns:
            [A], the norms of critics before.
        """
        if norm is not None and self.seen.learns:
            nn.utils.clip_grad_norm_(self.seen.parameters(), norm)
        return self.layers.clip_gradients(norm)

    def _joint(self, parts: Sequence[Tensor], acting: Tensor, actions: Tensor) -> Tensor:
        """[M, A F + A U]."""
        observed = self.seen(parts) * acting.transpose(0, 1)
        return torch.cat([observed.flatten(1), actions.transpose(0, 1).flatten(1)], 1)
