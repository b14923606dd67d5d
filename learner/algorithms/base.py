"""What every algorithm is: a behaviour policy, an update, and a state that can be saved."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from common.errors import InvalidFieldError, UnsupportedSpaceError
from learner.algorithms import state
from learner.algorithms.signatures import signature_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from common.specs import EnvironmentSpec
    from learner.algorithms.behaviour import BehaviourPolicy
    from learner.experience.on_policy import OnPolicyBatch
    from learner.exploration import Exploration

JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None
C = TypeVar("C")

OPTIMISER = "optimiser"
"""How the names of an optimiser's own tensors begin, in `Algorithm.tensors`."""


class Stateful(Protocol):
    """What has tensors and is no module, such as an optimiser."""

    def tensors(self) -> Mapping[str, Tensor]:
        """The live tensors, by name."""


class Algorithm(abc.ABC, Generic[C]):
    """One algorithm for one environment. A subclass is all that a new algorithm takes.

    Attributes:
        name: What people call it by.
        Config: Its hyperparameters: a dataclass with a docstring under every field.
        behaviour: The policy that samplers run, with the parameters that are being trained.
        signature: What samplers feed it and record.

    Args:
        spec: The environment, as the first sampler found it.
        config: The hyperparameters.
        device: Where the networks are and updates are computed.
        seed: Determines the initial parameters and every random choice of the updates.

    Raises:
        UnsupportedSpaceError: The environment is none that this algorithm can learn in.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]]

    def __init__(
        self, spec: EnvironmentSpec, config: C, *, device: torch.device, seed: int
    ) -> None:
        self.spec = spec
        self.config = config
        self.device = device
        self.seed = seed
        # The global generator is borrowed, since layers initialise themselves from it, and given
        # back.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.behaviour = self.build()
        self.signature = signature_of(self.behaviour, spec)

    @abc.abstractmethod
    def build(self) -> BehaviourPolicy:
        """Builds all networks on `device` and returns the behaviour policy; called once."""

    def scalars(self, environment_steps: int) -> dict[str, Exploration]:
        """The exploration values at this many steps, by key of the SCALAR inputs."""
        del environment_steps
        return {}

    def parts(self) -> Mapping[str, nn.Module | Stateful]:
        """What is trained besides `behaviour`, by name: critics, targets, optimisers.

        The name of an optimiser begins with `optimiser`, since another run that begins with these
        parameters begins with one of its own.
        """
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the training state, with `values` enough to go on bit for bit.

        By default those of `behaviour` and `parts`. Some are the live ones: copy or write them
        before the next update.
        """
        found = {}
        for name, part in {"behaviour": self.behaviour, **self.parts()}.items():
            own = part.state_dict() if isinstance(part, nn.Module) else part.tensors()
            found.update(state.prefixed(name, own))
        return found

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` gave.

        Raises:
            InvalidFieldError: Tensors are missing, unknown or of another shape.
        """
        own = self.tensors()
        state.refuse_other_names(tensors, own)
        state.copy_all(own, tensors)

    def begin_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what another run has learned: all tensors but those of the optimiser.

        Args:
            tensors: As that run's `tensors` gave them.

        Raises:
            InvalidFieldError: They are of another algorithm, environment or network.
        """
        own = self.tensors()
        fresh = {name: own[name].clone() for name in own if name.startswith(OPTIMISER)}
        self.load_tensors({**tensors, **fresh})

    def values(self) -> dict[str, JSON]:
        """The rest of the training state, as JSON has it: counters, and generators of numbers."""
        return {}

    def load_values(self, values: Mapping[str, JSON]) -> None:
        """Restores what `values` gave."""
        del values


class OnPolicyAlgorithm(Algorithm[C]):
    """One that learns from a round of exactly the version that it updates.

    Attributes:
        n_envs: Fragments in a round; None takes every slot connected when the round opens.
        n_steps: Rows of a fragment.
    """

    n_envs: int | None
    n_steps: int

    @abc.abstractmethod
    def update(self, batch: OnPolicyBatch, progress: float) -> dict[str, float]:
        """Trains on a round and returns metrics by name.

        Args:
            batch: The round, rolled with the current parameters of `behaviour`.
            progress: The share of the step budget that was spent before this round, in [0, 1):
                schedules start at their full value.
        """


def single_agent_only(spec: EnvironmentSpec, name: str) -> None:
    """Refuses environments with several agents.

    Raises:
        UnsupportedSpaceError: There are several agents.
    """
    if spec.multi_agent:
        agents = sum(len(group.agents) for group in spec.groups)
        raise UnsupportedSpaceError(
            f"{name} trains a single agent, this environment has {agents}; take one for several: "
            "mappo, ippo or maddpg, or for Discrete actions qmix, vdn or iql"
        )


def several_agents_only(spec: EnvironmentSpec, name: str, *, otherwise: str) -> None:
    """Refuses environments of a single agent that has no agent axis.

    Args:
        spec: The environment.
        name: The algorithm's.
        otherwise: What to take for a single agent.

    Raises:
        UnsupportedSpaceError: It is one.
    """
    if not spec.multi_agent:
        raise UnsupportedSpaceError(
            f"{name} trains the agents of an environment of several, this one has a single agent; "
            f"take {otherwise}"
        )


def refuse_mode_dependent_layers(*modules: nn.Module) -> None:
    """Refuses layers that behave differently in training: their ratio is not 1 on fresh data.

    Raises:
        InvalidFieldError: BatchNorm or Dropout.
    """
    refused = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)  # noqa: SLF001 - no public base
    for module in modules:
        for name, layer in module.named_modules():
            if isinstance(layer, refused):
                raise InvalidFieldError(
                    "network",
                    f"{type(layer).__name__} ({name}) acts otherwise in training than in acting, "
                    "so that the policy trained is not the one that acted; take it out (LayerNorm "
                    "is fine)",
                )
