"""Settings that actor-critics share which learn from rounds, or from fragments as they come."""

from __future__ import annotations

import dataclasses
from typing import Literal

from common.errors import InvalidFieldError
from learner.algorithms.schedules import Schedule  # noqa: TC001 - command lines read it at run time
from learner.networks.bodies import Activation  # noqa: TC001 - command lines read it at run time


@dataclasses.dataclass(frozen=True)
class PolicyGradientConfig:
    """Hyperparameters of every actor-critic; None stands for what suits the action space."""

    n_envs: int | Literal["auto"] = 8
    """Environments whose fragments make up a round, however many samplers there are. `auto` takes
    every environment connected when a round opens."""
    n_steps: int = 128
    """Steps of each environment in a round."""
    adam_epsilon: float = 1e-5
    """Epsilon of Adam."""
    gamma: float = 0.99
    """Discount of rewards a step later."""
    hidden_sizes: tuple[int, ...] | None = None
    """Hidden layers of actor and critic each; None is 64 64, and none behind convolutions or a
    memory."""
    activation: Activation = "tanh"
    """Activation of the hidden layers."""
    network: str = "auto"
    """`auto` encodes images with convolutions and everything else as a vector. `module:factory`
    names a function from the observation space to an nn.Module from observations to features."""
    recurrent_units: int = 0
    """Units of a GRU that remembers the episode, between encoder and heads; policy and values share
    it. 0 is no memory; trpo trains none."""
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

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        self._check("n_envs", self.n_envs == "auto" or self.n_envs >= 1, "must be at least 1")
        self._check("n_steps", self.n_steps >= 1, "must be at least 1")
        self._check("hidden_sizes", min(self.hidden_sizes or (1,)) >= 1, "must be at least 1 each")
        self._check("recurrent_units", self.recurrent_units >= 0, "must not be negative")
        self._check("adam_epsilon", self.adam_epsilon > 0, "must be above 0")
        self._check("gamma", 0 < self.gamma <= 1, "must be in (0, 1]")

    def _check(self, field: str, holds: bool, constraint: str) -> None:  # noqa: FBT001 - private
        if not holds:
            raise InvalidFieldError(field, f"{getattr(self, field)} {constraint}")


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig(PolicyGradientConfig):
    """Hyperparameters of those that go through a round in minibatches, with GAE."""

    n_minibatches: int = 4
    """Minibatches that a round is cut into, in every epoch anew; must divide n_envs x n_steps."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation: 0 trusts the values, 1 the rewards."""
    normalise_advantages: bool = True
    """Brings the advantages of each policy step to mean 0 and standard deviation 1."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        self._check("n_minibatches", self.n_minibatches >= 1, "must be at least 1")
        self._check("gae_lambda", 0 <= self.gae_lambda <= 1, "must be in [0, 1]")
        if self.n_envs != "auto":
            self.minibatch_size(self.n_envs)

    def minibatch_size(self, n_envs: int) -> int:
        """Rows in a minibatch of a round of so many environments.

        Raises:
            InvalidFieldError: The round does not divide.
        """
        if self.recurrent_units and n_envs % self.n_minibatches:
            raise InvalidFieldError(
                "n_minibatches",
                f"{self.n_minibatches} does not divide the {n_envs} fragments of a round, which "
                "stay whole with recurrent_units; change it or n_envs",
            )
        rows = n_envs * self.n_steps
        if rows % self.n_minibatches:
            raise InvalidFieldError(
                "n_minibatches",
                f"{self.n_minibatches} does not divide the {rows} rows of n_envs ({n_envs}) x "
                f"n_steps ({self.n_steps}); change one of the three",
            )
        return rows // self.n_minibatches


@dataclasses.dataclass(frozen=True)
class OneLossConfig(PolicyGradientConfig):
    """Hyperparameters of those whose one Adam goes down policy, value and entropy loss at once."""

    learning_rate: float = 2.5e-4
    """Step size of Adam at the start."""
    learning_rate_schedule: Schedule = "linear"
    """`linear` brings the learning rate to 0 at the end of the step budget."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    max_gradient_norm: float = 0.5
    """Norm that gradients are clipped to, over all parameters together."""
    share_encoder: bool = True
    """Actor and critic share the encoder where it learns (images, or a network of your own)."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        for field in ("learning_rate", "max_gradient_norm"):
            self._check(field, getattr(self, field) > 0, "must be above 0")
        for field in ("entropy_coefficient", "value_coefficient"):
            self._check(field, getattr(self, field) >= 0, "must not be negative")
