"""An actor that travels and a critic that stays at home, for one agent and most spaces."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch import Tensor, nn

from learner.algorithms import behaviour
from learner.algorithms.rollout import LOG_PROB, RAW_ACTION
from learner.networks.bodies import Activation, mlp
from learner.networks.distributions import distribution_of
from learner.networks.observations import Encoder, encoder_of, preprocessor_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common import spaces, specs


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How actor and critic are built.

    Attributes:
        hidden_sizes: Hidden layers of each; None is 64 64, and none behind an encoder that learns.
        activation: Of the hidden layers.
        network: `auto` or `module:factory`, see learner.networks.observations.
        share_encoder: The critic uses the actor's encoder.
        normalise_observations: The actor's graph normalises observed numbers.
        initial_log_std: Of continuous actions.
    """

    hidden_sizes: tuple[int, ...] | None
    activation: Activation
    network: str
    share_encoder: bool
    normalise_observations: bool
    initial_log_std: float

    def layers(self, encoder: Encoder, outputs: int, *, head_gain: float) -> nn.Sequential:
        """[N, features] -> [N, outputs]."""
        sizes = self.hidden_sizes
        if sizes is None:
            sizes = () if encoder.learns else (64, 64)
        return mlp(
            encoder.features, sizes, outputs, activation=self.activation, head_gain=head_gain
        )


class Actor(behaviour.BehaviourPolicy):
    """Observation and noise to an action and the log-probability that it had.

    Records `log_prob`, and for continuous actions `raw_action`, the action before clipping.

    Raises:
        UnsupportedSpaceError: No distribution fits the action space.
    """

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
        super().__init__(
            inputs=(*observations, *masks, noise),
            outputs=(*behaviour.action_outputs(spec, group), *records),
            leaves=leaves,
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
        self.head = architecture.layers(self.encoder, distribution.width, head_gain=0.01)
        self.distribution = distribution

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Observations, the mask if there is one, and noise to what `outputs` lists."""
        mask = inputs[self._leaves] if self._masked else None
        head = self.head(self.encoder(self.preprocess(inputs[: self._leaves])))
        act = self.distribution.act(head, inputs[-1], mask)
        answer = (act.action, act.greedy, act.log_prob)
        return answer if act.raw is None else (*answer, act.raw)


class Critic(nn.Module):
    """Observation to value, with an encoder of its own or the actor's features."""

    def __init__(self, space: spaces.Space, architecture: Architecture, shared: Encoder) -> None:
        super().__init__()
        share = architecture.share_encoder or not shared.learns
        self.encoder = None if share else encoder_of(space, network=architecture.network)
        self.layers = architecture.layers(shared, 1, head_gain=1.0)

    def forward(self, parts: Sequence[Tensor], features: Tensor | None) -> Tensor:
        """Preprocessed observations and the actor's features [N, F] to values [N].

        The features may be None where there is an encoder of its own.
        """
        own = features if self.encoder is None else self.encoder(parts)
        values: Tensor = self.layers(own).squeeze(-1)
        return values
