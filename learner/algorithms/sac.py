"""Soft actor-critic, for continuous and for Discrete actions, with the entropy's weight learned.

Haarnoja et al. 2018, "Soft actor-critic algorithms and applications"
(https://arxiv.org/abs/1812.05905); Christodoulou 2019, "Soft actor-critic for discrete action
settings" (https://arxiv.org/abs/1910.07207). Deviations:

- Continuous actions lie in [-1, 1] for every network, and so do log-probabilities and the entropy
  target, whatever the bounds of the space; the graph scales them. Replay holds what the environment
  got.
- The entropy's weight alpha is learned by its logarithm, with the gradient of -log alpha (log pi +
  H), as is usual in code; the paper's is alpha times that.
- The target of discrete entropy is 0.89 of its maximum rather than 0.98, over the actions that are
  available where the environment masks some.
- Time limits bootstrap with the value of the last observation (Pardo et al. 2018,
  https://arxiv.org/abs/1712.00378). n-step returns sum the rewards alone, not the entropies, and
  are not corrected for exploration.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common import spaces
from learner.algorithms.base import OPTIMISER, single_agent_only
from learner.algorithms.device_means import DeviceMeans
from learner.algorithms.optimiser import FlatAdam
from learner.algorithms.schedules import scheduled
from learner.algorithms.single_actor_critic import SingleActorCritic, SingleActorCriticConfig
from learner.algorithms.soft_policies import Softmax, SoftPolicy, SquashedGaussian
from learner.losses import q_learning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from learner.algorithms.base import Stateful
    from learner.experience.transitions import Transitions

CRITICS = 2


@dataclasses.dataclass(frozen=True)
class SACConfig(SingleActorCriticConfig):
    """Hyperparameters."""

    entropy_coefficient: float | None = None
    """Alpha, the weight of the entropy beside rewards; None learns it."""
    initial_entropy_coefficient: float = 1.0
    """Alpha at the start, where it is learned."""
    entropy_learning_rate: float = 1e-3
    """Step size of Adam for the logarithm of alpha, at the start."""
    target_entropy: float | None = None
    """The entropy in nats that alpha is learned for; None is minus the number of action dimensions
    of [-1, 1], and for Discrete actions 0.89 of the largest possible."""
    target_update_interval: int = 1
    """Gradient steps between updates of the target critics."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        for field in ("initial_entropy_coefficient", "entropy_learning_rate"):
            self._check(field, getattr(self, field) > 0, "must be above 0")
        fixed = self.entropy_coefficient
        self._check("entropy_coefficient", fixed is None or fixed >= 0, "must not be negative")
        self._check("target_update_interval", self.target_update_interval >= 1, "is below 1")


class SAC(SingleActorCritic[SACConfig]):
    """SAC for one agent with actions of a bounded Box, or Discrete ones."""

    name = "sac"
    Config = SACConfig
    behaviour: SoftPolicy

    def build(self) -> SoftPolicy:
        """Actor, twin critics, their targets, alpha and the optimisers."""
        single_agent_only(self.spec, self.name)
        config = self.config
        discrete = isinstance(self.spec.agent.action, spaces.Discrete)
        policy = (Softmax if discrete else SquashedGaussian)(self.spec, config, self.name)
        critics = config.heads(
            self.spec,
            policy.values_of_a_critic,
            count=CRITICS,
            beside=policy.beside_features,
            head_gain=1.0,
        )
        self.prepare(policy, critics)
        self._build_alpha()
        self._means = DeviceMeans(
            (
                "train/critic_loss",
                "train/q_value",
                "train/critic_gradient_norm",
                "train/actor_loss",
                "train/actor_gradient_norm",
                "train/entropy",
                "train/ent_coef",
            ),
            self.device,
        )
        return policy

    def _build_alpha(self) -> None:
        fixed = self.config.entropy_coefficient
        initial = self.config.initial_entropy_coefficient if fixed is None else fixed
        # A fixed alpha may be 0, which no logarithm has.
        self._alpha = torch.tensor(initial, device=self.device)
        self._log_alpha = nn.Parameter(torch.tensor(math.log(initial or 1.0), device=self.device))
        self._alpha_adam = FlatAdam(
            {"log_alpha": self._log_alpha},
            learning_rate=self.config.entropy_learning_rate,
            epsilon=self.config.adam_epsilon,
            max_gradient_norm=None,
        )

    def update(self, batch: Transitions, progress: float) -> Tensor | None:
        """One gradient step of algorithm 1 of the paper.

            V(s') <- E_a'[min_k Q_target,k(s', a') - alpha log pi(a'|s')]
            y <- R + discount V(s')
            step each Q_k down the gradient of mean(w (Q_k(s, a) - y)^2 / 2)
            step pi down the gradient of mean(E_a[alpha log pi(a|s) - min_k Q_k(s, a)])
            step log alpha down the gradient of log alpha (mean(H(pi(.|s))) - target)
            targets <- (1 - tau) targets + tau what is in training

        The expectation over actions is one draw where they are continuous and exact where they are
        Discrete. The errors |Q_k(s, a) - y|, as means over k, are returned where replay is
        prioritised.
        """
        self.set_learning_rates(progress)
        data, policy, alpha = self.minibatch(batch), self.behaviour, self._alpha
        noise = self.normal(2, len(data.returns), policy.draws)
        worth = policy.next_values(self._actor, self._target, data, noise[0], alpha)
        targets = q_learning.bootstrapped(data.returns, data.discounts, worth)
        inputs, chosen = policy.taken(data)
        step = self.regress(inputs, targets, data, chosen)
        improved = policy.improve(self._actor, self._critics, data, noise[1], alpha)
        norm = self._actor_adam.descend()
        if self.config.entropy_coefficient is None:
            self._learn_alpha(improved.surplus, progress)
        self._updates += 1
        if self._updates % self.config.target_update_interval == 0:
            self._target_critics.follow(self.config.target_tau)
        self._means.add(
            step.losses, step.values, step.norm, improved.loss, norm, improved.entropy, alpha
        )
        return step.errors

    @torch.no_grad()
    def _learn_alpha(self, surplus: Tensor, progress: float) -> None:
        """Lowers alpha where there is more entropy than asked for; `surplus` is [M]."""
        config = self.config
        self._alpha_adam.set_learning_rate(
            scheduled(config.entropy_learning_rate, config.learning_rate_schedule, progress)
        )
        torch.mean(surplus, 0, out=self._log_alpha.grad)
        self._alpha_adam.descend()
        self._alpha = self._log_alpha.exp()

    def metrics(self) -> dict[str, float]:
        """See the base class."""
        means = self._means.take()
        return means | self.counts() if means else {}

    def tensors(self) -> dict[str, Tensor]:
        """See the base class."""
        return {
            **super().tensors(),
            "alpha": self._alpha,
            "log_alpha": self._log_alpha.detach(),
        }

    def parts(self) -> Mapping[str, nn.Module | Stateful]:
        """See the base class."""
        return {**super().parts(), f"{OPTIMISER}.alpha": self._alpha_adam}
