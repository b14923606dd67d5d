"""The actions of an agent as actors give them and critics see them: one-hot, or in [-1, 1]."""

from __future__ import annotations

import abc

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common import spaces
from common.errors import UnsupportedSpaceError
from learner.networks.bounded_actions import ActionBounds
from learner.networks.distributions import Categorical, available


class AgentActions(nn.Module, abc.ABC):
    """The actions of n agents whose spaces are the same.

    An actor's head gives `width` numbers, and to a critic an action is as many.

    Attributes:
        width: U.
        drifts: Whether exploration takes U standard normal numbers beside the uniform ones.
        mask_width: Entries of an action mask; None where the space has no use for one.
    """

    width: int
    drifts: bool
    mask_width: int | None

    @abc.abstractmethod
    def explored(
        self,
        head: Tensor,
        mask: Tensor | None,
        uniform: Tensor,
        share: Tensor,
        drift: Tensor | None,
    ) -> Tensor:
        """The actions [N, n, *shape] to explore with, in the dtype of the space.

        Args:
            head: [N, n, U].
            mask: [N, n, U] bool, or None.
            uniform: [N, n, 1 + U] in (0, 1); the first decides whether an action is random.
            share: [N], the probability that it is.
            drift: [N, n, U], what is added to continuous actions in [-1, 1]; None adds nothing.
        """

    @abc.abstractmethod
    def greedy(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """The best actions [N, n, *shape], in the dtype of the space."""

    @abc.abstractmethod
    def best(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """The best actions as critics see them, [..., U], from heads [..., U]."""

    @abc.abstractmethod
    def relaxed(self, head: Tensor, mask: Tensor | None, gumbel: Tensor) -> Tensor:
        """Actions as critics see them, [..., U], through which a gradient reaches the head.

        Args:
            head: [..., U].
            mask: [..., U] bool, or None.
            gumbel: [..., U], draws from the standard Gumbel distribution.
        """

    @abc.abstractmethod
    def encode(self, actions: Tensor) -> Tensor:
        """What the environment got [M, n, *shape], as critics see it [M, n, U]."""


class DiscreteActions(AgentActions):
    """One of U actions: one-hot to critics; sampled from the softmax of the head."""

    drifts = False

    def __init__(self, space: spaces.Discrete) -> None:
        super().__init__()
        self.width = self.mask_width = space.n
        self._distribution = Categorical(space)
        self._start = space.start

    def explored(
        self,
        head: Tensor,
        mask: Tensor | None,
        uniform: Tensor,
        share: Tensor,
        drift: Tensor | None,
    ) -> Tensor:
        """See the base class; equal logits are a uniform choice among what is available."""
        del drift
        random = uniform[..., :1] < share[:, None, None]
        logits = torch.where(random, 0.0, head)
        return self._distribution.act(logits, uniform[..., 1:], mask).action

    def greedy(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        return available(head, mask).argmax(-1) + self._start

    def best(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        return _one_hot(available(head, mask))

    def relaxed(self, head: Tensor, mask: Tensor | None, gumbel: Tensor) -> Tensor:
        """See the base class; a draw whose gradient is its softmax's."""
        return straight_through(available(head, mask) + gumbel)

    def encode(self, actions: Tensor) -> Tensor:
        """See the base class."""
        numbers = self._distribution.encode(actions)
        return F.one_hot(numbers.clamp(0, self.width - 1), self.width).to(torch.float32)


class BoundedActions(AgentActions):
    """U numbers of a bounded Box, each in [-1, 1] to networks: tanh of the head."""

    drifts = True
    mask_width = None

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self._bounds = ActionBounds(space)
        self._shape = space.shape
        self.width = self._bounds.width

    def explored(
        self,
        head: Tensor,
        mask: Tensor | None,
        uniform: Tensor,
        share: Tensor,
        drift: Tensor | None,
    ) -> Tensor:
        """See the base class."""
        del mask
        unit = torch.tanh(head)
        noisy = unit if drift is None else torch.clamp(unit + drift, -1.0, 1.0)
        random = uniform[..., :1] < share[:, None, None]
        return self._to_space(torch.where(random, 2.0 * uniform[..., 1:] - 1.0, noisy))

    def greedy(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        return self._to_space(self.best(head, mask))

    def best(self, head: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        del mask
        return torch.tanh(head)

    def relaxed(self, head: Tensor, mask: Tensor | None, gumbel: Tensor) -> Tensor:
        """See the base class; the best action itself."""
        del gumbel
        return self.best(head, mask)

    def encode(self, actions: Tensor) -> Tensor:
        """See the base class."""
        unit = self._bounds.to_unit(actions.flatten(0, 1))
        return unit.reshape(-1, actions.shape[1], self.width)

    def _to_space(self, unit: Tensor) -> Tensor:
        agents = unit.shape[1]
        return self._bounds.to_space(unit.flatten(0, 1)).reshape(-1, agents, *self._shape)


def agent_actions(space: spaces.Space, name: str) -> AgentActions:
    """For Discrete actions, or those of a bounded Box.

    Raises:
        UnsupportedSpaceError: They are others; says what to do.
    """
    match space:
        case spaces.Discrete():
            return DiscreteActions(space)
        case spaces.Box() if np.issubdtype(space.dtype, np.floating) and space.is_bounded:
            return BoundedActions(space)
        case _:
            kind = type(space).__name__
            if isinstance(space, spaces.Box):
                kind = f"a Box of {space.dtype.name}, or one without bounds"
            raise UnsupportedSpaceError(
                f"{name} takes Discrete actions or those of a bounded Box of floats, these are "
                f"{kind}; make them one of the two with a wrapper"
            )


def straight_through(noisy: Tensor) -> Tensor:
    """One-hot vectors of the largest logits, with the gradient of their softmax.

    The straight-through Gumbel-softmax of temperature 1, Jang et al. 2017,
    https://arxiv.org/abs/1611.01144, section 2.2, where Gumbel noise is in the logits already.

    Args:
        noisy: [..., U].
    """
    soft = torch.softmax(noisy, -1)
    return _one_hot(noisy.detach()) + (soft - soft.detach())


def _one_hot(values: Tensor) -> Tensor:
    """[..., U] float32, 1 at the largest of each row."""
    return F.one_hot(values.argmax(-1), values.shape[-1]).to(torch.float32)
