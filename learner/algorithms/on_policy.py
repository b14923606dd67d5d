"""What actor-critics share that learn from rounds: networks, values, optimisers and state."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from common import spaces
from common.errors import InvalidFieldError
from learner.algorithms import state
from learner.algorithms.actor_critic import Actor, Architecture, Critic, RoundPolicy
from learner.algorithms.base import (
    JSON,
    OPTIMISER,
    OnPolicyAlgorithm,
    refuse_mode_dependent_layers,
    single_agent_only,
)
from learner.algorithms.estimation import AdvantageEstimator, Rewards
from learner.algorithms.on_policy_settings import (
    ActorCriticConfig,
    OneLossConfig,
    PolicyGradientConfig,
)
from learner.algorithms.optimiser import FlatAdam
from learner.algorithms.rollout import Rollout, in_chunks
from learner.algorithms.sequences import remembered
from learner.networks.normalisation import ObservationStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from learner.algorithms.sequences import Past, Recurrence

_EVALUATION_ROWS = 512
"""Rows evaluated at once: enough to pay for the calls, few enough for images to fit in memory."""


class Evaluation(NamedTuple):
    """What the networks say of a rollout, without a graph.

    Attributes:
        values: `[(T + 1) B + N]`, V of every observation.
        log_ratio: [T B], log-probability of the actions now minus that when they were taken; where
            rows are not valid it means nothing.
        entropy: Mean over valid rows.
        ratio_error: The largest |ratio - 1| of valid rows.
    """

    values: Tensor
    log_ratio: Tensor
    entropy: Tensor
    ratio_error: Tensor


P = TypeVar("P", bound=PolicyGradientConfig)
C = TypeVar("C", bound=ActorCriticConfig)
L = TypeVar("L", bound=OneLossConfig)


class PolicyGradientAlgorithm(OnPolicyAlgorithm[P]):
    """One Adam; unless a subclass makes other networks, one agent and any actions but a Dict.

    Attributes:
        counter: Under which name the updates that were made are saved.
        remembers: Whether its update can train a memory.
        rows_at_once: Rows evaluated at once.
    """

    counter: ClassVar[str]
    remembers: ClassVar[bool] = False
    rows_at_once = _EVALUATION_ROWS
    behaviour: RoundPolicy

    def build(self) -> RoundPolicy:
        """Actor, critic, optimiser and statistics."""
        config = self.config
        actor, critic = self._networks()
        self.n_envs = None if config.n_envs == "auto" else config.n_envs
        self.n_steps = config.n_steps
        refuse_mode_dependent_layers(actor, critic)
        actor.to(self.device)
        self._critic = critic.to(self.device)
        self._adam = self._optimiser(actor, critic)
        self._statistics = ObservationStatistics(actor.preprocess.normaliser)
        self._rewards = Rewards(
            gamma=config.gamma,
            clip=config.clip_rewards,
            scale=self._given(config.scale_rewards),
            by_slot=self._mixes_slots,
        )
        self._shuffle = np.random.default_rng((self.seed, 1))
        self._updates = 0
        return actor

    def _networks(self) -> tuple[RoundPolicy, nn.Module]:
        """Actor and critic, the latter from parts and features to values."""
        single_agent_only(self.spec, self.name)
        config = self.config
        if config.recurrent_units:
            self._check_memory()
        architecture = Architecture(
            hidden_sizes=config.hidden_sizes,
            activation=config.activation,
            network=config.network,
            share_encoder=self._shares_encoder,
            recurrent_units=config.recurrent_units,
            normalise_observations=self._given(config.normalise_observations),
            initial_log_std=config.initial_log_std,
        )
        actor = Actor(self.spec, architecture)
        return actor, Critic(self.spec.agent.observation, architecture, actor)

    def _check_memory(self) -> None:
        """Refuses a memory where it cannot be trained.

        Raises:
            InvalidFieldError: The algorithm, or a setting, does not go with it.
        """
        if not self.remembers:
            raise InvalidFieldError(
                "recurrent_units",
                f"{self.config.recurrent_units}: {self.name} trains no memory; take ppo, appo or "
                "impala, or leave it 0",
            )
        if not self._shares_encoder:
            raise InvalidFieldError(
                "share_encoder",
                "must be True with recurrent_units: the state of a memory of the critic's own "
                "would come from no sampler",
            )

    @property
    @abc.abstractmethod
    def _shares_encoder(self) -> bool:
        """Whether the critic sees through the actor's encoder where that learns."""

    @property
    def _mixes_slots(self) -> bool:
        """Whether the fragments of a batch may be of other slots than those of the one before."""
        return False

    @abc.abstractmethod
    def _optimiser(self, actor: RoundPolicy, critic: nn.Module) -> FlatAdam:
        """The Adam of whatever it trains; both networks are on the device."""

    def _given(self, choice: bool | None) -> bool:  # noqa: FBT001 - private
        """A choice, or what suits the action space."""
        return isinstance(self.spec.agent.action, spaces.Box) if choice is None else choice

    @torch.no_grad()
    def _values(self, data: Rollout, parts: list[Tensor]) -> Tensor:
        """V of every observation, `[(T + 1) B + N]`."""
        return torch.cat([values for _, values in self._passes(data, parts)])

    def _passes(self, data: Rollout, parts: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """What the heads take of every observation, and its value: `[(T + 1) B + N]` in pieces."""
        if self.behaviour.memory is not None:
            features = self._remembered(data, parts)
            yield features, self._critic(parts, features)
            return
        for piece in in_chunks(parts, self.rows_at_once):
            features = self.behaviour.encoder(piece)
            yield features, self._critic(piece, features)

    def _remembered(self, data: Rollout, parts: list[Tensor]) -> Tensor:
        """What a memory has as features of every observation, `[(T + 1) B + N, H]`."""
        encoder = self.behaviour.encoder
        return remembered(
            cast("Recurrence", self.behaviour.memory),
            torch.cat([encoder(piece) for piece in in_chunks(parts, self.rows_at_once)]),
            cast("Past", data.past),
            final_rows=data.final_rows,
            final_slots=data.final_slots,
        )

    def _judge(self, parts: list[Tensor], features: Tensor, past: Past | None) -> Tensor:
        """The values of a minibatch's rows, [M]."""
        del past  # the features have been through the memory
        values: Tensor = self._critic(parts, features)
        return values

    @torch.no_grad()
    def _evaluate(self, data: Rollout, parts: list[Tensor]) -> Evaluation:
        """The networks as they are now on a whole rollout."""
        heads, values = [], []
        for features, worth in self._passes(data, parts):
            heads.append(self.behaviour.head(features))
            values.append(worth)
        head = torch.cat(heads)[: data.rows]
        distribution = self.behaviour.distribution
        log_ratio = distribution.log_prob(head, data.actions, data.masks) - data.log_probs
        entropy = distribution.entropy(head, data.masks)[data.valid_rows]
        ratio_error = (log_ratio[data.valid_rows].exp() - 1.0).abs().max()
        return Evaluation(torch.cat(values), log_ratio, entropy.mean(), ratio_error)

    def _take_in(self, data: Rollout) -> None:
        """Brings the statistics up to date for the next version."""
        self._rewards.take_in(data)
        if self._statistics.used:
            numbers = self.behaviour.preprocess.raw_numbers(data.leaves)[: data.rows]
            self._statistics.take_in(numbers[data.valid_rows].cpu().numpy())

    def tensors(self) -> dict[str, Tensor]:
        """See the base class."""
        return {
            **state.prefixed("behaviour", self.behaviour.state_dict()),
            **state.prefixed("critic", self._critic.state_dict()),
            **state.prefixed(OPTIMISER, self._adam.tensors()),
            **state.prefixed("observations", self._statistics.tensors()),
            **state.prefixed("rewards", self._rewards.tensors()),
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """See the base class."""
        state.refuse_other_names(tensors, self.tensors())
        state.load_module(self.behaviour, tensors, "behaviour")
        state.load_module(self._critic, tensors, "critic")
        self._adam.load_tensors(tensors, OPTIMISER)
        self._statistics.load_tensors(state.without_prefix("observations", tensors))
        self._rewards.load_tensors(state.without_prefix("rewards", tensors))

    def values(self) -> dict[str, JSON]:
        """See the base class."""
        shuffle = cast("JSON", self._shuffle.bit_generator.state)
        return {self.counter: self._updates, "shuffle": shuffle}

    def load_values(self, values: Mapping[str, JSON]) -> None:
        """See the base class."""
        self._updates = cast("int", values[self.counter])
        self._shuffle.bit_generator.state = cast("dict[str, Any]", values["shuffle"])


class ActorCriticAlgorithm(PolicyGradientAlgorithm[C]):
    """One that learns from generalised advantages."""

    def build(self) -> RoundPolicy:
        """See the base class."""
        actor = super().build()
        self._estimator = AdvantageEstimator(
            self._rewards, gamma=self.config.gamma, gae_lambda=self.config.gae_lambda
        )
        return actor


class OneLossAlgorithm(PolicyGradientAlgorithm[L]):
    """One that trains actor and critic together, by one loss."""

    @property
    def _shares_encoder(self) -> bool:
        return self.config.share_encoder

    def _optimiser(self, actor: RoundPolicy, critic: nn.Module) -> FlatAdam:
        """One for actor and critic."""
        config = self.config
        return FlatAdam(
            dict(actor.named_parameters("behaviour")) | dict(critic.named_parameters("critic")),
            learning_rate=config.learning_rate,
            epsilon=config.adam_epsilon,
            max_gradient_norm=config.max_gradient_norm,
        )
