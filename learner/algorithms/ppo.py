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
- For continuous actions advantages are recomputed with the current values before every epoch
  (Andrychowicz et al. 2021, https://arxiv.org/abs/2006.05990, section 3.5).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from common import spaces
from common.errors import InvalidFieldError
from learner.algorithms import state
from learner.algorithms.actor_critic import Actor, Architecture, Critic
from learner.algorithms.base import (
    JSON,
    OnPolicyAlgorithm,
    refuse_mode_dependent_layers,
    single_agent_only,
)
from learner.algorithms.estimation import AdvantageEstimator, Estimates, explained_variance
from learner.algorithms.optimiser import FlatAdam
from learner.algorithms.rollout import Rollout, in_chunks, rollout_of, shuffled_minibatches
from learner.losses import policy, value
from learner.networks.bodies import Activation  # noqa: TC001 - command lines read it at run time
from learner.networks.distributions import DiagonalGaussian
from learner.networks.normalisation import ObservationStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from learner.experience.on_policy import OnPolicyBatch

Schedule = Literal["linear", "constant"]

_EVALUATION_ROWS = 512
"""Rows evaluated at once: enough to pay for the calls, few enough for images to fit in memory."""


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Hyperparameters. Where None is the default, it stands for what suits the action space."""

    n_envs: int | Literal["auto"] = 8
    """Environments whose fragments make up a round, however many samplers there are. `auto` takes
    every environment connected when a round opens."""
    n_steps: int = 128
    """Steps of each environment in a round."""
    n_minibatches: int = 4
    """Minibatches that a round is cut into, in every epoch anew; must divide n_envs x n_steps."""
    epochs: int = 4
    """Times that a round is gone through."""
    learning_rate: float = 2.5e-4
    """Step size of Adam at the start."""
    learning_rate_schedule: Schedule = "linear"
    """`linear` brings the learning rate to 0 at the end of the step budget."""
    adam_epsilon: float = 1e-5
    """Epsilon of Adam."""
    gamma: float = 0.99
    """Discount of rewards a step later."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation: 0 trusts the values, 1 the rewards."""
    clip_range: float = 0.2
    """How far from 1 the probability ratio may go before its gradient is cut."""
    clip_range_schedule: Schedule = "constant"
    """`linear` brings the clip range to 0 at the end of the step budget."""
    value_clip_range: float | None = None
    """Keeps values this near to the old ones in the loss, in units of (scaled) returns; None does
    not."""
    normalise_advantages: bool = True
    """Brings the advantages of each minibatch to mean 0 and standard deviation 1."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    max_gradient_norm: float = 0.5
    """Norm that gradients are clipped to, over all parameters together."""
    target_kl: float | None = None
    """Ends an update after the epoch whose approximate KL divergence exceeds 1.5 times this."""
    hidden_sizes: tuple[int, ...] | None = None
    """Hidden layers of actor and critic each; None is 64 64, and none behind convolutions."""
    activation: Activation = "tanh"
    """Activation of the hidden layers."""
    network: str = "auto"
    """`auto` encodes images with convolutions and everything else as a vector. `module:factory`
    names a function from the observation space to an nn.Module from observations to features."""
    share_encoder: bool = True
    """Actor and critic share the encoder where it learns (images, or a network of your own)."""
    initial_log_std: float = 0.0
    """Logarithm of the standard deviation at the start, continuous actions."""
    normalise_observations: bool | None = None
    """Normalises observed numbers by their running mean and variance, clipped to +-10; None does
    for continuous actions."""
    scale_rewards: bool | None = None
    """Divides rewards by the standard deviation of the running discounted return, clipped to +-10;
    None does for continuous actions."""
    clip_rewards: bool = False
    """Trains on the sign of rewards, as is usual for Atari; what is shown to people stays raw."""
    recompute_advantages: bool | None = None
    """Recomputes advantages with the current values before every epoch; None does for continuous
    actions."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        for field in ("n_envs", "n_steps", "n_minibatches", "epochs"):
            count = getattr(self, field)
            self._check(field, count == "auto" or count >= 1, "must be at least 1")
        self._check("hidden_sizes", min(self.hidden_sizes or (1,)) >= 1, "must be at least 1 each")
        for field in ("learning_rate", "clip_range", "adam_epsilon", "max_gradient_norm"):
            self._check(field, getattr(self, field) > 0, "must be above 0")
        for field in ("value_clip_range", "target_kl"):
            number = getattr(self, field)
            self._check(field, number is None or number > 0, "must be above 0, or none at all")
        for field in ("entropy_coefficient", "value_coefficient"):
            self._check(field, getattr(self, field) >= 0, "must not be negative")
        self._check("gamma", 0 < self.gamma <= 1, "must be in (0, 1]")
        self._check("gae_lambda", 0 <= self.gae_lambda <= 1, "must be in [0, 1]")
        if self.n_envs != "auto":
            self.minibatch_size(self.n_envs)

    def _check(self, field: str, holds: bool, constraint: str) -> None:  # noqa: FBT001 - private
        if not holds:
            raise InvalidFieldError(field, f"{getattr(self, field)} {constraint}")

    def minibatch_size(self, n_envs: int) -> int:
        """Rows in a minibatch of a round of so many environments.

        Raises:
            InvalidFieldError: The round does not divide.
        """
        rows = n_envs * self.n_steps
        if rows % self.n_minibatches:
            raise InvalidFieldError(
                "n_minibatches",
                f"{self.n_minibatches} does not divide the {rows} rows of n_envs ({n_envs}) x "
                f"n_steps ({self.n_steps}); change one of the three",
            )
        return rows // self.n_minibatches


class _Minibatch(NamedTuple):
    """M rows; `weights` add up to 1 over the valid ones: a dot product with them is a mean."""

    parts: list[Tensor]
    masks: Tensor | None
    actions: Tensor
    log_probs: Tensor
    targets: Tensor
    old_values: Tensor
    advantages: Tensor
    weights: Tensor


class _Terms(NamedTuple):
    """The loss of a minibatch, and the [M] terms in it."""

    loss: Tensor
    log_ratio: Tensor
    surrogate: Tensor
    value_error: Tensor


class _Step(NamedTuple):
    """What is kept of a minibatch until the means of its epoch are taken."""

    weights: Tensor
    terms: _Terms
    gradient_norm: Tensor


class PPO(OnPolicyAlgorithm[PPOConfig]):
    """PPO with the clipped surrogate objective, for one agent and any actions but a Dict."""

    name = "ppo"
    Config = PPOConfig
    behaviour: Actor

    def build(self) -> Actor:
        """Actor, critic, optimiser and statistics."""
        single_agent_only(self.spec, self.name)
        config, group = self.config, self.spec.agent
        self.n_envs = None if config.n_envs == "auto" else config.n_envs
        self.n_steps = config.n_steps
        continuous = isinstance(group.action, spaces.Box)
        architecture = Architecture(
            hidden_sizes=config.hidden_sizes,
            activation=config.activation,
            network=config.network,
            share_encoder=config.share_encoder,
            normalise_observations=_given(config.normalise_observations, otherwise=continuous),
            initial_log_std=config.initial_log_std,
        )
        actor = Actor(self.spec, architecture)
        critic = Critic(group.observation, architecture, actor.encoder)
        refuse_mode_dependent_layers(actor, critic)
        actor.to(self.device)
        self._critic = critic.to(self.device)
        self._adam = FlatAdam(
            dict(actor.named_parameters("behaviour")) | dict(critic.named_parameters("critic")),
            learning_rate=config.learning_rate,
            epsilon=config.adam_epsilon,
            max_gradient_norm=config.max_gradient_norm,
        )
        self._statistics = ObservationStatistics(actor.preprocess.normaliser)
        self._estimator = AdvantageEstimator(
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            clip_rewards=config.clip_rewards,
            scale_rewards=_given(config.scale_rewards, otherwise=continuous),
        )
        self._recomputes = _given(config.recompute_advantages, otherwise=continuous)
        self._shuffle = np.random.default_rng((self.seed, 1))
        self._epochs = 0
        return actor

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
        data = rollout_of(batch, self.signature, self.behaviour.distribution, device=self.device)
        if not data.valid.any():
            return {}
        learning_rate, clip_range = self._schedules(progress)
        self._adam.set_learning_rate(learning_rate)
        parts = self.behaviour.preprocess(data.leaves)
        old_values, ratio_error, entropy = self._evaluate(data, parts)
        estimates = self._estimator.estimate(data, old_values)
        explained = explained_variance(data, old_values, estimates)
        epochs: list[Tensor] = []
        for epoch in range(self.config.epochs):
            if epoch > 0 and self._recomputes:
                estimates = self._estimator.estimate(data, self._values(parts))
            steps: list[_Step] = []
            for minibatch in self._minibatches(data, parts, estimates, old_values):
                terms = self._loss(minibatch, clip_range)
                norm = self._adam.step(terms.loss)
                steps.append(_Step(minibatch.weights, terms, norm))
            epochs.append(_means(steps, clip_range))
            if self._left_trust_region(epochs[-1]):
                break
        self._take_in(data)
        self._epochs += len(epochs)
        return {
            "train/learning_rate": learning_rate,
            "train/clip_range": clip_range,
            "train/explained_variance": explained,
            **self._metrics(epochs, ratio_error, entropy),
        }

    def _schedules(self, progress: float) -> tuple[float, float]:
        """Learning rate and clip range."""
        config = self.config
        left = {"constant": 1.0, "linear": 1.0 - progress}
        return (
            config.learning_rate * left[config.learning_rate_schedule],
            config.clip_range * left[config.clip_range_schedule],
        )

    @torch.no_grad()
    def _values(self, parts: list[Tensor]) -> Tensor:
        """V of every observation, `[(T + 1) B + N]`."""
        pieces = in_chunks(parts, _EVALUATION_ROWS)
        return torch.cat([self._critic(piece, self.behaviour.encoder(piece)) for piece in pieces])

    @torch.no_grad()
    def _evaluate(self, data: Rollout, parts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """V of every observation; over valid rows the largest |ratio - 1| and the mean entropy."""
        heads, values = [], []
        for piece in in_chunks(parts, _EVALUATION_ROWS):
            features = self.behaviour.encoder(piece)
            heads.append(self.behaviour.head(features))
            values.append(self._critic(piece, features))
        head = torch.cat(heads)[: data.rows]
        distribution = self.behaviour.distribution
        log_ratio = distribution.log_prob(head, data.actions, data.masks) - data.log_probs
        entropy = distribution.entropy(head, data.masks)[data.valid_rows]
        ratio_error = (log_ratio[data.valid_rows].exp() - 1.0).abs().max()
        return torch.cat(values), ratio_error, entropy.mean()

    def _minibatches(
        self, data: Rollout, parts: list[Tensor], estimates: Estimates, old_values: Tensor
    ) -> Iterator[_Minibatch]:
        """The rows in a new order; everything is gathered once for the whole epoch."""
        self.config.minibatch_size(data.shape[1])
        order, valid = shuffled_minibatches(self._shuffle, data.valid, self.config.n_minibatches)
        size = order.shape[1]
        rows = torch.from_numpy(order.reshape(-1)).to(self.device)
        weights = torch.from_numpy(valid).to(self.device)

        def pieces(column: Tensor) -> tuple[Tensor, ...]:
            return torch.split(column.index_select(0, rows), size)

        advantages = estimates.advantages[rows].view(-1, size)
        if self.config.normalise_advantages:
            advantages = policy.normalise_advantages(advantages, weights)
        yield from map(
            _Minibatch,
            in_chunks([part.index_select(0, rows) for part in parts], size),
            [None] * len(order) if data.masks is None else pieces(data.masks),
            pieces(data.actions),
            pieces(data.log_probs),
            pieces(estimates.targets),
            pieces(old_values),
            advantages,
            weights / weights.sum(1, keepdim=True),
        )

    def _loss(self, minibatch: _Minibatch, clip_range: float) -> _Terms:
        """Equation 9 of the paper with the sign of a loss."""
        config, distribution = self.config, self.behaviour.distribution
        features = self.behaviour.encoder(minibatch.parts)
        values = self._critic(minibatch.parts, features)
        head = self.behaviour.head(features)
        log_probs = distribution.log_prob(head, minibatch.actions, minibatch.masks)
        log_ratio = log_probs - minibatch.log_probs
        surrogate = policy.clipped_surrogate(log_ratio.exp(), minibatch.advantages, clip_range)
        if config.value_clip_range is None:
            value_error = value.squared_error(values, minibatch.targets)
        else:
            value_error = value.clipped_squared_error(
                values, minibatch.targets, minibatch.old_values, config.value_clip_range
            )
        losses = torch.add(surrogate, value_error, alpha=config.value_coefficient)
        if config.entropy_coefficient > 0:
            entropy = distribution.entropy(head, minibatch.masks)
            losses = torch.sub(losses, entropy, alpha=config.entropy_coefficient)
        return _Terms(
            torch.dot(losses, minibatch.weights),
            log_ratio.detach(),
            surrogate.detach(),
            value_error.detach(),
        )

    def _left_trust_region(self, epoch: Tensor) -> bool:
        """Whether to stop after an epoch; only this number leaves the device within an update."""
        target = self.config.target_kl
        return target is not None and bool(epoch[2] > 1.5 * target)

    def _take_in(self, data: Rollout) -> None:
        """Brings the statistics up to date for the next version."""
        self._estimator.take_in(data)
        if self._statistics.used:
            numbers = self.behaviour.preprocess.raw_numbers(data.leaves)[: data.rows]
            self._statistics.take_in(numbers[data.valid_rows].cpu().numpy())

    def _metrics(
        self, epochs: list[Tensor], ratio_error: Tensor, entropy: Tensor
    ) -> dict[str, float]:
        """Means over all epochs, of the KL over the last one; the entropy is the round's own."""
        means = torch.stack(epochs).mean(0)
        found = [*means.unbind(), epochs[-1][2], ratio_error, entropy]
        distribution = self.behaviour.distribution
        if isinstance(distribution, DiagonalGaussian):
            found.append(distribution.log_std.detach().exp().mean())
        surrogate, error, _, clipped, norm, kl, fresh, entropy_, *std = torch.stack(found).tolist()
        config = self.config
        loss = surrogate + config.value_coefficient * error - config.entropy_coefficient * entropy_
        metrics = {
            "train/loss": loss,
            "train/policy_gradient_loss": surrogate,
            "train/value_loss": error,
            "train/entropy_loss": -entropy_,
            "train/approx_kl": kl,
            "train/clip_fraction": clipped,
            "train/gradient_norm": norm,
            "train/fresh_ratio_error": fresh,
            "train/n_updates": float(self._epochs),
        }
        return metrics | ({"train/std": std[0]} if std else {})

    def tensors(self) -> dict[str, Tensor]:
        """See the base class."""
        return {
            **state.prefixed("behaviour", self.behaviour.state_dict()),
            **state.prefixed("critic", self._critic.state_dict()),
            **state.prefixed("optimiser", self._adam.tensors()),
            **state.prefixed("observations", self._statistics.tensors()),
            **state.prefixed("rewards", self._estimator.tensors()),
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """See the base class."""
        state.refuse_other_names(tensors, self.tensors())
        state.load_module(self.behaviour, tensors, "behaviour")
        state.load_module(self._critic, tensors, "critic")
        self._adam.load_tensors(tensors, "optimiser")
        self._statistics.load_tensors(state.without_prefix("observations", tensors))
        self._estimator.load_tensors(state.without_prefix("rewards", tensors))

    def values(self) -> dict[str, JSON]:
        """See the base class."""
        shuffle = cast("JSON", self._shuffle.bit_generator.state)
        return {"epochs": self._epochs, "shuffle": shuffle}

    def load_values(self, values: Mapping[str, JSON]) -> None:
        """See the base class."""
        self._epochs = cast("int", values["epochs"])
        self._shuffle.bit_generator.state = cast("dict[str, Any]", values["shuffle"])


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


def _given(choice: bool | None, *, otherwise: bool) -> bool:  # noqa: FBT001 - private
    return otherwise if choice is None else choice
