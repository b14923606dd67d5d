"""What algorithms share that train one agent's actor and critics from replay: DDPG, TD3 and SAC."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from common.signature import ColumnKey, GraphInput, GraphOutput, Noise, Role
from learner.algorithms import behaviour
from learner.algorithms.replay_actor_critic import (
    RANDOM_SHARE,
    ActorCriticConfig,
    ReplayActorCritic,
)
from learner.losses import q_learning
from learner.networks.heads import Heads, differentiable
from learner.networks.observations import encoder_of, preprocessor_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common import specs
    from learner.experience.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class SingleActorCriticConfig(ActorCriticConfig):
    """Hyperparameters that every such algorithm has."""

    network: str = "auto"
    """`auto` encodes images with convolutions and everything else as a vector. `module:factory`
    names a function from the observation space to an nn.Module from observations to features, of
    which the actor and the critics each get one."""

    def heads(
        self,
        spec: specs.EnvironmentSpec,
        outputs: int,
        *,
        head_gain: float,
        count: int = 1,
        beside: int = 0,
    ) -> Heads:
        """Networks over observations, with an encoder of their own; see `Heads`."""
        return Heads(
            encoder_of(spec.agent.observation, network=self.network),
            outputs,
            hidden_sizes=self.hidden_sizes,
            activation=self.activation,
            head_gain=head_gain,
            count=count,
            beside=beside,
        )


class ActorPolicy(behaviour.BehaviourPolicy):
    """A policy around an actor that is trained from replay.

    Its inputs are the observations, the mask if there is one, `inputs` in their order, uniform
    noise, and the share of actions that are random whatever the actor says.

    Args:
        spec: The environment.
        actor: The network, over `preprocess` of the observations.
        network: `auto` or `module:factory`, see learner.networks.observations.
        uniform: How many uniform numbers it takes, the first of which decides on randomness.
        inputs: What else it takes.
        outputs: What it answers besides action and greedy action.
        masked: Entries of the action mask; 0 takes none.
        settings: What the graph depends on besides modules, tensors and spaces.

    Attributes:
        preprocess: The stage without parameters before the actor.
        actor: See above.
    """

    def __init__(
        self,
        spec: specs.EnvironmentSpec,
        actor: Heads,
        *,
        network: str,
        uniform: int,
        inputs: Sequence[GraphInput] = (),
        outputs: Sequence[GraphOutput] = (),
        masked: int = 0,
        settings: Sequence[object] = (),
    ) -> None:
        group = spec.agent
        observations, leaves = behaviour.observation_inputs(spec, group)
        masks = [behaviour.mask_input(spec, group, masked)] if masked else []
        noise = behaviour.noise_input(spec, group, Noise.OPEN_UNIFORM, (uniform,), "uniform")
        share = behaviour.scalar_input(RANDOM_SHARE)
        super().__init__(
            inputs=(*observations, *masks, *inputs, noise, share),
            outputs=(*behaviour.action_outputs(spec, group), *outputs),
            leaves=leaves,
            structure=" ".join([behaviour.structure_of(spec), *map(str, settings)]),
        )
        self._leaves = len(observations)
        self.preprocess = preprocessor_of(group.observation, network=network, normalise=False)
        self.actor = actor

    def acted(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """What the actor says [N, outputs], and the inputs behind the observations."""
        head: Tensor = self.actor(self.preprocess(inputs[: self._leaves]))
        return head, inputs[self._leaves :]


def normal_noise(spec: specs.EnvironmentSpec, width: int) -> GraphInput:
    """The standard normal numbers of a policy over continuous actions, [N, width]."""
    return behaviour.noise_input(spec, spec.agent, Noise.STANDARD_NORMAL, (width,), "normal")


class Minibatch(NamedTuple):
    """M transitions on the device.

    Attributes:
        parts: What the preprocessor makes of the observations.
        next_parts: The same of those at the end of the window.
        actions: What the environment got, [M, *shape] in the dtype of the action space.
        mask: [M, A] bool, or None.
        next_mask: [M, A] bool, or None.
        returns: [M].
        discounts: [M].
        weights: [M] of prioritised replay, or None.
    """

    parts: list[Tensor]
    next_parts: list[Tensor]
    actions: Tensor
    mask: Tensor | None
    next_mask: Tensor | None
    returns: Tensor
    discounts: Tensor
    weights: Tensor | None


class Regression(NamedTuple):
    """A step of the critics.

    Attributes:
        values: Q_k(s, a) before it, [M, K].
        losses: [M, K], weighted.
        norm: Of the gradient.
        errors: What priorities follow from [M], or None.
    """

    values: Tensor
    losses: Tensor
    norm: Tensor
    errors: Tensor | None


C = TypeVar("C", bound=SingleActorCriticConfig)


class SingleActorCritic(ReplayActorCritic[C]):
    """An actor and K critics over the observations of one agent."""

    def prepare(self, policy: ActorPolicy, critics: Heads) -> None:
        """Everything that updates need of the networks; `build` calls it once."""
        policy.to(self.device)
        critics.to(self.device)
        self.optimise(policy.actor, critics, max_gradient_norm=self.config.max_gradient_norm)
        self._preprocess = policy.preprocess
        self._observed = [
            ColumnKey(Role.OBSERVATION, "", tensor.key)
            for tensor in policy.inputs
            if tensor.role == Role.OBSERVATION
        ]
        self._actor, self._critics = differentiable(policy.actor), differentiable(critics)
        self._target = differentiable(self._target_critics.network)

    @torch.no_grad()
    def regress(
        self, inputs: list[Tensor], targets: Tensor, data: Minibatch, chosen: Tensor | None = None
    ) -> Regression:
        """A step of every critic down the gradient of mean(w (Q_k(s, a) - y)^2 / 2).

        Args:
            inputs: Of the critics.
            targets: y, [M].
            data: Where the weights w are.
            chosen: [M, K], which outputs are Q_k(s, a); None where the outputs [M, K] are.
        """
        outputs, recording = self._critics.forward(inputs)
        values = outputs if chosen is None else outputs.gather(1, chosen)
        wanted = targets.unsqueeze(1).expand_as(values)
        slopes = q_learning.HALF_SQUARED.slope(values, wanted)
        losses = q_learning.HALF_SQUARED.loss(values, wanted)
        prioritised = data.weights is not None
        errors = slopes.abs().mean(1) if prioritised else None
        if data.weights is not None:
            slopes, losses = (each * data.weights.unsqueeze(1) for each in (slopes, losses))
        gradient = slopes.mul_(1.0 / len(values))
        if chosen is not None:
            gradient = torch.zeros_like(outputs).scatter_(1, chosen, gradient)
        self._critics.backward(recording, gradient)
        return Regression(values, losses, self._critic_adam.descend(), errors)

    def minibatch(self, batch: Transitions) -> Minibatch:
        """The transitions as networks take them."""
        columns, following = batch.columns, batch.next_columns
        masks = ColumnKey(Role.ACTION_MASK)
        mask, next_mask = columns.get(masks), following.get(masks)
        return Minibatch(
            parts=self._preprocess([self.to_device(columns[key]) for key in self._observed]),
            next_parts=self._preprocess([self.to_device(following[key]) for key in self._observed]),
            actions=self.to_device(columns[ColumnKey(Role.ACTION)]),
            mask=None if mask is None else self.to_device(mask),
            next_mask=None if next_mask is None else self.to_device(next_mask),
            returns=self.to_device(batch.returns),
            discounts=self.to_device(batch.discounts),
            weights=self.to_device(batch.weights) if self.config.prioritised else None,
        )
