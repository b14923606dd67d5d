"""Proximal policy optimisation, discrete and continuous.

Schulman et al. 2017, "Proximal policy optimization algorithms", https://arxiv.org/abs/1707.06347,
with the details of Huang et al. 2022, "The 37 implementation details of PPO"
(https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/). Deviations:

- Rows that are no steps of the environment stay in the minibatches, which keep one size, with
  weight 0.
- Time limits bootstrap with the value of the last observation (Pardo et al. 2018,
  https://arxiv.org/abs/1712.00378); the paper does not tell truncation from termination.
- The statistics that normalise observations and scale rewards are frozen through a round and take
  its data in afterwards, so that the policy trained is the policy that acted. In the first round
  observations are not normalised yet, and rewards are scaled by the round's own statistics.
- With a memory (`recurrent_units`) minibatches are whole fragments, unrolled from the state that
  travelled with them; that state is not brought up to date between epochs. Policy and values share
  the memory, so that the values' state comes from the samplers too. (A GRU; the paper has none.)
- For continuous actions advantages are recomputed with the current values before every epoch
  (Andrychowicz et al. 2021, https://arxiv.org/abs/2006.05990, section 3.5).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor

from learner.algorithms.estimation import Estimates, explained_variance
from learner.algorithms.on_policy import ActorCriticAlgorithm, OneLossAlgorithm
from learner.algorithms.on_policy_settings import ActorCriticConfig, OneLossConfig
from learner.algorithms.rollout import Rollout, in_chunks, rollout_of, shuffled_minibatches
from learner.algorithms.schedules import Schedule, scheduled
from learner.algorithms.sequences import Past, shuffled_fragments
from learner.losses import policy, value
from learner.networks.distributions import DiagonalGaussian

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from learner.algorithms.actor_critic import Actor
    from learner.algorithms.on_policy import Evaluation
    from learner.experience.on_policy import OnPolicyBatch


@dataclasses.dataclass(frozen=True)
class PPOConfig(OneLossConfig, ActorCriticConfig):
    """Hyperparameters. Where None is the default, it stands for what suits the action space."""

    epochs: int = 4
    """Times that a round is gone through."""
    clip_range: float = 0.2
    """How far from 1 the probability ratio may go before its gradient is cut."""
    clip_range_schedule: Schedule = "constant"
    """`linear` brings the clip range to 0 at the end of the step budget."""
    value_clip_range: float | None = None
    """Keeps values this near to the old ones in the loss, in units of (scaled) returns; None does
    not."""
    target_kl: float | None = None
    """Ends an update after the epoch whose approximate KL divergence exceeds 1.5 times this."""
    recompute_advantages: bool | None = None
    """Recomputes advantages with the current values before every epoch; None does for continuous
    actions."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        self._check("epochs", self.epochs >= 1, "must be at least 1")
        self._check("clip_range", self.clip_range > 0, "must be above 0")
        for field in ("value_clip_range", "target_kl"):
            number = getattr(self, field)
            self._check(field, number is None or number > 0, "must be above 0, or none at all")


class Minibatch(NamedTuple):
    """M rows; `weights` add up to 1 over the valid ones: a dot product with them is a mean."""

    parts: list[Tensor]
    masks: Tensor | None
    actions: Tensor
    log_probs: Tensor
    targets: Tensor
    old_values: Tensor
    advantages: Tensor
    weights: Tensor
    past: Past | None


class Terms(NamedTuple):
    """The loss of a minibatch, and the [M] terms in it."""

    loss: Tensor
    log_ratio: Tensor
    surrogate: Tensor
    value_error: Tensor


class _Step(NamedTuple):
    """What is kept of a minibatch until the means of its epoch are taken."""

    weights: Tensor
    terms: Terms
    gradient_norm: Tensor


class PPO(OneLossAlgorithm[PPOConfig], ActorCriticAlgorithm[PPOConfig]):
    """PPO with the clipped surrogate objective, for one agent and any actions but a Dict.

    Attributes:
        ratio_error: The name of the metric of how far the policy was from the one that acted, when
            the update began.
    """

    name = "ppo"
    Config = PPOConfig
    counter = "epochs"
    remembers = True
    ratio_error = "train/fresh_ratio_error"

    def update(self, batch: OnPolicyBatch, progress: float) -> dict[str, float]:
        """Algorithm 1 of the paper, from where a round has been rolled.

            for each epoch:
                A, R <- GAE under the values V          [once, if advantages are not recomputed]
                for each minibatch of the rows in a new order:
                    ratio <- pi(a | s) / pi_behaviour(a | s)
                    step down the gradient of -L_CLIP(ratio, A) + c1 (V - R)^2 - c2 H    (eq. 9)
            statistics of the next version <- the round's data

        A round without a valid row changes nothing and has no metrics.
        """
        data = self._rollout(batch)
        if not data.valid.any():
            return {}
        learning_rate, clip_range = self._schedules(progress)
        self._adam.set_learning_rate(learning_rate)
        parts = self.behaviour.preprocess(data.leaves)
        begun = self._evaluate(data, parts)
        estimates = self._estimates(data, parts, begun)
        explained = explained_variance(data, self._as_returns(begun.values), estimates)
        self._take_in_returns(data, estimates)
        recomputes = self._given(self.config.recompute_advantages)
        epochs: list[Tensor] = []
        for epoch in range(self.config.epochs):
            if epoch > 0 and recomputes:
                estimates = self._estimates(data, parts)
            steps: list[_Step] = []
            for minibatch in self._minibatches(data, parts, estimates, begun.values):
                terms, norm = self._descend(minibatch, clip_range)
                steps.append(_Step(minibatch.weights, terms, norm))
            epochs.append(_means(steps, clip_range))
            if self._left_trust_region(epochs[-1]):
                break
        self._take_in(data)
        self._updates += len(epochs)
        return {
            "train/learning_rate": learning_rate,
            "train/clip_range": clip_range,
            "train/explained_variance": explained,
            **self._metrics(epochs, begun),
        }

    def _estimates(
        self, data: Rollout, parts: list[Tensor], evaluation: Evaluation | None = None
    ) -> Estimates:
        """Advantages and targets under the networks as they are, evaluated already or not."""
        values = self._values(data, parts) if evaluation is None else evaluation.values
        return self._estimator.estimate(data, self._as_returns(values))

    def _rollout(self, batch: OnPolicyBatch) -> Rollout:
        """The round on the device."""
        distribution = cast("Actor", self.behaviour).distribution
        return rollout_of(batch, self.signature, distribution, device=self.device)

    def _as_returns(self, values: Tensor) -> Tensor:
        """What the critic answers, in the units of returns."""
        return values

    def _as_values(self, returns: Tensor) -> Tensor:
        """Returns in the units of what the critic answers."""
        return returns

    def _take_in_returns(self, data: Rollout, estimates: Estimates) -> None:
        """Looks at a round's returns before it is trained on."""

    def _schedules(self, progress: float) -> tuple[float, float]:
        """Learning rate and clip range."""
        config = self.config
        return (
            scheduled(config.learning_rate, config.learning_rate_schedule, progress),
            scheduled(config.clip_range, config.clip_range_schedule, progress),
        )

    def _minibatches(
        self, data: Rollout, parts: list[Tensor], estimates: Estimates, old_values: Tensor
    ) -> Iterator[Minibatch]:
        """The rows in a new order; everything is gathered once for the whole epoch."""
        order, valid, pasts = self._order(data)
        size = order.shape[1]
        rows = torch.from_numpy(order.reshape(-1)).to(self.device)
        weights = torch.from_numpy(valid).to(self.device)

        def pieces(column: Tensor) -> tuple[Tensor, ...]:
            return torch.split(column.index_select(0, rows), size)

        advantages = estimates.advantages[rows].view(-1, size)
        if self.config.normalise_advantages:
            advantages = policy.normalise_advantages(advantages, weights)
        yield from map(
            Minibatch,
            self._pieces(parts, rows, size),
            [None] * len(order) if data.masks is None else pieces(data.masks),
            pieces(data.actions),
            pieces(data.log_probs),
            pieces(self._as_values(estimates.targets)),
            pieces(old_values),
            advantages,
            weights / weights.sum(1, keepdim=True),
            pasts,
        )

    def _pieces(self, parts: list[Tensor], rows: Tensor, size: int) -> Iterator[list[Tensor]]:
        """The parts of these rows, so many at once."""
        return in_chunks([part.index_select(0, rows) for part in parts], size)

    def _order(
        self, data: Rollout
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], Sequence[Past | None]]:
        """Rows and weights of minibatches, as `shuffled_minibatches`; fragments with a memory."""
        count = self.config.n_minibatches
        self.config.minibatch_size(data.shape[1])
        if data.past is None:
            order, valid = shuffled_minibatches(self._shuffle, data.valid, count)
            return order, valid, [None] * len(order)
        order, valid, fragments = shuffled_fragments(self._shuffle, data.valid, count)
        slots = torch.from_numpy(fragments).to(self.device)
        return order, valid, [data.past.of(each) for each in slots]

    def _descend(self, minibatch: Minibatch, clip_range: float) -> tuple[Terms, Tensor]:
        """A gradient step; its terms and the norm of the gradient."""
        terms = self._loss(minibatch, clip_range)
        return terms, self._adam.step(terms.loss)

    def _loss(self, minibatch: Minibatch, clip_range: float) -> Terms:
        """Equation 9 of the paper with the sign of a loss."""
        config, distribution = self.config, self.behaviour.distribution
        features = self.behaviour.features(minibatch.parts, minibatch.past)
        values = self._judge(minibatch.parts, features, minibatch.past)
        head = self.behaviour.head(features)
        log_probs = distribution.log_prob(head, minibatch.actions, minibatch.masks)
        log_ratio = log_probs - minibatch.log_probs
        surrogate = policy.clipped_surrogate(log_ratio.exp(), minibatch.advantages, clip_range)
        value_error = self._value_error(values, minibatch.targets, minibatch.old_values)
        losses = torch.add(surrogate, value_error, alpha=config.value_coefficient)
        if config.entropy_coefficient > 0:
            entropy = distribution.entropy(head, minibatch.masks)
            losses = torch.sub(losses, entropy, alpha=config.entropy_coefficient)
        return Terms(
            torch.dot(losses, minibatch.weights),
            log_ratio.detach(),
            surrogate.detach(),
            value_error.detach(),
        )

    def _value_error(self, values: Tensor, targets: Tensor, old_values: Tensor) -> Tensor:
        """The value loss of each row, [M]."""
        limit = self.config.value_clip_range
        if limit is None:
            return value.squared_error(values, targets)
        return value.clipped_squared_error(values, targets, old_values, limit)

    def _left_trust_region(self, epoch: Tensor) -> bool:
        """Whether to stop after an epoch; only this number leaves the device within an update."""
        target = self.config.target_kl
        return target is not None and bool(epoch[2] > 1.5 * target)

    def _metrics(self, epochs: list[Tensor], begun: Evaluation) -> dict[str, float]:
        """Means over all epochs, of the KL over the last one; the entropy is the round's own."""
        means = torch.stack(epochs).mean(0)
        found = [*means.unbind(), epochs[-1][2], begun.ratio_error, begun.entropy]
        distribution = self.behaviour.distribution
        if isinstance(distribution, DiagonalGaussian):
            found.append(distribution.log_std.detach().exp().mean())
        surrogate, error, _, clipped, norm, kl, ratio_error, entropy, *std = torch.stack(
            found
        ).tolist()
        config = self.config
        loss = surrogate + config.value_coefficient * error - config.entropy_coefficient * entropy
        metrics = {
            "train/loss": loss,
            "train/policy_gradient_loss": surrogate,
            "train/value_loss": error,
            "train/entropy_loss": -entropy,
            "train/approx_kl": kl,
            "train/clip_fraction": clipped,
            "train/gradient_norm": norm,
            self.ratio_error: ratio_error,
            "train/n_updates": float(self._updates),
        }
        return metrics | ({"train/std": std[0]} if std else {})


@torch.no_grad()
def _means(steps: list[_Step], clip_range: float) -> Tensor:
    """Means over an epoch's minibatches, [5]: surrogate, value error, KL, clip fraction, norm."""
    weights = torch.stack([step.weights for step in steps])
    log_ratio = torch.stack([step.terms.log_ratio for step in steps])
    ratio = log_ratio.exp()
    rows = (
        torch.stack([step.terms.surrogate for step in steps]),
        torch.stack([step.terms.value_error for step in steps]),
        policy.approximate_kl(log_ratio, ratio),
        policy.clip_fraction(ratio, clip_range),
    )
    means = [(weights * row).sum(1).mean() for row in rows]
    return torch.stack([*means, torch.stack([step.gradient_norm for step in steps]).mean()])
