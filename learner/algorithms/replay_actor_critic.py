"""What algorithms share that train an actor and critics from replay: DDPG, TD3 and SAC."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from common.signature import ColumnKey, GraphInput, GraphOutput, Noise, Role
from learner.algorithms import behaviour, state
from learner.algorithms.base import refuse_mode_dependent_layers
from learner.algorithms.off_policy import OffPolicyAlgorithm, ReplayConfig
from learner.algorithms.optimiser import FlatAdam, TargetNetwork
from learner.algorithms.schedules import Schedule, scheduled
from learner.losses import q_learning
from learner.networks.bodies import Activation  # noqa: TC001 - command lines read it at run time
from learner.networks.heads import Heads, differentiable
from learner.networks.observations import encoder_of, preprocessor_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from common import specs
    from learner.algorithms.base import JSON
    from learner.experience.transitions import Transitions
    from learner.exploration import Exploration

RANDOM_SHARE = "random_share"
"""The key of the exploration value that is the probability of a uniformly random action."""


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig(ReplayConfig):
    """Hyperparameters that every algorithm with an actor and critics over replay has."""

    batch_size: int = 256
    """Transitions of a gradient step."""
    replay_ratio: float = 1.0
    """Gradient steps for each environment step of all samplers together, after learning_starts."""
    random_steps: int | None = None
    """Environment steps of all samplers together that begin a run with uniformly random actions;
    None is learning_starts."""
    actor_learning_rate: float = 3e-4
    """Step size of the actor's Adam at the start."""
    critic_learning_rate: float = 1e-3
    """Step size of the critics' Adam at the start."""
    learning_rate_schedule: Schedule = "constant"
    """`linear` brings all learning rates to 0 at the end of the step budget."""
    adam_epsilon: float = 1e-8
    """Epsilon of Adam."""
    max_gradient_norm: float | None = None
    """Norm that the gradients of the actor and of the critics are clipped to, each by itself; None
    does not clip."""
    target_tau: float = 0.005
    """Share of the way to the networks in training that targets go at a time."""
    hidden_sizes: tuple[int, ...] | None = None
    """Hidden layers of actor and critics; None is 256 256, and 256 behind convolutions."""
    activation: Activation = "relu"
    """Activation of the hidden layers."""
    network: str = "auto"
    """`auto` encodes images with convolutions and everything else as a vector. `module:factory`
    names a function from the observation space to an nn.Module from observations to features, of
    which the actor and the critics each get one."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        for field in ("actor_learning_rate", "critic_learning_rate", "adam_epsilon"):
            self._check(field, getattr(self, field) > 0, "must be above 0")
        random, norm = self.random_steps, self.max_gradient_norm
        self._check("random_steps", random is None or random >= 0, "must not be negative")
        self._check("max_gradient_norm", norm is None or norm > 0, "must be above 0, or none")
        self._check("target_tau", 0 < self.target_tau <= 1, "must be in (0, 1]")
        self._check("hidden_sizes", min(self.hidden_sizes or (1,)) >= 1, "must be at least 1 each")

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

    def adam(self, network: Heads, learning_rate: float) -> FlatAdam:
        """The optimiser of a network."""
        return FlatAdam(
            dict(network.named_parameters()),
            learning_rate=learning_rate,
            epsilon=self.adam_epsilon,
            max_gradient_norm=self.max_gradient_norm,
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


C = TypeVar("C", bound=ActorCriticConfig)


class ReplayActorCritic(OffPolicyAlgorithm[C]):
    """An actor and K critics with targets, each with an optimiser of its own.

    Noise of the updates is drawn on the host, so that a run goes on bit for bit on any device.
    """

    def prepare(self, policy: ActorPolicy, critics: Heads) -> None:
        """Everything that updates need of the networks; `build` calls it once."""
        refuse_mode_dependent_layers(policy, critics)
        policy.to(self.device)
        critics.to(self.device)
        config = self.config
        self._preprocess = policy.preprocess
        self._observed = [
            ColumnKey(Role.OBSERVATION, "", tensor.key)
            for tensor in policy.inputs
            if tensor.role == Role.OBSERVATION
        ]
        self._critic_network = critics
        self._actor_adam = config.adam(policy.actor, config.actor_learning_rate)
        self._critic_adam = config.adam(critics, config.critic_learning_rate)
        self._target_critics = TargetNetwork(critics, self._critic_adam)
        self._actor, self._critics = differentiable(policy.actor), differentiable(critics)
        self._target = differentiable(self._target_critics.network)
        self._generator = np.random.default_rng(self.seed)
        self._updates = 0

    def scalars(self, environment_steps: int) -> dict[str, Exploration]:
        """The share of random actions: all of them at first, then none."""
        config = self.config
        steps = config.learning_starts if config.random_steps is None else config.random_steps
        return {RANDOM_SHARE: 1.0 if environment_steps < steps else 0.0}

    def set_learning_rates(self, progress: float) -> None:
        """Those of the coming update."""
        config = self.config
        for adam, rate in (
            (self._actor_adam, config.actor_learning_rate),
            (self._critic_adam, config.critic_learning_rate),
        ):
            adam.set_learning_rate(scheduled(rate, config.learning_rate_schedule, progress))

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

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers on the device."""
        return self._tensor(self._generator.standard_normal(shape, np.float32))

    def on_device(self, batch: Transitions) -> Minibatch:
        """The transitions as networks take them."""
        columns, following = batch.columns, batch.next_columns
        masks = ColumnKey(Role.ACTION_MASK)
        mask, next_mask = columns.get(masks), following.get(masks)
        return Minibatch(
            parts=self._preprocess([self._tensor(columns[key]) for key in self._observed]),
            next_parts=self._preprocess([self._tensor(following[key]) for key in self._observed]),
            actions=self._tensor(columns[ColumnKey(Role.ACTION)]),
            mask=None if mask is None else self._tensor(mask),
            next_mask=None if next_mask is None else self._tensor(next_mask),
            returns=self._tensor(batch.returns),
            discounts=self._tensor(batch.discounts),
            weights=self._tensor(batch.weights) if self.config.prioritised else None,
        )

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def counts(self) -> dict[str, float]:
        """The metrics that need no device."""
        return {
            "train/learning_rate": self._actor_adam.learning_rate,
            "train/n_updates": float(self._updates),
        }

    def tensors(self) -> dict[str, Tensor]:
        """See the base class."""
        return {
            **state.prefixed("behaviour", self.behaviour.state_dict()),
            **state.prefixed("critics", self._critic_network.state_dict()),
            **state.prefixed("target_critics", self._target_critics.network.state_dict()),
            **state.prefixed("optimiser.actor", self._actor_adam.tensors()),
            **state.prefixed("optimiser.critics", self._critic_adam.tensors()),
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """See the base class."""
        own = self.tensors()
        state.refuse_other_names(tensors, own)
        state.copy_all(own, tensors)

    def values(self) -> dict[str, JSON]:
        """See the base class."""
        noise = cast("JSON", self._generator.bit_generator.state)
        return {"updates": self._updates, "noise": noise}

    def load_values(self, values: Mapping[str, JSON]) -> None:
        """See the base class."""
        self._updates = cast("int", values["updates"])
        self._generator.bit_generator.state = cast("dict[str, Any]", values["noise"])
