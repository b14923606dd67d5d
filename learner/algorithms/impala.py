"""IMPALA and APPO: actor-critics that learn from samplers which run ahead of the updates.

Espeholt et al. 2018, "IMPALA: Scalable distributed deep-RL with importance weighted actor-learner
architectures", https://arxiv.org/abs/1802.01561. Samplers act with the newest policy that they
have and never wait for an update; V-trace (learner.losses.vtrace) corrects for how far the policy
has moved since. Deviations:

- Losses are means over the steps of a batch where the paper sums over time and batch, so that
  learning rate and gradient norm do not depend on the batch's size.
- Adam where the paper takes RMSProp, whose epsilon of 0.1 belongs to sums of gradients.
- Time limits bootstrap with the value of the last observation; the paper does not tell truncation
  from termination.
- Experience that is older than `max_staleness` versions is dropped.
- Lambda of V-trace may be below 1 (remark 2); it is 1 for IMPALA unless told otherwise.

APPO is PPO (learner.algorithms.ppo) on the same stream of experience: the ratio to the policy that
acted is clipped, and advantages and value targets are those of V-trace (as in Luo et al. 2020,
"IMPACT", https://arxiv.org/abs/1912.00167, without its target network: experience is used once and
is never older than `max_staleness`). The ratio weighs the advantages already, so rho does not.

A memory begins a fragment in the state that the policy which acted had, as recorded (Kapturowski et
al. 2019, "Recurrent experience replay in distributed reinforcement learning", section 3).

Statistics that normalise observations take in every batch after its update, and travel with the
next version.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from learner.algorithms.estimation import Estimates, VTraceEstimator, explained_variance
from learner.algorithms.lag import LagConfig
from learner.algorithms.on_policy import OneLossAlgorithm
from learner.algorithms.on_policy_settings import OneLossConfig
from learner.algorithms.ppo import PPO, PPOConfig
from learner.algorithms.rollout import Rollout, rollout_of
from learner.algorithms.schedules import scheduled
from learner.losses import value
from learner.networks.distributions import DiagonalGaussian

if TYPE_CHECKING:
    from learner.algorithms.actor_critic import Actor, RoundPolicy
    from learner.algorithms.on_policy import Evaluation
    from learner.experience.on_policy import OnPolicyBatch


@dataclasses.dataclass(frozen=True)
class IMPALAConfig(OneLossConfig, LagConfig):
    """Hyperparameters. Where None is the default, it stands for what suits the action space."""

    n_envs: int | Literal["auto"] = 16
    """Fragments that an update takes, and environments of a local run. `auto` takes as many as
    there are environments when the run begins."""
    n_steps: int = 20
    """Steps of a fragment."""
    trace_lambda: float = 1.0
    """Lambda of V-trace: 0 trusts the values, 1 the rewards."""
    learning_rate: float = 6e-4
    """Step size of Adam at the start."""
    entropy_coefficient: float = 0.01
    """Weight of the entropy bonus."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        self._check("trace_lambda", 0 <= self.trace_lambda <= 1, "must be in [0, 1]")


class _Outlook(NamedTuple):
    """What the networks say of a batch, with their graph.

    Attributes:
        values: `[(T + 1) B + N]`, V of every observation.
        log_probs: [T B], of the actions taken.
        entropy: [T B].
    """

    values: Tensor
    log_probs: Tensor
    entropy: Tensor


class IMPALA(OneLossAlgorithm[IMPALAConfig]):
    """IMPALA for one agent and any actions but a Dict."""

    name = "impala"
    Config = IMPALAConfig
    counter = "updates"
    remembers = True
    behaviour: Actor

    def build(self) -> RoundPolicy:
        """See the base class."""
        actor, config = super().build(), self.config
        self._estimator = VTraceEstimator(
            self._rewards,
            gamma=config.gamma,
            trace_lambda=config.trace_lambda,
            rho_clip=config.rho_clip,
            c_clip=config.c_clip,
        )
        return actor

    @property
    def _mixes_slots(self) -> bool:
        return True

    def update(self, batch: OnPolicyBatch, progress: float) -> dict[str, float]:
        """Section 4.2 of the paper: one step on a batch that older policies mu have rolled.

            v, A, rho <- V-trace under V and the ratio pi(a | s) / mu(a | s)
            step down the gradient of -rho A log pi(a | s) + c1 (V - v)^2 - c2 H

        A batch without a valid row changes nothing and has no metrics.
        """
        data = rollout_of(batch, self.signature, self.behaviour.distribution, device=self.device)
        if not data.valid.any():
            return {}
        config = self.config
        learning_rate = scheduled(config.learning_rate, config.learning_rate_schedule, progress)
        self._adam.set_learning_rate(learning_rate)
        seen = self._look(data, self.behaviour.preprocess(data.leaves))
        values, log_ratio = seen.values.detach(), seen.log_probs.detach() - data.log_probs
        targets, advantages, rho = self._estimator.trace(data, values, log_ratio)
        weights = data.valid_rows / data.valid_rows.sum()
        policy_loss = -torch.dot(rho * advantages * weights, seen.log_probs)
        value_loss = torch.dot(value.squared_error(seen.values[: data.rows], targets), weights)
        entropy = torch.dot(seen.entropy, weights)
        loss = policy_loss + config.value_coefficient * value_loss
        loss = loss - config.entropy_coefficient * entropy
        norm = self._adam.step(loss)
        self._take_in(data)
        self._updates += 1
        means = (loss, policy_loss, value_loss, entropy, norm, torch.dot(rho, weights))
        explained = explained_variance(data, values, Estimates(advantages, targets))
        return {
            "train/learning_rate": learning_rate,
            "train/explained_variance": explained,
            **self._metrics(means),
        }

    def _look(self, data: Rollout, parts: list[Tensor]) -> _Outlook:
        """The networks as they are, on the whole batch at once."""
        heads, values = [], []
        for features, worth in self._passes(data, parts):
            heads.append(self.behaviour.head(features))
            values.append(worth)
        head = torch.cat(heads)[: data.rows]
        distribution = self.behaviour.distribution
        return _Outlook(
            torch.cat(values),
            distribution.log_prob(head, data.actions, data.masks),
            distribution.entropy(head, data.masks),
        )

    def _metrics(self, means: tuple[Tensor, ...]) -> dict[str, float]:
        """Numbers that leave the device together."""
        found = [mean.detach() for mean in means]
        distribution = self.behaviour.distribution
        if isinstance(distribution, DiagonalGaussian):
            found.append(distribution.log_std.detach().exp().mean())
        loss, policy_loss, value_loss, entropy, norm, rho, *std = torch.stack(found).tolist()
        metrics = {
            "train/loss": loss,
            "train/policy_gradient_loss": policy_loss,
            "train/value_loss": value_loss,
            "train/entropy_loss": -entropy,
            "train/gradient_norm": norm,
            "train/mean_rho": rho,
            "train/n_updates": float(self._updates),
        }
        return metrics | ({"train/std": std[0]} if std else {})


@dataclasses.dataclass(frozen=True)
class APPOConfig(LagConfig, PPOConfig):
    """Hyperparameters. Where None is the default, it stands for what suits the action space."""

    n_envs: int | Literal["auto"] = 8
    """Fragments that an update takes, and environments of a local run. `auto` takes as many as
    there are environments when the run begins."""
    n_steps: int = 64
    """Steps of a fragment."""
    n_minibatches: int = 4
    """Minibatches that a batch is cut into, in every epoch anew; must divide n_envs x n_steps."""
    gae_lambda: float = 0.95
    """Lambda of V-trace, which is generalised advantage estimation where the policy that acted is
    the newest one: 0 trusts the values, 1 the rewards."""
    epochs: int = 2
    """Times that a batch is gone through."""


class APPO(PPO):
    """Asynchronous PPO for one agent and any actions but a Dict."""

    name = "appo"
    Config = APPOConfig
    ratio_error = "train/ratio_error"
    config: APPOConfig

    def build(self) -> RoundPolicy:
        """See the base class."""
        actor, config = super().build(), self.config
        self._traces = VTraceEstimator(
            self._rewards,
            gamma=config.gamma,
            trace_lambda=config.gae_lambda,
            rho_clip=config.rho_clip,
            c_clip=config.c_clip,
        )
        return actor

    @property
    def _mixes_slots(self) -> bool:
        return True

    def _estimates(
        self, data: Rollout, parts: list[Tensor], evaluation: Evaluation | None = None
    ) -> Estimates:
        """V-trace under the networks as they are; the ratio in the loss stands for rho."""
        now = evaluation or self._evaluate(data, parts)
        targets, advantages, _ = self._traces.trace(data, now.values, now.log_ratio)
        return Estimates(advantages, targets)
