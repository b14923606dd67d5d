"""Proximal policy optimisation for several agents: with a critic of all (MAPPO), or each (IPPO).

Yu et al. 2022, "The surprising effectiveness of PPO in cooperative multi-agent games"
(https://arxiv.org/abs/2103.01955); de Witt et al. 2020, "Is independent learning all you need in
the StarCraft multi-agent challenge?" (https://arxiv.org/abs/2011.09533). The update is that of PPO,
on rows that are agents; a critic of all sees the state beside the agent's own observation.
Deviations:

- Agents that share a policy share a critic; one Adam trains both, and the norm that gradients are
  clipped to is that of all together.
- The moments that values are normalised by change once a round, before it is trained on.
- An agent's own end ends its returns, also those of a team's reward; its rows are in no loss from
  there on. Critics see zeros in its place.
- Time limits bootstrap with the value of the last observations (Pardo et al. 2018,
  https://arxiv.org/abs/1712.00378).
- With a memory (`recurrent_units`) fragments stay whole and are unrolled from their first row; the
  published code cuts them every 10 rows. The state that an actor's memory begins a fragment with
  came with it, a critic's is the one that the learner had after the fragment before. No layer
  normalises what hidden layers and memories give. An agent that joins late has a memory of zeros.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch

from learner.algorithms import state
from learner.algorithms.base import several_agents_only
from learner.algorithms.critic_recall import CriticRecall
from learner.algorithms.policy_sharing import PolicySharing  # noqa: TC001 - command lines read it
from learner.algorithms.ppo import PPO, Minibatch, PPOConfig, Terms
from learner.algorithms.rollout import in_chunks, shuffled_minibatches
from learner.algorithms.schedules import Schedule  # noqa: TC001 - command lines read it
from learner.algorithms.sequences import shuffled_fragments
from learner.algorithms.team_actor import TeamActor
from learner.algorithms.team_networks import (
    AgentNetworks,
    CriticView,
    RememberingCritic,
    TeamArchitecture,
    TeamCritic,
)
from learner.algorithms.team_rollout import RewardSharing, TeamRollouts
from learner.losses import value
from learner.networks.bodies import Activation  # noqa: TC001 - command lines read it at run time
from learner.networks.normalisation import ValueNormaliser
from learner.networks.teams import TeamState, has_pictures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from learner.algorithms.actor_critic import RoundPolicy
    from learner.algorithms.estimation import Estimates
    from learner.algorithms.rollout import Rollout
    from learner.algorithms.sequences import Past
    from learner.experience.on_policy import OnPolicyBatch

RETURNS = "returns"
"""How the names of the returns' moments begin, in `IPPO.tensors`."""


@dataclasses.dataclass(frozen=True)
class IPPOConfig(PPOConfig):
    """Hyperparameters. A row is a step of one environment with all its agents."""

    n_envs: int | Literal["auto"] = 20
    """Environments whose fragments make up a round, however many samplers there are. `auto` takes
    every environment connected when a round opens."""
    n_steps: int = 200
    """Steps of each environment in a round."""
    n_minibatches: int = 1
    """Minibatches that a round is cut into, in every epoch anew; must divide n_envs x n_steps."""
    epochs: int = 5
    """Times that a round is gone through."""
    learning_rate: float = 5e-4
    """Step size of Adam at the start."""
    learning_rate_schedule: Schedule = "constant"
    """`linear` brings the learning rate to 0 at the end of the step budget."""
    entropy_coefficient: float = 0.01
    """Weight of the entropy bonus."""
    value_coefficient: float = 1.0
    """Weight of the value loss."""
    value_clip_range: float | None = 0.2
    """Keeps values this near to the old ones in the loss, in units of what critics answer; None
    does not."""
    value_huber_delta: float = 10.0
    """Error of a value from which on its loss is linear, in units of what critics answer."""
    normalise_values: bool = True
    """Critics answer returns less their running mean, over their running deviation."""
    max_gradient_norm: float = 10.0
    """Norm that gradients are clipped to, over all parameters together."""
    hidden_sizes: tuple[int, ...] | None = (128, 128)
    """Hidden layers of each actor and critic, in front of the memory if there is one; None is 64
    64."""
    activation: Activation = "relu"
    """Activation of the hidden layers."""
    recurrent_units: int = 0
    """Units of a GRU that remembers the episode, between hidden layers and head: one in every actor
    and one in every critic. 0 is no memory."""
    normalise_features: bool = False
    """Brings the numbers that an actor or critic sees in a row to mean 0 and deviation 1, each row
    by itself. What only their size tells is lost."""
    policies: PolicySharing = "shared"
    """One policy for all agents; `per_role`, one for agents whose names differ in their number
    alone (and whose spaces are the same); or `per_agent`. Agents that share one are told apart by a
    one-hot vector beside their observation. Critics are shared the same way."""
    team_reward: RewardSharing = "none"
    """What an agent learns from: its own rewards with `none`, or the `mean` or `sum` of those of
    all agents. Returns that are shown are the mean."""
    scale_rewards: bool | None = False
    """Divides rewards by the standard deviation of the running discounted return, clipped to +-10;
    values are normalised instead."""
    normalise_observations: bool | None = False
    """Must be False."""
    network: str = "auto"
    """`auto` encodes images with convolutions and everything else as a vector. `module:factory`
    names a function from the observation space of agents to an nn.Module from observations to
    features, of which actors and critics each get their own."""
    share_encoder: bool = False
    """Must be False: actors and critics see different things."""
    recompute_advantages: bool | None = False
    """Recomputes advantages with the current values before every epoch."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        for field, holds, constraint in (
            ("value_huber_delta", self.value_huber_delta > 0, "must be above 0"),
            ("normalise_observations", not self.normalise_observations, "must be False"),
            ("share_encoder", not self.share_encoder, "must be False: nothing is shared"),
            (
                "hidden_sizes",
                not self.recurrent_units or self.hidden_sizes != (),
                "must have a layer with recurrent_units: the memory is behind it",
            ),
        ):
            self._check(field, holds, constraint)


@dataclasses.dataclass(frozen=True)
class MAPPOConfig(IPPOConfig):
    """Hyperparameters. A row is a step of one environment with all its agents."""

    team_reward: RewardSharing = "mean"
    """What an agent learns from: its own rewards with `none`, or the `mean` or `sum` of those of
    all agents. Returns that are shown are the mean."""
    state: Literal["auto", "global", "observations"] = "auto"
    """What critics see beside the agent's own observation: the environment's `global` state, or the
    `observations` of all agents, which cost nothing more; `auto` is the global state where there is
    one without images."""


class IPPO(PPO):
    """Independent PPO: every agent's critic sees what the agent does."""

    name = "ippo"
    Config = IPPOConfig
    config: IPPOConfig
    behaviour: TeamActor
    central = False
    """Whether critics see the state of all."""

    def _networks(self) -> tuple[RoundPolicy, nn.Module]:
        """See the base class."""
        several_agents_only(self.spec, self.name, otherwise="ppo")
        config, of_environment = self.config, self._build_state()
        architecture = TeamArchitecture(
            sharing=config.policies,
            hidden_sizes=(64, 64) if config.hidden_sizes is None else config.hidden_sizes,
            activation=config.activation,
            recurrent_units=config.recurrent_units,
            normalise_features=config.normalise_features,
        )
        actor = TeamActor(
            self.spec,
            architecture,
            network=config.network,
            initial_log_std=config.initial_log_std,
            global_state=of_environment is not None,
        )
        self._returns = ValueNormaliser() if config.normalise_values else None
        self._rollouts = TeamRollouts(
            self.spec, actor, state=of_environment, reward=config.team_reward, device=self.device
        )
        seen = actor.encoder.seen.for_critics()
        if seen.learns:
            self.rows_at_once = max(1, PPO.rows_at_once // len(self.spec.agents))
        width = None if of_environment is None else of_environment.width
        view = CriticView(seen, central=self.central, state=width)
        layers = architecture.layers(self.spec, view.real, 1, head_gain=1.0)
        if isinstance(layers, AgentNetworks):
            return actor, TeamCritic(view, layers)
        critic = RememberingCritic(view, layers)
        self._recall = CriticRecall(critic, len(self.spec.agents), steps_at_once=self.rows_at_once)
        return actor, critic

    def _build_state(self) -> TeamState | None:
        """What makes a vector of the environment's state; None where critics do not see it."""
        return None

    def _given(self, choice: bool | None) -> bool:  # noqa: FBT001 - private
        """None suits no space of actions in particular: there may be several."""
        return bool(choice)

    def _rollout(self, batch: OnPolicyBatch) -> Rollout:
        data = self._rollouts.of(batch)
        return data if data.past is None else self._recall.recalled(data)

    def _order(
        self, data: Rollout
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], Sequence[Past | None]]:
        """Rows and weights of minibatches; the agents of a step stay together."""
        agents, count = len(self.spec.agents), self.config.n_minibatches
        self.config.minibatch_size(data.shape[1] // agents)
        acted = np.any(data.valid.reshape(data.shape[0], -1, agents), 2)

        def of_agents(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
            """[K, M] of environments to [K, M A]."""
            return (numbers[:, :, None] * agents + np.arange(agents)).reshape(len(numbers), -1)

        pasts: Sequence[Past | None]
        if data.past is None:
            steps, _ = shuffled_minibatches(self._shuffle, acted, count)
            pasts = [None] * len(steps)
        else:
            steps, _, slots = shuffled_fragments(self._shuffle, acted, count)
            columns = torch.from_numpy(of_agents(slots)).to(self.device)
            pasts = [data.past.of(each) for each in columns]
        order = of_agents(steps)
        return order, data.valid.reshape(-1)[order].astype(np.float32), pasts

    def _pieces(self, parts: list[Tensor], rows: Tensor, size: int) -> Iterator[list[Tensor]]:
        """See the base class; parts are of steps, whose agents stay together."""
        agents = len(self.spec.agents)
        return super()._pieces(parts, rows[::agents] // agents, size // agents)

    def _descend(self, minibatch: Minibatch, clip_range: float) -> tuple[Terms, Tensor]:
        """See the base class; encoders that learn see so many steps at once that memory is known.

        With a memory, whose fragments stay whole, they see the minibatch at once.
        """
        if minibatch.past is not None or not self.behaviour.encoder.seen.learns:
            return super()._descend(minibatch, clip_range)
        found: list[Terms] = []

        def losses() -> Iterator[Tensor]:
            for piece in _apart(minibatch, self.rows_at_once, len(self.spec.agents)):
                terms = self._loss(piece, clip_range)
                found.append(terms._replace(loss=terms.loss.detach()))
                yield terms.loss

        self._adam.accumulate(losses())
        loss = torch.stack([terms.loss for terms in found]).sum()
        rows = (torch.cat(column) for column in list(zip(*found, strict=True))[1:])
        return Terms(loss, *rows), self._adam.descend()

    def _passes(self, data: Rollout, parts: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """See the base class."""
        if data.past is None or data.past.of_critic is None:
            yield from super()._passes(data, parts)
            return
        critic = cast("RememberingCritic", self._critic)
        pieces = in_chunks(parts, self.rows_at_once)
        entered = torch.cat([critic.entered(piece) for piece in pieces])
        yield self._remembered(data, parts), critic.of_all(entered, data.past.of_critic, data)

    def _judge(self, parts: list[Tensor], features: Tensor, past: Past | None) -> Tensor:
        """See the base class."""
        if past is None or past.of_critic is None:
            return super()._judge(parts, features, past)
        values: Tensor = self._critic(parts, past.of_critic)
        return values

    def _as_returns(self, values: Tensor) -> Tensor:
        return values if self._returns is None else self._returns.denormalise(values)

    def _as_values(self, returns: Tensor) -> Tensor:
        return returns if self._returns is None else self._returns.normalise(returns)

    def _take_in_returns(self, data: Rollout, estimates: Estimates) -> None:
        if self._returns is not None:
            self._returns.update(estimates.targets[data.valid_rows].cpu().numpy())

    def _value_error(self, values: Tensor, targets: Tensor, old_values: Tensor) -> Tensor:
        delta, limit = self.config.value_huber_delta, self.config.value_clip_range
        if limit is None:
            return value.huber(values, targets, delta)
        return value.clipped_huber(values, targets, old_values, delta, limit)

    def tensors(self) -> dict[str, Tensor]:
        """See the base class."""
        moments = {} if self._returns is None else self._returns.tensors()
        return {**super().tensors(), **state.prefixed(RETURNS, moments)}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """See the base class."""
        super().load_tensors(tensors)
        if self._returns is not None:
            self._returns.load_tensors(state.without_prefix(RETURNS, tensors))


def _apart(minibatch: Minibatch, steps: int, agents: int) -> Iterator[Minibatch]:
    """The rows of so many steps at once; each row keeps its weight."""
    parts, *columns, past = minibatch
    rows = steps * agents
    yield from map(
        Minibatch,
        in_chunks(parts, steps),
        *(
            itertools.repeat(None) if column is None else torch.split(column, rows)
            for column in columns
        ),
        itertools.repeat(past),
    )


class MAPPO(IPPO):
    """Multi-agent PPO: critics see the state of all beside the agent's own observation."""

    name = "mappo"
    Config = MAPPOConfig
    config: MAPPOConfig
    central = True

    def _build_state(self) -> TeamState | None:
        """See the base class."""
        known = self.spec.global_state
        unsuited = known is None or has_pictures(known)
        source = self.config.state
        if source == "observations" or (source == "auto" and unsuited):
            return None
        return TeamState(self.spec, from_observations=False).to(self.device)
