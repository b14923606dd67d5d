"""From the values of agents to the value of their team."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SumMixer(nn.Module):
    """Q_tot = sum_a Q_a: value decomposition networks.

    Sunehag et al. 2018, https://arxiv.org/abs/1706.05296, eq. 3. It looks at no state.
    """

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Values [N, A] and states [N, S] to [N]."""
        del state
        return values.sum(1)


class MonotonicMixer(nn.Module):
    """Q_tot = w_2(s)' elu(W_1(s) q + b_1(s)) + v(s), where no entry of W_1 and w_2 is negative.

    So no agent's value can grow and the team's fall, and the greedy action of each is that of the
    team. Rashid et al. 2018, https://arxiv.org/abs/1803.11485, section 4; with the two-layer
    hypernetworks of Rashid et al. 2020 (https://arxiv.org/abs/2003.08839).

    Args:
        agents: A.
        state: S, the width of the global state.
        embedding: E, the width of the hidden layer.
        hypernetwork: The width of the hypernetworks' own hidden layer.
    """

    def __init__(self, agents: int, state: int, *, embedding: int, hypernetwork: int) -> None:
        super().__init__()
        self._agents, self._embedding = agents, embedding
        self.first_weights = _hypernetwork(state, hypernetwork, agents * embedding)
        self.first_bias = nn.Linear(state, embedding)
        self.second_weights = _hypernetwork(state, hypernetwork, embedding)
        self.second_bias = _hypernetwork(state, embedding, 1)

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Values [N, A] and states [N, S] to [N]."""
        first: Tensor = self.first_weights(state).abs()
        bias: Tensor = self.first_bias(state)
        # A batched product of matrices as small as these takes twice as long.
        weighted = values.unsqueeze(2) * first.view(-1, self._agents, self._embedding)
        hidden = F.elu(weighted.sum(1) + bias)
        second: Tensor = self.second_weights(state).abs()
        offset: Tensor = self.second_bias(state)
        return (hidden * second).sum(1) + offset.squeeze(1)


def _hypernetwork(state: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(state, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
