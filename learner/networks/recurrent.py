"""A gated recurrent unit that forgets at the begin of an episode: one row at a time, or sequences.

Cho et al. 2014, https://arxiv.org/abs/1406.1078, in the variant that `torch.nn.GRU` computes: the
reset gate acts behind the product with the state. Samplers run one row at a time, as a part of the
policy's graph; the learner runs the same over whole fragments.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from learner.networks.bodies import orthogonal


class Memory(nn.Module):
    """What a policy remembers of an episode, over the features of an encoder.

        r, z = sigmoid(W_rz x + U_rz h + b),  n = tanh(W_n x + b_n + r (U_n h + c_n))
        h'   = (1 - z) n + z h

    with h = 0 where an episode begins. What it has as features is h'.

    Args:
        inputs: F, the width of the encoder's features.
        units: H, the width of the state.

    Attributes:
        features: H.
        learns: True, as of an encoder: hidden layers behind it have to be asked for.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.features = units
        self.learns = True
        self.from_inputs = nn.Linear(inputs, 3 * units)
        self.from_state = nn.Linear(units, 3 * units)
        for layer in (self.from_inputs, self.from_state):
            orthogonal(layer, 1.0)

    def forward(self, features: Tensor, state: Tensor, reset: Tensor) -> Tensor:
        """One row: [N, F], the state before it [N, H] and [N] bool, to the state after it."""
        kept = torch.where(reset.unsqueeze(1), 0.0, state)
        inputs, hidden = self.from_inputs(features), self.from_state(kept)
        units = self.features
        gates = torch.sigmoid(inputs[:, : 2 * units] + hidden[:, : 2 * units])
        candidate = torch.tanh(inputs[:, 2 * units :] + gates[:, :units] * hidden[:, 2 * units :])
        return candidate + gates[:, units:] * (kept - candidate)

    def unroll(self, features: Tensor, state: Tensor, reset: Tensor) -> Tensor:
        """T rows of B slots, one after the other.

        Args:
            features: [T, B, F].
            state: [B, H], before the first row; it gets no gradient.
            reset: [T, B] bool, rows that begin an episode.

        Returns:
            [T, B, H], the state after every row.
        """
        states: Tensor = _Unroll.apply(  # type: ignore[no-untyped-call]
            self.from_inputs(features),
            state,
            reset.unsqueeze(2),
            self.from_state.weight,
            self.from_state.bias,
        )
        return states


class _Unroll(torch.autograd.Function):
    """All rows with the gradient by hand (backpropagation through time, without truncation).

    A kernel costs more than its arithmetic here, and autograd as much again for each of them. On a
    processor this is as fast as `torch.nn.GRU` or faster, by up to 3 times where slots are few, and
    it knows of resets, which that does not.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd gives no names
        ctx: Any,  # noqa: ANN401 - has whatever is set
        inputs: Tensor,
        state: Tensor,
        reset: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        """[T, B, 3 H] (from the features), [B, H], [T, B, 1], [3 H, H], [3 H] to [T, B, H]."""
        shape = (*inputs.shape[:2], state.shape[1])
        states, kept, candidates = (inputs.new_empty(shape) for _ in range(3))
        hidden, gates = torch.empty_like(inputs), inputs.new_empty((*shape[:2], 2 * shape[2]))
        sizes, transposed, zero = [2 * shape[2], shape[2]], weight.t(), state.new_zeros(())
        rows = zip(
            *(tensor.unbind() for tensor in (states, kept, candidates, hidden, gates, reset)),
            *(
                part.unbind()
                for part in (*torch.split(inputs, sizes, 2), *torch.split(hidden, sizes, 2))
            ),
            *(part.unbind() for part in gates.chunk(2, 2)),
            strict=True,
        )
        for after, before, new, sums, both, first, x_rz, x_n, h_rz, h_n, r, z in rows:
            torch.where(first, zero, state, out=before)
            torch.addmm(bias, before, transposed, out=sums)
            torch.add(x_rz, h_rz, out=both).sigmoid_()
            torch.addcmul(x_n, r, h_n, out=new).tanh_()
            state = torch.lerp(new, before, z, out=after)
        ctx.save_for_backward(kept, candidates, hidden, gates, reset, weight)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        """The gradient in the states [T, B, H] to those in the inputs, weight and bias."""
        kept, candidates, hidden, gates, reset, weight = ctx.saved_tensors
        units = kept.shape[2]
        r, z = gates.chunk(2, 2)
        by_candidate = (1.0 - z) * (1.0 - candidates.square())
        by_z = (kept - candidates) * z * (1.0 - z)
        by_r = hidden[..., 2 * units :] * r * (1.0 - r)
        slopes = torch.empty_like(hidden)  # of what came from the state
        slopes_n = torch.empty_like(kept)  # of the candidate's part that came from the features
        rows = zip(
            *(tensor.unbind() for tensor in (slope, by_candidate, by_z, by_r, r, z)),
            *(tensor.unbind() for tensor in (reset, slopes, slopes_n)),
            *(part.unbind() for part in slopes.chunk(3, 2)),
            strict=True,
        )
        onward = torch.zeros_like(kept[0])
        for out, of_n, of_z, of_r, r_t, z_t, first, row, n, d_r, d_z, d_n in reversed(list(rows)):
            onward += out
            torch.mul(onward, of_n, out=n)
            torch.mul(n, of_r, out=d_r)
            torch.mul(onward, of_z, out=d_z)
            torch.mul(n, r_t, out=d_n)
            onward = torch.addmm(onward.mul_(z_t), row, weight).masked_fill_(first, 0.0)
        flat = slopes.view(-1, 3 * units)
        of_inputs = torch.cat((slopes[..., : 2 * units], slopes_n), 2)
        return of_inputs, None, None, flat.t() @ kept.view(-1, units), flat.sum(0)
