"""DDPG from the base class, as docs/tutorial-ddpg.md builds it step by step.

    wiserl train ddpg_tutorial:TutorialDDPG --env Pendulum-v1 --total-steps 10000

The project's own, learner/algorithms/ddpg.py, adds twin critics, drifting noise, images, a user's
network and gradient steps without autograd.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from common import spaces
from common.errors import UnsupportedSpaceError
from common.signature import Noise
from learner.algorithms import behaviour
from learner.algorithms.base import single_agent_only
from learner.algorithms.device_means import DeviceMeans
from learner.algorithms.off_policy import OffPolicyAlgorithm, ReplayConfig
from learner.algorithms.optimiser import FlatAdam, TargetNetwork
from learner.networks.bodies import mlp
from learner.networks.bounded_actions import ActionBounds, bounded_box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from common.specs import EnvironmentSpec
    from learner.algorithms.base import Stateful
    from learner.experience.transitions import Transitions
    from learner.exploration import Exploration

NOISE_SCALE = "noise_scale"


# 1. Settings: every field is a flag, a variable and a key of presets.
@dataclasses.dataclass(frozen=True)
class TutorialConfig(ReplayConfig):
    """Hyperparameters; those of the replay are inherited."""

    n_envs: int = 4
    """Environments that the local samplers step."""
    replay_ratio: float = 1.0
    """Gradient steps for each environment step."""
    gamma: float = 0.98
    """Discount of rewards a step later."""
    learning_rate: float = 1e-3
    """Step size of both Adams."""
    target_tau: float = 0.005
    """Share of the way to the networks that their targets go in a gradient step."""
    exploration_noise: float = 0.1
    """Deviation of the noise on actions, which reach from -1 to 1."""


# 2. Choose action: the module that travels to samplers as an ONNX graph.
class NoisyActor(behaviour.BehaviourPolicy):
    """Observation and noise to an action."""

    def __init__(self, spec: EnvironmentSpec) -> None:
        group = spec.agent
        if not isinstance(group.observation, spaces.Box):
            raise UnsupportedSpaceError("the tutorial's DDPG observes one Box; take ddpg")
        bounds = ActionBounds(bounded_box(group.action, "the tutorial's DDPG"))
        observations, leaves = behaviour.observation_inputs(spec, group)
        noise = behaviour.noise_input(spec, group, Noise.STANDARD_NORMAL, (bounds.width,))
        super().__init__(
            inputs=(*observations, noise, behaviour.scalar_input(NOISE_SCALE)),
            outputs=behaviour.action_outputs(spec, group),
            leaves=leaves,
            structure=behaviour.structure_of(spec),
        )
        self.bounds = bounds
        features = math.prod(group.observation.shape)
        self.actor = mlp(features, (64, 64), bounds.width, activation="relu", head_gain=0.01)

    def forward(self, observation: Tensor, noise: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        """[N, *shape], [N, d] and [N] to the action and the greedy action, [N, d] each."""
        greedy = self.best(observation)
        noisy = torch.clamp(greedy + scale.unsqueeze(1) * noise, -1.0, 1.0)
        return self.bounds.to_space(noisy), self.bounds.to_space(greedy)

    def best(self, observation: Tensor) -> Tensor:
        """[N, *shape] to the action in [-1, 1], [N, d]."""
        return torch.tanh(self.actor(observation.flatten(1)))


class TutorialDDPG(OffPolicyAlgorithm[TutorialConfig]):
    """Lillicrap et al. 2016, https://arxiv.org/abs/1509.02971, algorithm 1."""

    name = "tutorial-ddpg"
    Config = TutorialConfig
    behaviour: NoisyActor

    # 3. Build: the networks, their targets and optimisers.
    def build(self) -> NoisyActor:
        """Called once, when the first sampler has said what the environment is."""
        single_agent_only(self.spec, self.name)
        policy = NoisyActor(self.spec).to(self.device)
        seen = math.prod(self.spec.agent.observation.shape)
        width = seen + policy.bounds.width
        self._critic = mlp(width, (64, 64), 1, activation="relu", head_gain=1.0).to(self.device)
        self._actor_adam = self._adam(policy.actor)
        self._critic_adam = self._adam(self._critic)
        self._target_actor = TargetNetwork(policy.actor, self._actor_adam)
        self._target_critic = TargetNetwork(self._critic, self._critic_adam)
        self._means = DeviceMeans(("train/critic_loss", "train/actor_loss"), self.device)
        return policy

    def _adam(self, network: nn.Module) -> FlatAdam:
        return FlatAdam(
            dict(network.named_parameters()),
            learning_rate=self.config.learning_rate,
            epsilon=1e-8,
            max_gradient_norm=None,
        )

    # 4. Explore: numbers that go to samplers without a new model.
    def scalars(self, environment_steps: int) -> dict[str, Exploration]:
        """Almost random actions at first, then the actor's with a little noise."""
        wide = environment_steps < self.config.learning_starts
        return {NOISE_SCALE: 2.0 if wide else self.config.exploration_noise}

    # 5. Update: one gradient step, from transitions that the replay drew.
    def update(self, batch: Transitions, progress: float) -> Tensor | None:
        """Steps the critic, the actor and both targets; returns errors where priorities ask."""
        del progress  # the share of the step budget that is spent, for schedules
        bounds = self.behaviour.bounds
        seen = self.to_device(batch.observation()).flatten(1)
        following = self.to_device(batch.next_observation()).flatten(1)
        action = bounds.to_unit(self.to_device(batch.action))
        returns, discounts, weights = (
            self.to_device(array) for array in (batch.returns, batch.discounts, batch.weights)
        )

        with torch.no_grad():
            next_action = torch.tanh(self._target_actor.network(following))
            worth = _value(self._target_critic.network, following, next_action)
            target = returns + discounts * worth  # the discount is 0 where the episode terminated
        errors = _value(self._critic, seen, action) - target
        critic_loss = (weights * errors.square()).mean()
        self._critic_adam.step(critic_loss)

        actor_loss = -_value(self._critic, seen, self.behaviour.best(seen)).mean()
        self._actor_adam.step(actor_loss)

        self._target_actor.follow(self.config.target_tau)
        self._target_critic.follow(self.config.target_tau)
        self._means.add(critic_loss, actor_loss)
        return errors.detach().abs() if self.config.prioritised else None

    # 6. Tell: numbers leave the device only here.
    def metrics(self) -> dict[str, float]:
        """Means since the last call."""
        return self._means.take()

    # 7. Save: what a checkpoint needs besides the policy.
    def parts(self) -> Mapping[str, nn.Module | Stateful]:
        """By name; that of an optimiser begins with `optimiser`."""
        return {
            "critic": self._critic,
            "target_actor": self._target_actor.network,
            "target_critic": self._target_critic.network,
            "optimiser.actor": self._actor_adam,
            "optimiser.critic": self._critic_adam,
        }


def _value(critic: nn.Module, seen: Tensor, action: Tensor) -> Tensor:
    """Q(s, a), [N]."""
    value: Tensor = critic(torch.cat([seen, action], 1))
    return value.squeeze(1)
