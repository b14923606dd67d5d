"""Deep Q-learning: double, dueling, n-step, prioritised, with one epsilon or a ladder of them.

Mnih et al. 2015, "Human-level control through deep reinforcement learning"
(https://doi.org/10.1038/nature14236). Options: van Hasselt et al. 2016
(https://arxiv.org/abs/1509.06461), Wang et al. 2016 (https://arxiv.org/abs/1511.06581), Schaul et
al. 2016 (https://arxiv.org/abs/1511.05952), and the exploration and n-step targets of Horgan et al.
2018 (https://arxiv.org/abs/1803.00933). Deviations:

- Adam rather than RMSProp.
- Time limits bootstrap with the value of the last observation (Pardo et al. 2018,
  https://arxiv.org/abs/1712.00378); the paper does not tell truncation from termination.
- n-step returns are not corrected for exploration, as in Ape-X; a window is shortened at the edge
  of a segment and then bootstraps with gamma to the power of what is left.
- Behind convolutions both streams of a dueling network share the fully connected layer, unless
  `hidden_sizes` gives each one of its own. Gradients into what they share are not rescaled.
- Gradients are clipped by their global norm besides the Huber loss.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from common import spaces, specs
from common.errors import UnsupportedSpaceError
from common.signature import ColumnKey, Noise, Role
from learner.algorithms import behaviour
from learner.algorithms.base import (
    JSON,
    OPTIMISER,
    refuse_mode_dependent_layers,
    single_agent_only,
)
from learner.algorithms.device_means import DeviceMeans
from learner.algorithms.off_policy import OffPolicyAlgorithm, ReplayConfig
from learner.algorithms.optimiser import FlatAdam, TargetNetwork
from learner.algorithms.q_learning_settings import QLearningConfig
from learner.algorithms.schedules import scheduled
from learner.exploration import Exploration, Ladder
from learner.losses import q_learning
from learner.networks.direct_mlp import DirectMLP
from learner.networks.distributions import available
from learner.networks.observations import encoder_of, preprocessor_of
from learner.networks.q_values import QNetwork, epsilon_greedy, noise_width

if TYPE_CHECKING:
    from collections.abc import Mapping

    from learner.algorithms.base import Stateful
    from learner.experience.transitions import Transitions

EPSILON = "epsilon"
"""The key of the exploration value."""


@dataclasses.dataclass(frozen=True)
class DQNConfig(QLearningConfig, ReplayConfig):
    """Hyperparameters."""

    dueling: bool = False
    """Splits the network into a value of the state and advantages of the actions."""
    exploration: Literal["schedule", "ladder"] = "schedule"
    """`schedule` lowers one epsilon for all environments; `ladder` gives each environment of the
    run its own, for as long as the run lasts (Ape-X)."""
    ladder_base: float = 0.4
    """Epsilon of the most exploring environment of the ladder."""
    ladder_exponent: float = 7.0
    """How far the ladder goes: the least exploring environment has ladder_base to the power of 1
    plus this."""
    hidden_sizes: tuple[int, ...] | None = None
    """Hidden layers; None is 120 84, and none behind convolutions."""
    network: str = "auto"
    """`auto` encodes images with convolutions and everything else as a vector. `module:factory`
    names a function from the observation space to an nn.Module from observations to features."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        self._check("ladder_exponent", self.ladder_exponent >= 0, "must not be negative")
        self._check("ladder_base", 0 < self.ladder_base <= 1, "must be in (0, 1]")
        self._check("hidden_sizes", min(self.hidden_sizes or (1,)) >= 1, "must be at least 1 each")


class EpsilonGreedy(behaviour.BehaviourPolicy):
    """Observation, noise and epsilon to an action.

    Attributes:
        values: The network in training.

    Raises:
        UnsupportedSpaceError: The actions are not Discrete.
    """

    def __init__(self, spec: specs.EnvironmentSpec, config: DQNConfig) -> None:
        group = spec.agent
        actions = _discrete(group.action)
        observations, leaves = behaviour.observation_inputs(spec, group)
        masks = (behaviour.mask_input(spec, group, actions.n),) if group.action_mask else ()
        width = noise_width(actions.n, masked=group.action_mask)
        noise = behaviour.noise_input(spec, group, Noise.OPEN_UNIFORM, (width,))
        super().__init__(
            inputs=(*observations, *masks, noise, behaviour.scalar_input(EPSILON)),
            outputs=behaviour.action_outputs(spec, group),
            leaves=leaves,
            structure=behaviour.structure_of(spec),
        )
        self._leaves = len(observations)
        self._start = actions.start
        self.preprocess = preprocessor_of(
            group.observation, network=config.network, normalise=False
        )
        encoder = encoder_of(group.observation, network=config.network)
        sizes = config.hidden_sizes
        if sizes is None:
            sizes = () if encoder.learns else (120, 84)
        self.values = QNetwork(
            encoder,
            actions.n,
            hidden_sizes=sizes,
            activation=config.activation,
            dueling=config.dueling,
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Observations, the mask if there is one, noise and epsilon to what `outputs` lists."""
        *fed, noise, epsilon = inputs
        mask = fed[self._leaves] if len(fed) > self._leaves else None
        values = self.values(self.preprocess(fed[: self._leaves]))
        chosen = epsilon_greedy(values, epsilon, noise, mask)
        if self._start:
            return chosen.action + self._start, chosen.greedy + self._start
        return chosen.action, chosen.greedy


class _Minibatch(NamedTuple):
    """M transitions on the device; actions are numbers from 0 on."""

    parts: list[Tensor]
    next_parts: list[Tensor]
    actions: Tensor
    next_mask: Tensor | None
    returns: Tensor
    discounts: Tensor


class _Step(NamedTuple):
    """Q(s, a) before a gradient step [M], weighted losses [M], and the gradient's norm."""

    values: Tensor
    losses: Tensor
    norm: Tensor


class DQN(OffPolicyAlgorithm[DQNConfig]):
    """DQN for one agent with Discrete actions."""

    name = "dqn"
    Config = DQNConfig
    behaviour: EpsilonGreedy

    def build(self) -> EpsilonGreedy:
        """The network, its target and the optimiser."""
        single_agent_only(self.spec, self.name)
        config = self.config
        policy = EpsilonGreedy(self.spec, config)
        refuse_mode_dependent_layers(policy)
        policy.to(self.device)
        self._values = policy.values
        self._adam = FlatAdam(
            dict(policy.values.named_parameters()),
            learning_rate=config.learning_rate,
            epsilon=config.adam_epsilon,
            max_gradient_norm=config.max_gradient_norm,
        )
        self._target = TargetNetwork(policy.values, self._adam)
        self._error = q_learning.LOSSES[config.loss]
        self._direct = _direct_of(policy.values)
        self._target_direct = _direct_of(self._target.network)
        self._observed = [
            ColumnKey(Role.OBSERVATION, "", tensor.key)
            for tensor in policy.inputs
            if tensor.role == Role.OBSERVATION
        ]
        self._start = _discrete(self.spec.agent.action).start
        self._updates = 0
        self._means = DeviceMeans(
            ("train/loss", "train/q_value", "train/gradient_norm"), self.device
        )
        return policy

    def scalars(self, environment_steps: int) -> dict[str, Exploration]:
        """Epsilon at this many steps of all samplers together, or the ladder."""
        config = self.config
        if config.exploration == "ladder":
            return {EPSILON: Ladder(config.ladder_base, config.ladder_exponent)}
        return {EPSILON: config.epsilon(environment_steps)}

    def update(self, batch: Transitions, progress: float) -> Tensor | None:
        """One gradient step of algorithm 1 of the paper, and the target network's turn.

            a' <- argmax_a Q(s', a)                  [double; else of the target network]
            y <- R + discount Q_target(s', a')
            step down the gradient of mean(w L(Q(s, a) - y))
            every C steps: Q_target <- Q

        Unavailable actions are never chosen as a'. The errors |Q(s, a) - y| are returned where
        replay is prioritised.
        """
        config, data = self.config, self._on_device(batch)
        self._adam.set_learning_rate(
            scheduled(config.learning_rate, config.learning_rate_schedule, progress)
        )
        weights = self.to_device(batch.weights) if config.prioritised else None
        targets = self._targets(data)
        if self._direct is None:
            values, losses, norm = self._step(data, targets, weights)
        else:
            values, losses, norm = self._step_by_hand(self._direct, data, targets, weights)
        self._updates += 1
        if self._updates % config.target_update_interval == 0:
            self._target.follow(config.target_tau)
        self._means.add(losses, values, norm)
        return (values - targets).abs_() if config.prioritised else None

    @torch.no_grad()
    def _targets(self, data: _Minibatch) -> Tensor:
        """[M]."""
        worth = _evaluate(self._target.network, self._target_direct, data.next_parts)
        if self.config.double:
            chosen = _evaluate(self._values, self._direct, data.next_parts)
            following = q_learning.double_values(worth, available(chosen, data.next_mask))
        else:
            following = q_learning.greedy_values(available(worth, data.next_mask))
        return q_learning.bootstrapped(data.returns, data.discounts, following)

    def _step(self, data: _Minibatch, targets: Tensor, weights: Tensor | None) -> _Step:
        values = q_learning.taken_values(self._values(data.parts), data.actions)
        losses = _weighted(self._error.loss(values, targets), weights)
        norm = self._adam.step(losses.mean())
        return _Step(values.detach(), losses.detach(), norm)

    @torch.no_grad()
    def _step_by_hand(
        self, network: DirectMLP, data: _Minibatch, targets: Tensor, weights: Tensor | None
    ) -> _Step:
        """The same without autograd."""
        every, entered = network.forward(data.parts[0])
        values = q_learning.taken_values(every, data.actions)
        slopes = _weighted(self._error.slope(values, targets), weights).mul_(1.0 / len(values))
        chosen = data.actions.unsqueeze(1)
        network.backward(entered, torch.zeros_like(every).scatter_(1, chosen, slopes.unsqueeze(1)))
        losses = _weighted(self._error.loss(values, targets), weights)
        return _Step(values, losses, self._adam.descend())

    def _on_device(self, batch: Transitions) -> _Minibatch:
        columns, following = batch.columns, batch.next_columns
        preprocess, mask = self.behaviour.preprocess, following.get(ColumnKey(Role.ACTION_MASK))
        actions = self.to_device(columns[ColumnKey(Role.ACTION)])
        return _Minibatch(
            parts=preprocess([self.to_device(columns[key]) for key in self._observed]),
            next_parts=preprocess([self.to_device(following[key]) for key in self._observed]),
            actions=actions - self._start if self._start else actions,
            next_mask=None if mask is None else self.to_device(mask),
            returns=self.to_device(batch.returns),
            discounts=self.to_device(batch.discounts),
        )

    def metrics(self) -> dict[str, float]:
        """See the base class."""
        means = self._means.take()
        if not means:
            return {}
        return means | {
            "train/learning_rate": self._adam.learning_rate,
            "train/n_updates": float(self._updates),
        }

    def parts(self) -> Mapping[str, nn.Module | Stateful]:
        """See the base class."""
        return {"target": self._target.network, OPTIMISER: self._adam}

    def values(self) -> dict[str, JSON]:
        """See the base class."""
        return {"updates": self._updates}

    def load_values(self, values: Mapping[str, JSON]) -> None:
        """See the base class."""
        self._updates = cast("int", values["updates"])


def _direct_of(network: QNetwork) -> DirectMLP | None:
    """The network without autograd, where it is nothing but an MLP."""
    if network.encoder.learns or not DirectMLP.fits(network.head):
        return None
    return DirectMLP(cast("nn.Sequential", network.head))


def _evaluate(network: QNetwork, direct: DirectMLP | None, parts: list[Tensor]) -> Tensor:
    """[M, A]."""
    values: Tensor = network(parts) if direct is None else direct(parts[0])
    return values


def _weighted(losses: Tensor, weights: Tensor | None) -> Tensor:
    return losses if weights is None else losses * weights


def _discrete(space: spaces.Space) -> spaces.Discrete:
    if isinstance(space, spaces.Discrete):
        return space
    match space:
        case spaces.Dict():
            remedy = "flatten it with a wrapper"
        case spaces.MultiDiscrete() | spaces.MultiBinary():
            remedy = "take ppo, or make the choices one Discrete with a wrapper"
        case spaces.Box() if space.dtype.kind != "f":
            remedy = "make it MultiDiscrete with a wrapper and take ppo"
        case _:
            remedy = "take ppo"
    raise UnsupportedSpaceError(
        f"dqn takes Discrete actions, these are a {type(space).__name__}: it needs a value for "
        f"each action; {remedy}"
    )
