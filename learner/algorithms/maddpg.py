"""Multi-agent deep deterministic policy gradient: critics see all agents, actors their own.

Lowe et al. 2017, "Multi-agent actor-critic for mixed cooperative-competitive environments"
(https://arxiv.org/abs/1706.02275), algorithm 1. Every agent has a critic of its own, trained on its
own reward, so that teams may compete. Deviations:

- Discrete actions are straight-through Gumbel-softmax draws (Jang et al. 2017,
  https://arxiv.org/abs/1611.01144) where an actor is trained, one-hot where critics are, and the
  most probable ones in targets; the authors' code feeds critics the relaxed ones.
- Continuous actions are tanh in [-1, 1] to every network, whatever the bounds of the space; the
  graph scales them. Their exploration is Gaussian noise, that of discrete actions the policy's own.
- The weight of the actors' mean square outputs, and rewards that are standardised on demand, are
  those of the authors' code and of Papoudakis et al. 2021 (https://arxiv.org/abs/2006.07869).
- An agent that does not act is zeros to all critics, and its rows are in no loss of its own.
- Time limits bootstrap with the value of the last observations (Pardo et al. 2018,
  https://arxiv.org/abs/1712.00378); termination is each agent's own.
- No policies are inferred (section 4.2) and none are ensembles (section 4.3).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.signature import ColumnKey, Role
from learner.algorithms import state
from learner.algorithms.base import several_agents_only
from learner.algorithms.device_means import DeviceMeans
from learner.algorithms.joint_actor import NOISE_SCALE, JointActor
from learner.algorithms.optimiser import TargetNetwork
from learner.algorithms.policy_sharing import PolicySharing  # noqa: TC001 - command lines read it
from learner.algorithms.replay_actor_critic import ActorCriticConfig, ReplayActorCritic
from learner.losses import q_learning
from learner.networks.joint_critic import JointCritic
from learner.networks.normalisation import RewardStandardiser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from learner.experience.transitions import Transitions
    from learner.exploration import Exploration

REWARDS = "rewards"
"""How the names of the rewards' moments begin, in `MADDPG.tensors`."""


@dataclasses.dataclass(frozen=True)
class MADDPGConfig(ActorCriticConfig):
    """Hyperparameters."""

    n_envs: int = 20
    """Environments of a local run's samplers, and fragments of a round where rounds are
    synchronous."""
    segment_length: int = 25
    """Steps of an environment that are pushed together."""
    buffer_size: int = 1_000_000
    """Steps that the replay buffer holds; the oldest make room."""
    learning_starts: int = 25_000
    """Environment steps before the first gradient step."""
    batch_size: int = 1024
    """Transitions of a gradient step."""
    replay_ratio: float = 0.01
    """Gradient steps for each environment step of all samplers together, after learning_starts."""
    gamma: float = 0.95
    """Discount of rewards a step later."""
    actor_learning_rate: float = 7e-4
    """Step size of the actors' Adam at the start."""
    critic_learning_rate: float = 7e-4
    """Step size of the critics' Adam at the start."""
    max_gradient_norm: float | None = 0.5
    """Norm that the gradients of each policy and of each critic are clipped to, by itself; None
    does not clip."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Hidden layers of every actor and critic."""
    policies: PolicySharing = "per_agent"
    """A policy for each agent; `per_role`, one for agents whose names differ in their number alone
    (and whose spaces are the same); or `shared`, one for all. Agents that share one are told apart
    by a one-hot vector beside their observation. Critics are never shared."""
    network: str = "auto"
    """`auto` encodes images with convolutions and everything else as a vector. `module:factory`
    names a function from the observation space of agents to an nn.Module from observations to
    features. Each policy gets one, and all critics together as many."""
    exploration_noise: float = 0.1
    """Deviation of the noise on continuous actions, where one reaches from -1 to 1."""
    output_penalty: float = 1e-3
    """Weight of the mean square of an actor's outputs beside its loss: logits, or actions before
    tanh."""
    standardise_rewards: bool = False
    """Trains each agent on its rewards less their mean, over their deviation, of all drawn so far.
    The mean is for tasks in which agents cannot change how long an episode is."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        self._check("n_step", self.n_step == 1, "must be 1: agents may end at different steps")
        for field in ("exploration_noise", "output_penalty"):
            self._check(field, getattr(self, field) >= 0, "must not be negative")


class Joint(NamedTuple):
    """M transitions of A agents on the device.

    Attributes:
        columns: `[M, n, ...]` of each group.
        next_columns: `[M, n, ...]` of each group.
        parts: What networks take of the observations, `[M, ...]`.
        next_parts: The same of those after the step.
        acting: [A, M, 1], 1 for agents that act.
        actions: [A, M, U] as critics see them, zeros of agents that do not act.
        next_acting: [A, M, 1], 1 for agents that act in the next step, or would but for a time
            limit.
        rewards: [A, M].
        discounts: [A, M], 0 where an agent terminated.
        shares: [A, M], what a transition counts in an agent's losses; where it acted in any, they
            sum to 1.
        weights: [M], of prioritised replay.
    """

    columns: Mapping[ColumnKey, Tensor]
    next_columns: Mapping[ColumnKey, Tensor]
    parts: list[Tensor]
    next_parts: list[Tensor]
    acting: Tensor
    actions: Tensor
    next_acting: Tensor
    rewards: Tensor
    discounts: Tensor
    shares: Tensor
    weights: Tensor


class MADDPG(ReplayActorCritic[MADDPGConfig]):
    """MADDPG for several agents, with Discrete actions or those of a bounded Box."""

    name = "maddpg"
    Config = MADDPGConfig
    behaviour: JointActor

    def build(self) -> JointActor:
        """Actors, critics, targets of both and their optimisers."""
        several_agents_only(self.spec, self.name, otherwise="ddpg, td3 or sac")
        config = self.config
        policy = JointActor(
            self.spec,
            self.name,
            sharing=config.policies,
            network=config.network,
            hidden_sizes=config.hidden_sizes,
            activation=config.activation,
        ).to(self.device)
        agents = self.spec.agents
        critics = JointCritic(
            len(agents),
            policy.actor.seen.for_critics(),
            policy.width,
            hidden_sizes=config.hidden_sizes,
            activation=config.activation,
        ).to(self.device)
        # Norms are clipped one by one, not that of all agents together.
        self.optimise(policy.actor, critics, max_gradient_norm=None)
        self._critics = critics
        self._seen = [
            *policy.actor.seen.keys,
            *(each.acted for each in policy.groups),
            *(each.masked for each in policy.groups if each.masked),
        ]
        self._target_actor = TargetNetwork(policy.actor, self._actor_adam)
        self._standardiser = RewardStandardiser(len(agents)) if config.standardise_rewards else None
        self._critic_means = DeviceMeans(
            ("train/critic_loss", "train/q_value", "train/critic_gradient_norm"), self.device
        )
        self._actor_means = DeviceMeans(
            ("train/actor_loss", "train/actor_gradient_norm"), self.device
        )
        return policy

    def scalars(self, environment_steps: int) -> dict[str, Exploration]:
        """The share of random actions, and the scale of the noise on continuous ones."""
        noise = {NOISE_SCALE: self.config.exploration_noise} if self.behaviour.drifts else {}
        return {**super().scalars(environment_steps), **noise}

    def update(self, batch: Transitions, progress: float) -> Tensor | None:
        """One gradient step of algorithm 1 of the paper, for all agents i at once.

            a'_j <- mu_target,j(o'_j) for every agent j
            y_i <- r_i + discount_i Q_target,i(x', a'_1, ..., a'_A)
            step each Q_i down the gradient of mean(w (Q_i(x, a_1, ..., a_A) - y_i)^2 / 2)
            step each mu_i up the gradient of mean(Q_i(x, a_1, ..., mu_i(o_i), ..., a_A))
            all targets <- (1 - tau) targets + tau what is in training

        Means are over the transitions in which agent i acted. The errors |Q_i - y_i|, as means over
        the agents, are returned where replay is prioritised.
        """
        self.set_learning_rates(progress)
        data = self.joint(batch)
        values, targets = self._criticise(data)
        self._improve(data)
        self._updates += 1
        self._target_actor.follow(self.config.target_tau)
        self._target_critics.follow(self.config.target_tau)
        return self._errors(data, values, targets) if self.config.prioritised else None

    def _criticise(self, data: Joint) -> tuple[Tensor, Tensor]:
        """Steps the critics; values before it and targets, [A, M] both."""
        targets = self._targets(data)
        values = self._critics(data.parts, data.acting, data.actions)
        errors = q_learning.HALF_SQUARED.loss(values, targets)
        losses = (data.shares * data.weights * errors).sum(1)
        self._critic_adam.differentiate(losses.sum())
        norms = self._critics.clip_gradients(self.config.max_gradient_norm)
        self._critic_adam.descend()
        values = values.detach()
        self._critic_means.add(losses, (data.shares * values).sum(1), norms)
        return values, targets

    @torch.no_grad()
    def _targets(self, data: Joint) -> Tensor:
        """Y [A, M]."""
        policy = self.behaviour
        heads = self._target_actor.network(data.next_parts)
        following = policy.best(heads, data.next_columns) * data.next_acting
        values = self._target_critics.network(data.next_parts, data.next_acting, following)
        return q_learning.bootstrapped(data.rewards, data.discounts, values)

    def _improve(self, data: Joint) -> None:
        """Steps the actors: eq. 5 of the paper, for others' actions out of replay."""
        policy = self.behaviour
        heads = policy.actor(data.parts)
        own = policy.relaxed(heads, self._gumbel(heads.shape), data.columns)
        values = self._critics.of_own(data.parts, data.acting, data.actions, own)
        losses = -(data.shares * values).sum(1)
        penalty = (data.shares * policy.mean_squares(heads)).sum()
        self._actor_adam.differentiate(losses.sum() + self.config.output_penalty * penalty)
        norms = policy.actor.clip_gradients(self.config.max_gradient_norm)
        self._actor_adam.descend()
        self._actor_means.add(losses, norms)

    @staticmethod
    def _errors(data: Joint, values: Tensor, targets: Tensor) -> Tensor:
        """[M], of the agents that acted."""
        acted = data.shares > 0
        return ((values - targets).abs() * acted).sum(0) / acted.sum(0).clamp_(min=1)

    def _gumbel(self, shape: torch.Size) -> Tensor:
        """Draws from the standard Gumbel distribution: -log of exponential numbers."""
        drawn = self._generator.standard_exponential(tuple(shape), np.float32)
        return self.to_device(drawn).clamp_(min=1e-30).log_().neg_()

    def joint(self, batch: Transitions) -> Joint:
        """The transitions as networks take them."""
        policy = self.behaviour
        alive = self._alive(batch.columns)
        rewards = batch.returns
        if self._standardiser is not None:
            rewards = self._standardiser.standardise(rewards, alive)
        # What would act but for a time limit bootstraps with the action that it would take.
        next_acting = np.where(alive, batch.discounts > 0.0, self._alive(batch.next_columns))
        columns, next_columns = (
            {key: self.to_device(each[key]) for key in self._seen if key in each}
            for each in (batch.columns, batch.next_columns)
        )
        acting, following = (
            self.to_device(each.T.astype(np.float32)) for each in (alive, next_acting)
        )
        return Joint(
            columns=columns,
            next_columns=next_columns,
            parts=policy.parts(columns),
            next_parts=policy.parts(next_columns),
            acting=acting.unsqueeze(2),
            actions=policy.actions(columns) * acting.unsqueeze(2),
            next_acting=following.unsqueeze(2),
            rewards=self.to_device(rewards).t(),
            discounts=self.to_device(batch.discounts).t(),
            shares=acting / acting.sum(1, keepdim=True).clamp_(min=1.0),
            weights=self.to_device(batch.weights),
        )

    def _alive(self, columns: Mapping[ColumnKey, NDArray[Any]]) -> NDArray[np.bool_]:
        """Who acts, [M, A]."""
        keys = [ColumnKey(Role.ALIVE, group.name) for group in self.spec.groups]
        return np.concatenate([columns[key] for key in keys], 1)

    def metrics(self) -> dict[str, float]:
        """See the base class."""
        means = self._critic_means.take()
        return means | self._actor_means.take() | self.counts() if means else {}

    def tensors(self) -> dict[str, Tensor]:
        """See the base class."""
        moments = self._standardiser.tensors() if self._standardiser is not None else {}
        return {
            **super().tensors(),
            **state.prefixed("target_actor", self._target_actor.network.state_dict()),
            **state.prefixed(REWARDS, moments),
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """See the base class."""
        super().load_tensors(tensors)
        if self._standardiser is not None:
            self._standardiser.load_tensors(state.without_prefix(REWARDS, tensors))
