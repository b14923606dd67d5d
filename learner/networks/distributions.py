"""Distributions of actions, for two callers: `act` inside the policy graph, the rest in the loss.

A graph holds no random operator: `act` turns noise that the sampler draws into an action. A
Discrete action is the winner of an exponential race, argmax_i p_i / E_i with E_i = -log u_i
exponential; that is Gumbel-max, argmax_i log p_i - log(-log u_i), before its logarithm, in two
graph nodes less.

Unavailable actions get the logit -1e8 rather than minus infinity: their probability is exactly 0,
and a mask that allows nothing gives a uniform distribution instead of NaN.
"""

from __future__ import annotations

import abc
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common import spaces
from common.errors import UnsupportedSpaceError
from common.signature import Noise

UNAVAILABLE = -1e8


class Act(NamedTuple):
    """What a policy answers; N environments.

    Attributes:
        action: [N, *shape] in the dtype of the action space: what the environment takes.
        greedy: The same, the mode of the distribution.
        log_prob: [N] float32, of what is recorded (an action before clipping).
        raw: [N, d] float32, the action before clipping; None where the action itself says it all.
    """

    action: Tensor
    greedy: Tensor
    log_prob: Tensor
    raw: Tensor | None = None


class ActionDistribution(nn.Module, abc.ABC):
    """How the output of a policy head means actions of a space.

    Attributes:
        width: Numbers that the head must give.
        noise: What the sampler draws for it.
        noise_shape: How many of them.
        mask_width: Entries of an action mask, None where the space has no use for one.
        records_raw: Whether the action before clipping is recorded and trained on.
    """

    width: int
    noise: Noise
    noise_shape: tuple[int, ...]
    mask_width: int | None = None
    records_raw: bool = False

    @abc.abstractmethod
    def act(self, head: Tensor, noise: Tensor, mask: Tensor | None) -> Act:
        """Head [N, width], noise [N, *noise_shape] and mask [N, mask_width] bool to actions."""

    @abc.abstractmethod
    def log_prob(self, head: Tensor, actions: Tensor, mask: Tensor | None) -> Tensor:
        """The log-probability [N] of actions, as `encode` gives them."""

    @abc.abstractmethod
    def entropy(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """The entropy [N]."""

    @abc.abstractmethod
    def describe(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """All that tells the distributions of N rows, [N, ...]: parameters of its own included."""

    @abc.abstractmethod
    def divergence(self, before: Tensor, now: Tensor) -> Tensor:
        """KL(before || now) [N], exact, of what `describe` gave; differentiable twice in `now`."""

    @abc.abstractmethod
    def encode(self, actions: Tensor) -> Tensor:
        """Recorded actions [N, ...] (or raw ones) as `log_prob` takes them."""


def distribution_of(space: spaces.Space, *, initial_log_std: float = 0.0) -> ActionDistribution:
    """The distribution for an action space.

    Raises:
        UnsupportedSpaceError: A Dict, or a Box of integers.
    """
    match space:
        case spaces.Discrete():
            return Categorical(space)
        case spaces.MultiDiscrete():
            return MultiCategorical(space)
        case spaces.MultiBinary():
            return Bernoulli(space)
        case spaces.Box() if np.issubdtype(space.dtype, np.floating):
            return DiagonalGaussian(space, initial_log_std=initial_log_std)
        case spaces.Box():
            raise UnsupportedSpaceError(
                f"a Box of {space.dtype.name} as action space: a Gaussian gives no integers; "
                "make it MultiDiscrete"
            )
        case _:
            raise UnsupportedSpaceError(
                "a Dict as action space: a policy of this project gives one action; flatten it "
                "into Box, Discrete, MultiDiscrete or MultiBinary with a wrapper"
            )


class Categorical(ActionDistribution):
    """One of n actions."""

    noise = Noise.OPEN_UNIFORM

    def __init__(self, space: spaces.Discrete) -> None:
        super().__init__()
        self.width = self.mask_width = space.n
        self.noise_shape = (space.n,)
        self._start = space.start

    def act(self, head: Tensor, noise: Tensor, mask: Tensor | None) -> Act:
        """See the base class."""
        logits = available(head, mask)
        probabilities = torch.softmax(logits, -1)
        chosen, log_prob = _race(probabilities, noise)
        action = chosen.squeeze(-1)
        greedy = torch.argmax(logits, -1)
        if self._start:
            action, greedy = action + self._start, greedy + self._start
        return Act(action, greedy, log_prob.squeeze(-1))

    def log_prob(self, head: Tensor, actions: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        log_probs = F.log_softmax(available(head, mask), -1)
        return log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        return _entropy(available(head, mask))

    def describe(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class: log-probabilities [N, n]."""
        return F.log_softmax(available(head, mask), -1)

    def divergence(self, before: Tensor, now: Tensor) -> Tensor:
        """See the base class."""
        return _relative_entropy(before, now)

    def encode(self, actions: Tensor) -> Tensor:
        """Numbers from `start` to numbers from 0, [N] int64."""
        return actions - self._start


class MultiCategorical(ActionDistribution):
    """Several choices, independent of each other given the observation.

    Choices of different sizes are padded to the largest, so that the graph has the same few nodes
    for two choices as for twenty.
    """

    noise = Noise.OPEN_UNIFORM
    columns: Tensor
    present: Tensor
    start: Tensor

    def __init__(self, space: spaces.MultiDiscrete) -> None:
        super().__init__()
        self.width = self.mask_width = sum(space.n)
        self.noise_shape = (self.width,)
        self._choices, self._largest = len(space.n), max(space.n)
        self._padded = self.width < self._choices * self._largest
        offsets = np.cumsum((0, *space.n[:-1]))
        within = np.arange(self._largest)
        present = within < np.array(space.n)[:, None]
        columns = np.where(present, offsets[:, None] + within, 0).reshape(-1)
        self.register_buffer("columns", torch.from_numpy(columns), persistent=False)
        self.register_buffer("present", torch.from_numpy(present), persistent=False)
        self.register_buffer("start", torch.tensor(space.start), persistent=False)
        self._shifted = any(space.start)

    def act(self, head: Tensor, noise: Tensor, mask: Tensor | None) -> Act:
        """See the base class."""
        logits = self._logits(head, mask)
        chosen, log_prob = _race(torch.softmax(logits, -1), self._by_choice(noise))
        action, greedy = chosen.squeeze(-1), torch.argmax(logits, -1)
        if self._shifted:
            action, greedy = action + self.start, greedy + self.start
        return Act(action, greedy, log_prob.squeeze(-1).sum(-1))

    def log_prob(self, head: Tensor, actions: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        log_probs = F.log_softmax(self._logits(head, mask), -1)
        return log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1).sum(-1)

    def entropy(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        return _entropy(self._logits(head, mask)).sum(-1)

    def describe(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class: log-probabilities [N, K, max(n)]."""
        return F.log_softmax(self._logits(head, mask), -1)

    def divergence(self, before: Tensor, now: Tensor) -> Tensor:
        """See the base class."""
        return _relative_entropy(before, now).sum(-1)

    def encode(self, actions: Tensor) -> Tensor:
        """Numbers from `start` to numbers from 0, [N, K] int64."""
        return actions - self.start

    def _by_choice(self, flat: Tensor) -> Tensor:
        """[N, sum(n)] to [N, K, max(n)]; padding repeats the first entry."""
        if self._padded:
            flat = flat.index_select(1, self.columns)
        return flat.reshape(-1, self._choices, self._largest)

    def _logits(self, head: Tensor, mask: Tensor | None) -> Tensor:
        logits = self._by_choice(available(head, mask))
        # Padding must stay below what a mask makes unavailable, or a mask that allows nothing of a
        # choice would let a number beyond its end through.
        return torch.where(self.present, logits, 10.0 * UNAVAILABLE) if self._padded else logits


class Bernoulli(ActionDistribution):
    """Independent bits."""

    noise = Noise.OPEN_UNIFORM

    def __init__(self, space: spaces.MultiBinary) -> None:
        super().__init__()
        self.width = math.prod(space.shape)
        self.noise_shape = (self.width,)
        self._shape = space.shape

    def act(self, head: Tensor, noise: Tensor, mask: Tensor | None) -> Act:
        """See the base class; there is no mask for bits."""
        del mask
        bits = noise < torch.sigmoid(head)
        # -softplus, which as such becomes six graph nodes; a bit whose exponential overflows never
        # falls.
        log_prob = -torch.log(1.0 + torch.exp(torch.where(bits, -head, head))).sum(-1)
        return Act(self._as_action(bits), self._as_action(head > 0.0), log_prob)

    def log_prob(self, head: Tensor, actions: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        del mask
        return (actions * head - F.softplus(head)).sum(-1)

    def entropy(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class: softplus(l) - l sigmoid(l) a bit."""
        del mask
        return (F.softplus(head) - head * torch.sigmoid(head)).sum(-1)

    def describe(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class: logits [N, d]."""
        del mask
        return head

    def divergence(self, before: Tensor, now: Tensor) -> Tensor:
        """See the base class: p (l - l') + softplus(l') - softplus(l) a bit."""
        change = F.softplus(now) - F.softplus(before)
        return (torch.sigmoid(before) * (before - now) + change).sum(-1)

    def encode(self, actions: Tensor) -> Tensor:
        """[N, *shape] int8 to [N, d] float32."""
        return actions.flatten(1).to(torch.float32)

    def _as_action(self, bits: Tensor) -> Tensor:
        return bits.to(torch.int8).reshape(-1, *self._shape)


class DiagonalGaussian(ActionDistribution):
    """Independent normals with a standard deviation that does not depend on the observation.

    The action is clipped to the bounds for the environment only. What is recorded, and what the
    loss is about, is the action before that: the density of a clipped action is another one.
    """

    noise = Noise.STANDARD_NORMAL
    records_raw = True
    low: Tensor
    high: Tensor

    def __init__(self, space: spaces.Box, *, initial_log_std: float) -> None:
        super().__init__()
        self.width = math.prod(space.shape)
        self.noise_shape = (self.width,)
        self.log_std = nn.Parameter(torch.full((self.width,), initial_log_std))
        self._shape = space.shape
        wide = space.dtype == np.float64
        # Bounds in double precision are not those in single precision; in half they are.
        self._dtype = torch.float64 if wide else torch.float32
        self._cast = torch.float16 if space.dtype == np.float16 else None
        self._bounded = bool(np.isfinite(space.low).any() or np.isfinite(space.high).any())
        for name, bound in (("low", space.low), ("high", space.high)):
            tensor = torch.from_numpy(np.array(bound, np.float64)).reshape(-1).to(self._dtype)
            self.register_buffer(name, tensor, persistent=False)

    def act(self, head: Tensor, noise: Tensor, mask: Tensor | None) -> Act:
        """See the base class; there is no mask for numbers."""
        raw = head + torch.exp(self.log_std) * noise
        log_prob = self.log_prob(head, raw, mask)
        return Act(self._as_action(raw), self._as_action(head), log_prob, raw)

    def log_prob(self, head: Tensor, actions: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        del mask
        # The half of half the squared deviation is in the scale, which ONNX Runtime folds.
        scaled = (actions - head) * (math.sqrt(0.5) * torch.exp(-self.log_std))
        constant = self.log_std.sum() + 0.5 * self.width * math.log(2.0 * math.pi)
        return -constant - (scaled * scaled).sum(-1)

    def entropy(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class; the same for every observation."""
        del mask
        constant = 0.5 * self.width * math.log(2.0 * math.pi * math.e)
        return (self.log_std.sum() + constant).expand(head.shape[0])

    def describe(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class: means and logarithms of standard deviations [N, 2 d]."""
        del mask
        return torch.cat((head, self.log_std.expand_as(head)), -1)

    def divergence(self, before: Tensor, now: Tensor) -> Tensor:
        """See the base class: log s'/s + (s^2 + (m - m')^2) / (2 s'^2) - 1/2 a number."""
        mean, log_std = before.chunk(2, -1)
        new_mean, new_log_std = now.chunk(2, -1)
        change = new_log_std - log_std
        moved = ((mean - new_mean) * torch.exp(-new_log_std)).square()
        return (change + 0.5 * (torch.exp(-2.0 * change) + moved - 1.0)).sum(-1)

    def encode(self, actions: Tensor) -> Tensor:
        """Raw actions, as they are."""
        return actions

    def _as_action(self, raw: Tensor) -> Tensor:
        action = raw.to(self._dtype)
        if self._bounded:
            action = torch.minimum(torch.maximum(action, self.low), self.high)
        if self._cast is not None:
            action = action.to(self._cast)
        if len(self._shape) != 1:
            return action.reshape(-1, *self._shape)
        # A graph has one name for each tensor, and the raw action has another.
        return action.clone() if action is raw else action


def available(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Logits or values [..., A] with `UNAVAILABLE` where the mask is false."""
    return logits if mask is None else torch.where(mask, logits, UNAVAILABLE)


def _race(probabilities: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The winner of the race over the last dimension and its log-probability, [..., 1] both."""
    chosen = torch.argmax(torch.log(noise) / probabilities, -1, keepdim=True)
    return chosen, torch.log(torch.gather(probabilities, -1, chosen))


def _entropy(logits: Tensor) -> Tensor:
    """Over the last dimension."""
    log_probs = F.log_softmax(logits, -1)
    return -(log_probs.exp() * log_probs).sum(-1)


def _relative_entropy(log_probs: Tensor, others: Tensor) -> Tensor:
    """KL(p || q) over the last dimension, from logarithms; what p excludes counts nothing."""
    return (log_probs.exp() * (log_probs - others)).sum(-1)
