"""Trust region policy optimisation, discrete and continuous.

Schulman et al. 2015, "Trust region policy optimization", https://arxiv.org/abs/1502.05477, the
single path of section 5.1, with generalised advantages (Schulman et al. 2016,
https://arxiv.org/abs/1506.02438). Deviations:

- The Fisher matrix is taken over all rows of the round and damped; the paper takes a tenth of them.
- The critic is a network apart with an Adam of its own, as in later implementations
  (OpenAI Baselines, https://github.com/openai/baselines), where the second paper has a trust region
  for it too.
- Advantages are normalised over the round; the length of the step does not depend on their scale.
- Time limits and running statistics are treated as in learner.algorithms.ppo.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from learner.algorithms import natural_gradient
from learner.algorithms.estimation import explained_variance
from learner.algorithms.on_policy import ActorCriticAlgorithm
from learner.algorithms.on_policy_settings import ActorCriticConfig
from learner.algorithms.optimiser import FlatAdam, flatten
from learner.algorithms.rollout import Rollout, rollout_of, shuffled_minibatches
from learner.algorithms.schedules import Schedule, scheduled
from learner.losses import policy, value
from learner.networks.distributions import DiagonalGaussian

if TYPE_CHECKING:
    from torch import nn

    from learner.algorithms.actor_critic import Actor, RoundPolicy
    from learner.experience.on_policy import OnPolicyBatch


@dataclasses.dataclass(frozen=True)
class TRPOConfig(ActorCriticConfig):
    """Hyperparameters. Where None is the default, it stands for what suits the action space."""

    n_minibatches: int = 8
    """Minibatches that a round is cut into for the critic, in every epoch anew; must divide
    n_envs x n_steps."""
    max_kl: float = 0.01
    """Delta: the mean KL divergence from the policy that acted stays below this."""
    max_kl_schedule: Schedule = "constant"
    """`linear` brings max_kl to 0 at the end of the step budget."""
    damping: float = 0.1
    """Added to the eigenvalues of the Fisher matrix. Small tasks learn faster with 1e-3 to 1e-2."""
    conjugate_gradient_steps: int = 15
    """Products with the Fisher matrix in a round, at most."""
    line_search_steps: int = 10
    """Lengths that are tried before the policy is left as it was."""
    line_search_shrinkage: float = 0.8
    """Each length as a part of the one before."""
    critic_epochs: int = 10
    """Times that the critic goes through a round."""
    critic_learning_rate: float = 1e-3
    """Step size of the critic's Adam."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        for field in ("conjugate_gradient_steps", "line_search_steps", "critic_epochs"):
            self._check(field, getattr(self, field) >= 1, "must be at least 1")
        for field in ("max_kl", "critic_learning_rate"):
            self._check(field, getattr(self, field) > 0, "must be above 0")
        self._check("damping", self.damping >= 0, "must not be negative")
        shrinks = 0 < self.line_search_shrinkage < 1
        self._check("line_search_shrinkage", shrinks, "must be in (0, 1)")


class _Rows(NamedTuple):
    """The M valid rows of a round."""

    parts: list[Tensor]
    masks: Tensor | None
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor


class _Outlook(NamedTuple):
    """What the policy of the moment promises; scalars with their graph.

    Attributes:
        objective: Mean of ratio x advantage.
        divergence: Mean KL divergence from the policy that acted.
        acted: That policy, row by row, as its distribution describes it; without a graph.
    """

    objective: Tensor
    divergence: Tensor
    acted: Tensor


class _Step(NamedTuple):
    """How the policy changed.

    Attributes:
        objective: Mean of ratio x advantage afterwards.
        divergence: Mean KL divergence, 0 where the policy stayed as it was.
        fraction: Part of the full step that was taken, 0 where the policy stayed as it was.
        slope: Norm of the objective's gradient.
    """

    objective: float
    divergence: float
    fraction: float
    slope: float


class TRPO(ActorCriticAlgorithm[TRPOConfig]):
    """TRPO with a critic apart, for one agent and any actions but a Dict."""

    name = "trpo"
    Config = TRPOConfig
    counter = "rounds"
    behaviour: Actor

    @property
    def _shares_encoder(self) -> bool:
        """Never: a step of the critic would move the policy out of its trust region."""
        return False

    def build(self) -> RoundPolicy:
        """See the base class; the policy's parameters become views of one vector."""
        actor = super().build()
        self._parameters = [one for one in actor.parameters() if one.requires_grad]
        self._vector = flatten(self._parameters)
        return actor

    def _optimiser(self, actor: RoundPolicy, critic: nn.Module) -> FlatAdam:
        """The critic's."""
        del actor
        return FlatAdam(
            dict(critic.named_parameters("critic")),
            learning_rate=self.config.critic_learning_rate,
            epsilon=self.config.adam_epsilon,
            max_gradient_norm=None,
        )

    def update(self, batch: OnPolicyBatch, progress: float) -> dict[str, float]:
        """Section 6 and appendix C of the paper, from where a round has been rolled.

            A, R <- GAE under the values V
            g <- gradient of L = mean of ratio A
            x <- (F + damping I)^-1 g                              [conjugate gradient]
            s <- sqrt(2 max_kl / x'(F + damping I)x) x
            take the longest of s, c s, c^2 s, ... with mean KL < max_kl and a better L, or none
            for each minibatch, several times over: step down the gradient of (V - R)^2
            statistics of the next version <- the round's data

        A round without a valid row changes nothing and has no metrics.
        """
        data = rollout_of(batch, self.signature, self.behaviour.distribution, device=self.device)
        if not data.valid.any():
            return {}
        self.config.minibatch_size(data.shape[1])
        parts = self.behaviour.preprocess(data.leaves)
        values, _, entropy, ratio_error = self._evaluate(data, parts)
        estimates = self._estimator.estimate(data, values)
        max_kl = scheduled(self.config.max_kl, self.config.max_kl_schedule, progress)
        step = self._improve(self._rows(data, parts, estimates.advantages), max_kl)
        error = self._fit(data, parts, estimates.targets)
        self._take_in(data)
        self._updates += 1
        metrics = {
            "train/learning_rate": self.config.critic_learning_rate,
            "train/max_kl": max_kl,
            "train/policy_objective": step.objective,
            "train/kl_divergence_loss": step.divergence,
            "train/gradient_norm": step.slope,
            "train/is_line_search_success": float(step.fraction > 0.0),
            "train/step_fraction": step.fraction,
            "train/value_loss": error.item(),
            "train/explained_variance": explained_variance(data, values, estimates),
            "train/entropy_loss": -entropy.item(),
            "train/fresh_ratio_error": ratio_error.item(),
            "train/n_updates": float(self._updates),
        }
        distribution = self.behaviour.distribution
        if isinstance(distribution, DiagonalGaussian):
            metrics["train/std"] = distribution.log_std.detach().exp().mean().item()
        return metrics

    def _rows(self, data: Rollout, parts: list[Tensor], advantages: Tensor) -> _Rows:
        """What the policy learns from."""
        valid = data.valid_rows
        advantages = advantages[valid]
        if self.config.normalise_advantages:
            rows = advantages.unsqueeze(0)
            advantages = policy.normalise_advantages(rows, torch.ones_like(rows)).squeeze(0)
        return _Rows(
            [part[: data.rows][valid] for part in parts],
            None if data.masks is None else data.masks[valid],
            data.actions[valid],
            data.log_probs[valid],
            advantages,
        )

    def _outlook(self, rows: _Rows, acted: Tensor | None = None) -> _Outlook:
        """See there; `acted` None says that the policy of the moment is the one."""
        distribution = self.behaviour.distribution
        head = self.behaviour.head(self.behaviour.encoder(rows.parts))
        now = distribution.describe(head, rows.masks)
        if acted is None:
            acted = now.detach()
        log_probs = distribution.log_prob(head, rows.actions, rows.masks)
        gains = policy.surrogate((log_probs - rows.log_probs).exp(), rows.advantages)
        return _Outlook(gains.mean(), distribution.divergence(acted, now).mean(), acted)

    def _improve(self, rows: _Rows, max_kl: float) -> _Step:
        """One step of the policy, or none."""
        config = self.config
        outlook = self._outlook(rows)
        slope = natural_gradient.gradient(outlook.objective, self._parameters, retain_graph=True)
        product = natural_gradient.FisherProduct(
            outlook.divergence, self._parameters, damping=config.damping
        )
        step = natural_gradient.trust_region_step(
            product, slope, max_kl=max_kl, steps=config.conjugate_gradient_steps
        )
        before = outlook.objective.item()
        after = [before, 0.0]

        def acceptable() -> bool:
            found = self._outlook(rows, outlook.acted)
            after[:] = torch.stack((found.objective, found.divergence)).tolist()
            return after[0] > before and after[1] < max_kl

        shrunk = None
        if step is not None:
            shrunk = natural_gradient.line_search(
                self._vector,
                step,
                acceptable,
                tries=config.line_search_steps,
                shrinkage=config.line_search_shrinkage,
            )
        norm = torch.linalg.vector_norm(slope).item()
        if shrunk is None:
            return _Step(before, 0.0, 0.0, norm)
        return _Step(after[0], after[1], config.line_search_shrinkage**shrunk, norm)

    def _fit(self, data: Rollout, parts: list[Tensor], targets: Tensor) -> Tensor:
        """Trains the critic; returns the mean of its squared errors on the way."""
        shares = self._critic.encoder is None
        errors = []
        for _ in range(self.config.critic_epochs):
            order, valid = shuffled_minibatches(
                self._shuffle, data.valid, self.config.n_minibatches
            )
            weights = torch.from_numpy(valid).to(self.device)
            for rows, counts in zip(torch.from_numpy(order).to(self.device), weights, strict=True):
                minibatch = [part.index_select(0, rows) for part in parts]
                features = self.behaviour.encoder(minibatch) if shares else None
                values = self._critic(minibatch, features)
                squared = value.squared_error(values, targets.index_select(0, rows))
                loss = torch.dot(squared, counts / counts.sum())
                self._adam.step(loss)
                errors.append(loss.detach())
        return torch.stack(errors).mean()
