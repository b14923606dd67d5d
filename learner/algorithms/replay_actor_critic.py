"""What algorithms share that train actors and critics from replay, whatever their networks are."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from torch import nn

from learner.algorithms.base import OPTIMISER, refuse_mode_dependent_layers
from learner.algorithms.off_policy import OffPolicyAlgorithm, ReplayConfig
from learner.algorithms.optimiser import FlatAdam, TargetNetwork
from learner.algorithms.schedules import Schedule, scheduled
from learner.networks.bodies import Activation  # noqa: TC001 - command lines read it at run time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from learner.algorithms.base import JSON, Stateful
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


C = TypeVar("C", bound=ActorCriticConfig)


class ReplayActorCritic(OffPolicyAlgorithm[C]):
    """Actors and critics with target critics, each kind with one optimiser.

    Noise of the updates is drawn on the host, so that a run goes on bit for bit on any device.
    """

    def optimise(
        self, actor: nn.Module, critics: nn.Module, *, max_gradient_norm: float | None
    ) -> None:
        """Gives networks that are on the device their optimisers, and critics their targets."""
        refuse_mode_dependent_layers(actor, critics)
        config = self.config
        self._critic_network = critics
        self._actor_adam, self._critic_adam = (
            FlatAdam(
                dict(network.named_parameters()),
                learning_rate=rate,
                epsilon=config.adam_epsilon,
                max_gradient_norm=max_gradient_norm,
            )
            for network, rate in (
                (actor, config.actor_learning_rate),
                (critics, config.critic_learning_rate),
            )
        )
        self._target_critics: TargetNetwork[Any] = TargetNetwork(critics, self._critic_adam)
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

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers on the device."""
        return self.to_device(self._generator.standard_normal(shape, np.float32))

    def counts(self) -> dict[str, float]:
        """The metrics that need no device."""
        return {
            "train/learning_rate": self._actor_adam.learning_rate,
            "train/n_updates": float(self._updates),
        }

    def parts(self) -> Mapping[str, nn.Module | Stateful]:
        """See the base class."""
        return {
            "critics": self._critic_network,
            "target_critics": self._target_critics.network,
            f"{OPTIMISER}.actor": self._actor_adam,
            f"{OPTIMISER}.critics": self._critic_adam,
        }

    def values(self) -> dict[str, JSON]:
        """See the base class."""
        noise = cast("JSON", self._generator.bit_generator.state)
        return {"updates": self._updates, "noise": noise}

    def load_values(self, values: Mapping[str, JSON]) -> None:
        """See the base class."""
        self._updates = cast("int", values["updates"])
        self._generator.bit_generator.state = cast("dict[str, Any]", values["noise"])
