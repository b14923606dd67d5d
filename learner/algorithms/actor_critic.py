"""An actor that travels and a critic that stays at home, for one agent and most spaces."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor, nn

from learner.algorithms import behaviour
from learner.algorithms.rollout import LOG_PROB, RAW_ACTION
from learner.algorithms.sequences import MEMORY
from learner.networks.bodies import Activation, mlp
from learner.networks.distributions import ActionDistribution, distribution_of
from learner.networks.observations import Encoder, Preprocessor, encoder_of, preprocessor_of
from learner.networks.recurrent import Memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common import spaces, specs
    from learner.algorithms.sequences import Past, Recurrence


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How actor and critic are built.

    Attributes:
        hidden_sizes: Hidden layers of each; None is 64 64, and none behind an encoder that learns
            or a memory.
        activation: Of the hidden layers.
        network: `auto` or `module:factory`, see learner.networks.observations.
        share_encoder: The critic uses the actor's encoder; it must where there is a memory.
        recurrent_units: Of the memory that actor and critic share; 0 is none.
        normalise_observations: The actor's graph normalises observed numbers.
        initial_log_std: Of continuous actions.
    """

    hidden_sizes: tuple[int, ...] | None
    activation: Activation
    network: str
    share_encoder: bool
    recurrent_units: int
    normalise_observations: bool
    initial_log_std: float

    def layers(self, body: Encoder | Memory, outputs: int, *, head_gain: float) -> nn.Sequential:
        """[N, features] -> [N, outputs]."""
        sizes = self.hidden_sizes
        if sizes is None:
            sizes = () if body.learns else (64, 64)
        return mlp(body.features, sizes, outputs, activation=self.activation, head_gain=head_gain)


class Likelihood(Protocol):
    """What an update asks of a distribution of actions; see `ActionDistribution`."""

    def log_prob(self, head: Tensor, actions: Tensor, mask: Tensor | None, /) -> Tensor:
        """[R]."""

    def entropy(self, head: Tensor, mask: Tensor | None, /) -> Tensor:
        """[R]."""


class RoundPolicy(behaviour.BehaviourPolicy):
    """A policy whose rounds are learned from, row after row.

    Attributes:
        preprocess: Observations by leaf to parts, once a round.
        encoder: Parts to features.
        memory: Between encoder and heads; None where only the row's own observation counts.
        head: What heads are made with, of features.
        distribution: What heads mean.
    """

    preprocess: Preprocessor
    encoder: nn.Module
    memory: Recurrence | None
    head: nn.Module
    distribution: Likelihood

    def features(self, parts: Sequence[Tensor], past: Past | None) -> Tensor:
        """What the heads take of rows.

        Args:
            parts: Preprocessed observations `[M, ...]`, in any order; with a memory those of whole
                fragments, time-major.
            past: What these remember, with a memory.

        Returns:
            [M, F].
        """
        features: Tensor = self.encoder(parts)
        if self.memory is None or past is None:
            return features
        sequences = features.view(*past.reset.shape, -1)
        return self.memory.unroll(sequences, past.initial, past.reset).flatten(0, 1)


class Actor(RoundPolicy):
    """Observation and noise to an action and the log-probability that it had.

    Records `log_prob`, and for continuous actions `raw_action`, the action before clipping. With a
    memory it is fed the state before the row and whether an episode begins, and answers with the
    state after it; the state that a segment begins with travels with the segment.

    Attributes:
        body: What heads stand on, the memory or else the encoder.

    Raises:
        UnsupportedSpaceError: No distribution fits the action space.
    """

    encoder: Encoder
    memory: Memory | None
    distribution: ActionDistribution

    def __init__(self, spec: specs.EnvironmentSpec, architecture: Architecture) -> None:
        group = spec.agent
        distribution = distribution_of(group.action, initial_log_std=architecture.initial_log_std)
        observations, leaves = behaviour.observation_inputs(spec, group)
        masks = []
        if group.action_mask and distribution.mask_width is not None:
            masks.append(behaviour.mask_input(spec, group, distribution.mask_width))
        noise = behaviour.noise_input(spec, group, distribution.noise, distribution.noise_shape)
        records = [behaviour.record_output(spec, group, LOG_PROB)]
        if distribution.records_raw:
            raw = behaviour.record_output(spec, group, RAW_ACTION, (distribution.width,))
            records.append(raw)
        states = []
        if architecture.recurrent_units:
            nothing = np.zeros(architecture.recurrent_units, np.float32)
            states.append(behaviour.initial_state(nothing, group.name, MEMORY))
        resets = [behaviour.reset_input() for _ in states]
        super().__init__(
            inputs=(*observations, *masks, *states, *resets, noise),
            outputs=(
                *behaviour.action_outputs(spec, group),
                *records,
                *(behaviour.next_state(state) for state in states),
            ),
            leaves=leaves,
            pushed_states=[state.key for state in states],
            structure=behaviour.structure_of(spec),
        )
        self._leaves = len(observations)
        self._masked = bool(masks)
        self.preprocess = preprocessor_of(
            group.observation,
            network=architecture.network,
            normalise=architecture.normalise_observations,
        )
        self.encoder = encoder_of(group.observation, network=architecture.network)
        self.memory = None
        if architecture.recurrent_units:
            self.memory = Memory(self.encoder.features, architecture.recurrent_units)
        self.head = architecture.layers(self.body, distribution.width, head_gain=0.01)
        self.distribution = distribution

    @property
    def body(self) -> Encoder | Memory:
        """See the class."""
        return self.encoder if self.memory is None else self.memory

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `inputs` lists to what `outputs` lists."""
        mask = inputs[self._leaves] if self._masked else None
        features = self.encoder(self.preprocess(inputs[: self._leaves]))
        states = []
        if self.memory is not None:
            features = self.memory(features, *inputs[-3:-1])
            states.append(features)
        act = self.distribution.act(self.head(features), inputs[-1], mask)
        records = [act.log_prob] if act.raw is None else [act.log_prob, act.raw]
        return (act.action, act.greedy, *records, *states)


class Critic(nn.Module):
    """Observation to value, with an encoder of its own or the actor's features.

    A memory is the actor's always: the state of another one would come from no sampler.
    """

    def __init__(self, space: spaces.Space, architecture: Architecture, actor: Actor) -> None:
        super().__init__()
        share = architecture.share_encoder or not actor.body.learns
        self.encoder = None if share else encoder_of(space, network=architecture.network)
        self.layers = architecture.layers(actor.body, 1, head_gain=1.0)

    def forward(self, parts: Sequence[Tensor], features: Tensor | None) -> Tensor:
        """Preprocessed observations and the actor's features [N, F] to values [N].

        The features may be None where there is an encoder of its own.
        """
        own = features if self.encoder is None else self.encoder(parts)
        values: Tensor = self.layers(own).squeeze(-1)
        return values
