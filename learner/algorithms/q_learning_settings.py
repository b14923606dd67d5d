"""Settings that algorithms share which act by the values of actions, and explore by epsilon."""

from __future__ import annotations

import dataclasses
from typing import Literal

from learner.algorithms.from_store import StoreConfig
from learner.algorithms.schedules import Schedule  # noqa: TC001 - command lines read it at run time
from learner.exploration import falling
from learner.networks.bodies import Activation  # noqa: TC001 - command lines read it at run time


@dataclasses.dataclass(frozen=True)
class QLearningConfig(StoreConfig):
    """Hyperparameters of Q-learning with target networks, for one agent or several."""

    learning_rate: float = 5e-4
    """Step size of Adam at the start."""
    learning_rate_schedule: Schedule = "constant"
    """`linear` brings the learning rate to 0 at the end of the step budget."""
    adam_epsilon: float = 1e-8
    """Epsilon of Adam; 1.5e-4 is usual for images."""
    max_gradient_norm: float | None = 10.0
    """Norm that gradients are clipped to; None does not clip."""
    loss: Literal["huber", "squared"] = "huber"
    """Of the temporal difference error; `huber` is linear beyond 1."""
    double: bool = True
    """Chooses the next action by the network in training and values it by the target network."""
    target_update_interval: int = 250
    """Gradient steps between updates of the target network."""
    target_tau: float = 1.0
    """Share of the way to the network in training that an update takes the target network; 1
    copies it."""
    initial_epsilon: float = 1.0
    """Probability of a random action at the start."""
    final_epsilon: float = 0.05
    """Probability of a random action after exploration_steps."""
    exploration_steps: int = 10_000
    """Environment steps of all samplers together over which epsilon falls in a line."""
    activation: Activation = "relu"
    """Activation of the hidden layers."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        for field in ("learning_rate", "adam_epsilon"):
            self._check(field, getattr(self, field) > 0, "must be above 0")
        norm = self.max_gradient_norm
        self._check("max_gradient_norm", norm is None or norm > 0, "must be above 0, or none")
        self._check("target_update_interval", self.target_update_interval >= 1, "is below 1")
        self._check("exploration_steps", self.exploration_steps >= 0, "must not be negative")
        self._check("target_tau", 0 < self.target_tau <= 1, "must be in (0, 1]")
        for field in ("initial_epsilon", "final_epsilon"):
            self._check(field, 0 <= getattr(self, field) <= 1, "must be in [0, 1]")

    def epsilon(self, environment_steps: int) -> float:
        """The probability of a random action at this many steps of all samplers together."""
        start, end = self.initial_epsilon, self.final_epsilon
        return falling(start, end, over=self.exploration_steps, steps=environment_steps)
