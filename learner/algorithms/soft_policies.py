"""The two kinds of policy that soft actor-critic trains, and what its update asks of each.

A squashed Gaussian over continuous actions: expectations over actions are a single draw, and the
actor's gradient goes through the critics into the action. A softmax over Discrete actions:
expectations are exact sums, and critics value all actions at once.
"""

from __future__ import annotations

import abc
import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from common import spaces
from common.errors import UnsupportedSpaceError
from learner.algorithms.single_actor_critic import ActorPolicy, normal_noise
from learner.networks.bounded_actions import (
    ActionBounds,
    at_random,
    bounded_box,
    squash,
    squashed,
    squashed_gradient,
)
from learner.networks.distributions import Categorical, available

if TYPE_CHECKING:
    from common import specs
    from learner.algorithms.sac import SACConfig
    from learner.algorithms.single_actor_critic import Minibatch
    from learner.networks.heads import Differentiable

DISCRETE_TARGET = 0.89
"""Of the largest entropy of a Discrete policy: the share that alpha is learned for."""


class Improvement(NamedTuple):
    """What an actor's step found, [M] each.

    Attributes:
        loss: E_a[alpha log pi(a|s) - min_k Q_k(s, a)].
        entropy: Of the policy, in nats: an estimate, or exact.
        surplus: By how much it is above its target.
    """

    loss: Tensor
    entropy: Tensor
    surplus: Tensor


class SoftPolicy(ActorPolicy, abc.ABC):
    """A stochastic policy, and the expectations that its training takes over actions.

    Attributes:
        values_of_a_critic: Outputs of each critic: 1, or one for each action.
        beside_features: Numbers of the action that critics take; 0 where they value all.
        draws: Standard normal numbers that an expectation takes for each transition.
    """

    values_of_a_critic: int
    beside_features: int
    draws: int

    @abc.abstractmethod
    def next_values(
        self,
        actor: Differentiable,
        target: Differentiable,
        data: Minibatch,
        noise: Tensor,
        alpha: Tensor,
    ) -> Tensor:
        """V(s') = E_a'[min_k Q_target,k(s', a') - alpha log pi(a'|s')], [M].

        Args:
            actor: The network in training.
            target: The target critics.
            data: M transitions.
            noise: [M, draws], standard normal.
            alpha: [].
        """

    @abc.abstractmethod
    def taken(self, data: Minibatch) -> tuple[list[Tensor], Tensor | None]:
        """The critics' inputs for the actions taken, and which outputs [M, K] are their values."""

    @abc.abstractmethod
    def improve(
        self,
        actor: Differentiable,
        critics: Differentiable,
        data: Minibatch,
        noise: Tensor,
        alpha: Tensor,
    ) -> Improvement:
        """Puts the gradient of mean(E_a[alpha log pi(a|s) - min_k Q_k(s, a)]) into the actor."""


class SquashedGaussian(SoftPolicy):
    """tanh of a Gaussian whose mean and deviation depend on the observation.

    Raises:
        UnsupportedSpaceError: The actions are neither Discrete nor those of a bounded Box.
    """

    def __init__(self, spec: specs.EnvironmentSpec, config: SACConfig, name: str) -> None:
        bounds = ActionBounds(bounded_box(spec.agent.action, name))
        width = bounds.width
        super().__init__(
            spec,
            config.heads(spec, 2 * width, head_gain=0.01),
            network=config.network,
            uniform=1 + width,
            inputs=(normal_noise(spec, width),),
        )
        self.bounds = bounds
        self.values_of_a_critic, self.beside_features, self.draws = 1, width, width
        given = config.target_entropy
        self._target_entropy = -float(width) if given is None else given

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Observations, noise and the share of random actions to what `outputs` lists."""
        head, (normal, uniform, share) = self.acted(inputs)
        action = at_random(squash(head, normal), uniform, share)
        greedy = torch.tanh(head[:, : self.bounds.width])
        return self.bounds.to_space(action), self.bounds.to_space(greedy)

    @torch.no_grad()
    def next_values(
        self,
        actor: Differentiable,
        target: Differentiable,
        data: Minibatch,
        noise: Tensor,
        alpha: Tensor,
    ) -> Tensor:
        """See the base class; eq. 3 of the paper, by one fresh action of the current actor."""
        drawn = squashed(actor(data.next_parts), noise)
        values = target([*data.next_parts, drawn.action]).amin(1)
        return torch.addcmul(values, drawn.log_prob, alpha, value=-1.0)

    def taken(self, data: Minibatch) -> tuple[list[Tensor], Tensor | None]:
        """See the base class."""
        return [*data.parts, self.bounds.to_unit(data.actions)], None

    @torch.no_grad()
    def improve(
        self,
        actor: Differentiable,
        critics: Differentiable,
        data: Minibatch,
        noise: Tensor,
        alpha: Tensor,
    ) -> Improvement:
        """See the base class; eq. 9 and 10 of the paper: the draw is a function of the actor."""
        head, recording = actor.forward(data.parts)
        drawn = squashed(head, noise)
        values, judged = critics.forward([*data.parts, drawn.action])
        least, which = values.min(1, keepdim=True)
        share = 1.0 / len(values)
        uphill = torch.zeros_like(values).scatter_(1, which, -share)
        slope = critics.gradient_of_action(judged, uphill)
        actor.backward(recording, squashed_gradient(drawn, slope, alpha * share))
        entropy = -drawn.log_prob
        loss = torch.addcmul(least.squeeze(1), entropy, alpha).neg_()
        return Improvement(loss, entropy, entropy - self._target_entropy)


class Softmax(SoftPolicy):
    """A probability for each of A actions, 0 for those that are not available.

    Raises:
        UnsupportedSpaceError: The actions are not Discrete.
    """

    def __init__(self, spec: specs.EnvironmentSpec, config: SACConfig, name: str) -> None:
        space = spec.agent.action
        if not isinstance(space, spaces.Discrete):
            raise UnsupportedSpaceError(f"{name}: a softmax takes Discrete actions")
        distribution = Categorical(space)
        super().__init__(
            spec,
            config.heads(spec, space.n, head_gain=0.01),
            network=config.network,
            uniform=1 + space.n,
            masked=space.n if spec.agent.action_mask else 0,
        )
        self.distribution = distribution
        self.values_of_a_critic, self.beside_features, self.draws = space.n, 0, 0
        self._actions = space.n
        self._given = config.target_entropy

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Observations, the mask if there is one, noise and the share of random actions."""
        logits, (*masks, uniform, share) = self.acted(inputs)
        mask = masks[0] if masks else None
        # Equal logits are a uniform choice among what is available.
        random = uniform[:, :1] < share.unsqueeze(1)
        drawn = self.distribution.act(torch.where(random, 0.0, logits), uniform[:, 1:], mask)
        return drawn.action, self.distribution.act(logits, uniform[:, 1:], mask).greedy

    @torch.no_grad()
    def next_values(
        self,
        actor: Differentiable,
        target: Differentiable,
        data: Minibatch,
        noise: Tensor,
        alpha: Tensor,
    ) -> Tensor:
        """See the base class; eq. 10 of the paper on discrete actions."""
        del noise
        log_probs = F.log_softmax(available(actor(data.next_parts), data.next_mask), 1)
        least = self._by_critic(target(data.next_parts)).amin(1)
        return (log_probs.exp() * torch.addcmul(least, log_probs, alpha, value=-1.0)).sum(1)

    def taken(self, data: Minibatch) -> tuple[list[Tensor], Tensor | None]:
        """See the base class."""
        actions = self.distribution.encode(data.actions)
        return data.parts, torch.stack((actions, actions + self._actions), 1)

    @torch.no_grad()
    def improve(
        self,
        actor: Differentiable,
        critics: Differentiable,
        data: Minibatch,
        noise: Tensor,
        alpha: Tensor,
    ) -> Improvement:
        """See the base class; eq. 12 of the paper on discrete actions, and its gradient.

        With L = sum_a p_a (alpha log p_a - q_a), dL / dlogit_a = p_a (alpha log p_a - q_a - L).
        """
        del noise
        logits, recording = actor.forward(data.parts)
        log_probs = F.log_softmax(available(logits, data.mask), 1)
        probabilities = log_probs.exp()
        least = self._by_critic(critics(data.parts)).amin(1)
        costs = torch.addcmul(-least, log_probs, alpha)
        loss = (probabilities * costs).sum(1)
        slopes = (costs - loss.unsqueeze(1)).mul_(probabilities).mul_(1.0 / len(loss))
        actor.backward(recording, slopes)
        entropy = -(probabilities * log_probs).sum(1)
        return Improvement(loss, entropy, entropy - self._target_entropy(data.mask))

    def _by_critic(self, outputs: Tensor) -> Tensor:
        """[M, K A] to [M, K, A]."""
        return outputs.view(len(outputs), -1, self._actions)

    def _target_entropy(self, mask: Tensor | None) -> Tensor | float:
        if self._given is not None:
            return self._given
        if mask is None:
            return DISCRETE_TARGET * math.log(self._actions)
        return DISCRETE_TARGET * mask.sum(1).clamp_(min=1).log()
