"""Deep deterministic policy gradient, and its twin delayed successor TD3.

Lillicrap et al. 2016, "Continuous control with deep reinforcement learning"
(https://arxiv.org/abs/1509.02971), and Fujimoto et al. 2018, "Addressing function approximation
error in actor-critic methods" (https://arxiv.org/abs/1802.09477). Deviations:

- Actions lie in [-1, 1] for every network and all noise, whatever the bounds of the space; the
  graph scales them. Replay holds what the environment got.
- The Ornstein-Uhlenbeck process starts from 0 in every episode, and an environment step is its unit
  of time; its noise is clipped with the action.
- Orthogonal initialisation; no weight decay and no batch normalisation, and the critic of DDPG sees
  the action in its first layer, as TD3's does.
- Time limits bootstrap with the value of the last observation (Pardo et al. 2018,
  https://arxiv.org/abs/1712.00378). n-step returns are not corrected for exploration.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from learner.algorithms import behaviour
from learner.algorithms.base import single_agent_only
from learner.algorithms.device_means import DeviceMeans
from learner.algorithms.optimiser import TargetNetwork
from learner.algorithms.single_actor_critic import (
    ActorPolicy,
    Minibatch,
    SingleActorCritic,
    SingleActorCriticConfig,
    normal_noise,
)
from learner.losses import q_learning
from learner.networks.bounded_actions import ActionBounds, at_random, bounded_box
from learner.networks.heads import differentiable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from common import specs
    from learner.algorithms.base import Stateful
    from learner.experience.transitions import Transitions
    from learner.exploration import Exploration

NOISE_SCALE = "noise_scale"
"""The key of the exploration value that noise is multiplied by."""

OU_STATE = "ornstein_uhlenbeck"
"""The key of the graph's state where noise has a memory."""


@dataclasses.dataclass(frozen=True)
class DDPGConfig(SingleActorCriticConfig):
    """Hyperparameters."""

    actor_learning_rate: float = 1e-3
    """Step size of the actor's Adam at the start."""
    exploration: Literal["gaussian", "ornstein_uhlenbeck"] = "gaussian"
    """Noise of every step by itself, or noise that drifts and so pushes one way for a while."""
    exploration_noise: float = 0.1
    """Deviation of the noise, where an action reaches from -1 to 1; of the Ornstein-Uhlenbeck
    process its sigma."""
    ou_theta: float = 0.15
    """Share of the way back to 0 that the Ornstein-Uhlenbeck process goes in a step: it forgets in
    1 / ou_theta steps, and its deviation becomes exploration_noise / sqrt(ou_theta (2 -
    ou_theta))."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        self._check("exploration_noise", self.exploration_noise >= 0, "must not be negative")
        self._check("ou_theta", 0 < self.ou_theta <= 1, "must be in (0, 1]")


@dataclasses.dataclass(frozen=True)
class TD3Config(DDPGConfig):
    """Hyperparameters."""

    policy_delay: int = 2
    """Gradient steps of the critics for each one of the actor and of all targets."""
    target_noise: float = 0.2
    """Deviation of the noise on the target action, where an action reaches from -1 to 1."""
    target_noise_clip: float = 0.5
    """The largest noise on the target action."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        self._check("policy_delay", self.policy_delay >= 1, "must be at least 1")
        for field in ("target_noise", "target_noise_clip"):
            self._check(field, getattr(self, field) >= 0, "must not be negative")


class NoisyActor(ActorPolicy):
    """Observation and noise to an action.

    Raises:
        UnsupportedSpaceError: The actions are not those of a bounded Box.
    """

    def __init__(self, spec: specs.EnvironmentSpec, config: DDPGConfig, name: str) -> None:
        bounds = ActionBounds(bounded_box(spec.agent.action, name))
        drifting = config.exploration == "ornstein_uhlenbeck"
        remembered = np.zeros(bounds.width, np.float32)
        state_input = behaviour.initial_state(remembered, spec.agent.name, OU_STATE)
        memory = (state_input, behaviour.reset_input()) if drifting else ()
        super().__init__(
            spec,
            config.heads(spec, bounds.width, head_gain=0.01),
            network=config.network,
            uniform=1 + bounds.width,
            inputs=(*memory, normal_noise(spec, bounds.width), behaviour.scalar_input(NOISE_SCALE)),
            outputs=(behaviour.next_state(state_input),) if drifting else (),
            settings=(config.exploration, config.ou_theta),
        )
        self.bounds = bounds
        self._drifting, self._theta = drifting, config.ou_theta

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Observations, then what `inputs` lists, to what `outputs` lists.

        The process, of sigma 1: x <- (1 - theta) x + N(0, 1), from 0 before an episode.
        """
        head, (*memory, normal, scale, uniform, share) = self.acted(inputs)
        if self._drifting:
            former, reset = memory
            kept = torch.where(reset.unsqueeze(1), 0.0, former)
            normal = (1.0 - self._theta) * kept + normal
        greedy = torch.tanh(head)
        noisy = torch.clamp(greedy + scale.unsqueeze(1) * normal, -1.0, 1.0)
        action = self.bounds.to_space(at_random(noisy, uniform, share))
        answer = (action, self.bounds.to_space(greedy))
        return (*answer, normal) if self._drifting else answer


class DDPG(SingleActorCritic[DDPGConfig]):
    """DDPG for one agent with actions of a bounded Box."""

    name = "ddpg"
    Config = DDPGConfig
    behaviour: NoisyActor
    n_critics: ClassVar[int] = 1

    def build(self) -> NoisyActor:
        """Actor, critics, targets of both and their optimisers."""
        single_agent_only(self.spec, self.name)
        config = self.config
        policy = NoisyActor(self.spec, config, self.name)
        width = policy.bounds.width
        critics = config.heads(self.spec, 1, count=self.n_critics, beside=width, head_gain=1.0)
        self.prepare(policy, critics)
        self._judge = differentiable(critics, count=1)
        self._target_policy = TargetNetwork(policy.actor, self._actor_adam)
        self._target_actor = differentiable(self._target_policy.network)
        self._means = DeviceMeans(
            ("train/critic_loss", "train/q_value", "train/critic_gradient_norm"), self.device
        )
        self._actor_means = DeviceMeans(
            ("train/actor_loss", "train/actor_gradient_norm"), self.device
        )
        return policy

    @property
    def delay(self) -> int:
        """d, updates of the critics for each of the actor and the targets."""
        return 1

    def scalars(self, environment_steps: int) -> dict[str, Exploration]:
        """The scale of the noise, and the share of random actions."""
        return {**super().scalars(environment_steps), NOISE_SCALE: self.config.exploration_noise}

    def update(self, batch: Transitions, progress: float) -> Tensor | None:
        """One gradient step of algorithm 1 of either paper.

            a' <- pi_target(s')                                 [TD3: with clipped noise]
            y <- R + discount min_k Q_target,k(s', a')
            step each Q_k down the gradient of mean(w (Q_k(s, a) - y)^2 / 2)
            every d steps:                                      [DDPG: d = 1]
                step pi up the gradient of mean(Q_1(s, pi(s)))
                all targets <- (1 - tau) targets + tau what is in training

        The errors |Q_k(s, a) - y|, as means over k, are returned where replay is prioritised.
        """
        self.set_learning_rates(progress)
        data = self.minibatch(batch)
        actions = self.behaviour.bounds.to_unit(data.actions)
        step = self.regress([*data.parts, actions], self._targets(data), data)
        self._means.add(step.losses, step.values, step.norm)
        self._updates += 1
        if self._updates % self.delay == 0:
            self._improve(data)
            self._target_policy.follow(self.config.target_tau)
            self._target_critics.follow(self.config.target_tau)
        return step.errors

    @torch.no_grad()
    def _targets(self, data: Minibatch) -> Tensor:
        """[M]."""
        following = torch.tanh_(self._target_actor(data.next_parts))
        values = self._target([*data.next_parts, self.smoothed(following)])
        return q_learning.bootstrapped(data.returns, data.discounts, values.amin(1))

    def smoothed(self, actions: Tensor) -> Tensor:
        """The target actions [M, d] that are valued for target actions."""
        return actions

    @torch.no_grad()
    def _improve(self, data: Minibatch) -> None:
        """The deterministic policy gradient, Silver et al. 2014: dQ/da through da/dtheta."""
        head, recording = self._actor.forward(data.parts)
        action = torch.tanh(head)
        values, judged = self._judge.forward([*data.parts, action])
        uphill = torch.full_like(values, -1.0 / len(values))
        slope = self._judge.gradient_of_action(judged, uphill)
        self._actor.backward(recording, slope.mul_(1.0 - action.square()))
        self._actor_means.add(-values, self._actor_adam.descend())

    def metrics(self) -> dict[str, float]:
        """See the base class."""
        means = self._means.take()
        if not means:
            return {}
        return means | self._actor_means.take() | self.counts()

    def parts(self) -> Mapping[str, nn.Module | Stateful]:
        """See the base class."""
        return {**super().parts(), "target_actor": self._target_policy.network}


class TD3(DDPG):
    """TD3 for one agent with actions of a bounded Box."""

    name = "td3"
    Config = TD3Config
    config: TD3Config
    n_critics = 2

    @property
    def delay(self) -> int:
        """See the base class."""
        return self.config.policy_delay

    @torch.no_grad()
    def smoothed(self, actions: Tensor) -> Tensor:
        """clip(a + clip(N(0, sigma), -c, c), -1, 1): section 5.3 of the paper."""
        most = self.config.target_noise_clip
        noise = self.normal(*actions.shape).mul_(self.config.target_noise).clamp_(-most, most)
        return noise.add_(actions).clamp_(-1.0, 1.0)
