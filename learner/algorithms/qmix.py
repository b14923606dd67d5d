"""Values of single agents, learned each for itself (IQL) or as parts of the team's (VDN, QMIX).

Rashid et al. 2018, "QMIX: Monotonic value function factorisation for deep multi-agent reinforcement
learning" (https://arxiv.org/abs/1803.11485); Sunehag et al. 2018, "Value-decomposition networks for
cooperative multi-agent learning" (https://arxiv.org/abs/1706.05296), whose team value is the sum;
Tan 1993, "Multi-agent reinforcement learning: independent vs. cooperative agents", without a team.
The three differ in their mixer. Deviations:

- Double Q-learning (van Hasselt et al. 2016), Adam in place of RMSProp, and optional
  lambda-returns, as in EPyMARL (Papoudakis et al. 2021, https://arxiv.org/abs/2006.07869).
- A time limit bootstraps with the value of the last observations. Of a team, a step ends the task
  where it ended it for every agent that acted; the values of agents that are gone count 0.
- The last action is no input of the networks.
- QMIX's mixer sees states that are normalised and bounded, unless `normalise_states` is off.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from common.errors import InvalidFieldError, UnsupportedSpaceError
from common.signature import Role
from learner.algorithms import state
from learner.algorithms.base import JSON, refuse_mode_dependent_layers, several_agents_only
from learner.algorithms.device_means import DeviceMeans
from learner.algorithms.from_store import StoreAlgorithm
from learner.algorithms.optimiser import FlatAdam, TargetNetwork
from learner.algorithms.policy_sharing import PolicySharing  # noqa: TC001 - command lines read it
from learner.algorithms.q_learning_settings import QLearningConfig
from learner.algorithms.schedules import scheduled
from learner.algorithms.team_minibatch import TeamMinibatches, TeamReward
from learner.algorithms.team_policy import EPSILON, TeamEpsilonGreedy
from learner.experience.episodes import EpisodeSettings, EpisodeStore
from learner.losses import q_learning
from learner.networks.distributions import available
from learner.networks.mixers import MonotonicMixer, SumMixer
from learner.networks.normalisation import BoundedNormaliser
from learner.networks.teams import TeamState, has_pictures

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from learner.algorithms.team_minibatch import TeamMinibatch
    from learner.experience.episodes import Episodes
    from learner.experience.store import ExperienceStore
    from learner.exploration import Exploration
    from learner.networks.agent_values import AgentValues
    from learner.totals import RingCursor


@dataclasses.dataclass(frozen=True)
class IQLConfig(QLearningConfig):
    """Hyperparameters."""

    segment_length: int = 32
    """Steps of an environment that are pushed together; an episode may take several."""
    batch_size: int = 32
    """Whole episodes of a gradient step."""
    replay_ratio: float = 0.04
    """Gradient steps for each environment step of all samplers together, after learning_starts."""
    policies: PolicySharing = "shared"
    """Which agents have one network: `shared` all of them, `per_role` those of a group whose
    names differ in their number only, `per_agent` none. Agents that share are told apart by their
    number."""
    recurrent: bool = True
    """Gives agents a memory of the episode, a GRU."""
    memory_size: int = 64
    """Units of the memory, where there is one."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Hidden layers, where there is no memory."""
    network: str = "auto"
    """`auto` encodes images with convolutions and everything else as a vector. `module:factory`
    names a function from the observation space of agents to an nn.Module from observations to
    features."""
    adam_epsilon: float = 1e-5
    """Epsilon of Adam."""
    loss: Literal["huber", "squared"] = "squared"
    """Of the temporal difference error; `huber` is linear beyond 1."""
    target_update_interval: int = 200
    """Gradient steps between updates of the target networks."""
    exploration_steps: int = 50_000
    """Environment steps of all samplers together over which epsilon falls in a line."""
    td_lambda: float = 0.0
    """Lambda of the lambda-returns that values are trained towards; 0 looks one step ahead."""
    standardise_rewards: bool = False
    """Trains on rewards less their mean over their standard deviation, of all that were drawn so
    far. Where episodes can be cut short by the agents' own doing, taking off the mean changes what
    is best; with a fixed length it does not."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        self._check("memory_size", self.memory_size >= 1, "must be at least 1")
        self._check("td_lambda", 0 <= self.td_lambda <= 1, "must be in [0, 1]")
        self._check("hidden_sizes", min(self.hidden_sizes, default=1) >= 1, "is below 1 somewhere")


@dataclasses.dataclass(frozen=True)
class VDNConfig(IQLConfig):
    """Hyperparameters."""

    team_reward: TeamReward = "mean"
    """What the team's reward is of its agents' rewards. Returns that are shown are the mean."""


@dataclasses.dataclass(frozen=True)
class QMIXConfig(VDNConfig):
    """Hyperparameters."""

    state: Literal["auto", "global", "observations"] = "auto"
    """What the mixer sees: the environment's `global` state, or the `observations` of all agents,
    which cost nothing more; `auto` is the global state where there is one without images."""
    normalise_states: bool = True
    """Brings every number of the state to mean 0 and deviation 1, of all that were drawn so far,
    and then into (-1, 1). The mixer multiplies functions of the state: where it has no bound, as
    positions may have none, the team's values can grow without bound."""
    mixing_size: int = 32
    """Units of the mixer's hidden layer."""
    hypernetwork_size: int = 64
    """Units of the hidden layer of the networks that make the mixer's weights."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        for field in ("mixing_size", "hypernetwork_size"):
            self._check(field, getattr(self, field) >= 1, "must be at least 1")


class _Networks(nn.Module):
    """All that is trained: the agents' values and what mixes them."""

    def __init__(self, values: AgentValues, mixer: nn.Module | None) -> None:
        super().__init__()
        self.values = values
        self.mixer = mixer

    def team(self, values: Tensor, states: Tensor | None) -> Tensor:
        """Values [L, M, A] and states [L, M, S] to the team's [L, M, 1]; [L, M, A] without one."""
        if self.mixer is None:
            return values
        length, episodes, agents = values.shape
        flat = values.reshape(-1, agents)
        seen = flat if states is None else states.reshape(-1, states.shape[2])
        mixed: Tensor = self.mixer(flat, seen)
        return mixed.reshape(length, episodes, 1)


class IQL(StoreAlgorithm[IQLConfig]):
    """Independent Q-learning: every agent learns from its own rewards as if it were alone."""

    name = "iql"
    Config = IQLConfig
    behaviour: TeamEpsilonGreedy

    def build(self) -> TeamEpsilonGreedy:
        """The networks, their targets and the optimiser."""
        several_agents_only(self.spec, self.name, otherwise="dqn")
        config = self.config
        self._check_episodes()
        self._state = self._build_state()
        self._uses_state = self._state is not None and Role.GLOBAL_STATE in {
            key.role for key in self._state.keys
        }
        self._normaliser = self._build_normaliser()
        policy = TeamEpsilonGreedy(self.spec, config, global_state=self._uses_state)
        refuse_mode_dependent_layers(policy)
        self._networks = _Networks(policy.values, self._build_mixer()).to(self.device)
        policy.to(self.device)
        self._adam = FlatAdam(
            dict(self._networks.named_parameters()),
            learning_rate=config.learning_rate,
            epsilon=config.adam_epsilon,
            max_gradient_norm=config.max_gradient_norm,
        )
        self._target = TargetNetwork(self._networks, self._adam)
        self._error = q_learning.LOSSES[config.loss]
        self._minibatches = TeamMinibatches(
            self.spec,
            policy,
            gamma=config.gamma,
            team=self._team_reward,
            state=self._state,
            standardise=config.standardise_rewards,
            normaliser=self._normaliser,
        )
        self._updates = 0
        self._means = DeviceMeans(
            ("train/loss", "train/q_value", "train/target", "train/gradient_norm"), self.device
        )
        return policy

    def _check_episodes(self) -> None:
        """That whole episodes can be kept.

        Raises:
            UnsupportedSpaceError: Nobody knows when an episode ends at the latest.
            InvalidFieldError: The buffer has no room for one.
        """
        longest = self.spec.max_episode_steps
        if longest is None:
            raise UnsupportedSpaceError(
                f"{self.name} learns from whole episodes, and this environment has no known step "
                "limit; give it one (an attribute max_episode_steps or max_cycles, or Gymnasium's "
                "TimeLimit)"
            )
        try:
            self._episodes_of(longest)
        except ValueError as error:
            raise InvalidFieldError("buffer_size", str(error)) from None

    def _episodes_of(self, longest: int) -> EpisodeSettings:
        return EpisodeSettings(self.config.buffer_size, self.config.segment_length, longest)

    @property
    def _team_reward(self) -> TeamReward | None:
        """What the team's reward is; None where there is no team."""
        return None

    def _build_state(self) -> TeamState | None:
        """What the mixer sees; None where it looks at nothing."""
        return None

    def _build_normaliser(self) -> BoundedNormaliser | None:
        """What states go through; None where they are taken as they are."""
        return None

    def _build_mixer(self) -> nn.Module | None:
        """What makes the team's value; None where each agent has its own."""
        return None

    def store(self, *, seed: int, folder: Path | None, cursor: RingCursor) -> ExperienceStore:
        """See the base class."""
        settings = self._episodes_of(self.spec.max_episode_steps or 1)
        columns = self.signature.columns
        return EpisodeStore(columns, settings, seed=seed, folder=folder, cursor=cursor)

    def scalars(self, environment_steps: int) -> dict[str, Exploration]:
        """Epsilon at this many steps of all samplers together."""
        return {EPSILON: self.config.epsilon(environment_steps)}

    def update(self, batch: Episodes, progress: float) -> None:
        """One gradient step on whole episodes, and the target networks' turn.

            u' <- argmax_u Q_a(o', u) for each agent a       [double; else of the target networks]
            y <- r + gamma Q_tot_target(s', u')              [or the lambda-return of these]
            step down the gradient of mean(L(Q_tot(s, u) - y)) over all steps there were
            every C steps: target networks <- networks

        Unavailable actions are never chosen. Without a mixer Q_tot and r are each agent's own.
        """
        config, data = self.config, self._minibatches.of(batch, self.device)
        self._adam.set_learning_rate(
            scheduled(config.learning_rate, config.learning_rate_schedule, progress)
        )
        length = len(data.actions)
        observed = self._networks.values.observations(data.leaves)
        values = self._networks.values.episodes(observed, length + 1)
        targets = self._targets(data, observed, values.detach())
        taken = values[:-1].gather(3, data.actions.unsqueeze(3)).squeeze(3) * data.acting
        states = None if data.states is None else data.states[:-1]
        learned = self._networks.team(taken, states)
        losses = self._error.loss(learned, targets) * data.weights
        loss = losses.sum() / data.weights.sum()
        norm = self._adam.step(loss)
        self._updates += 1
        if self._updates % config.target_update_interval == 0:
            self._target.follow(config.target_tau)
        # Means here: how long the longest episode is differs from batch to batch.
        counted = data.weights / data.weights.mean()
        value, target = (learned.detach() * counted).mean(), (targets * counted).mean()
        self._means.add(loss, value, target, norm)

    @torch.no_grad()
    def _targets(self, data: TeamMinibatch, observed: list[Tensor], values: Tensor) -> Tensor:
        """[L, M, U], from what the networks in training observe and say, [L + 1, M, A, W]."""
        target = self._target.network
        if target.values.observations.learns:
            observed = target.values.observations(data.leaves)
        worth = target.values.episodes(observed, len(values))[1:]
        deciding = values[1:] if self.config.double else worth
        mask = data.mask if data.mask is None or len(data.mask) == 1 else data.mask[1:]
        chosen = available(deciding, mask).argmax(3, keepdim=True)
        following = worth.gather(3, chosen).squeeze(3) * data.going
        states = None if data.states is None else data.states[1:]
        return q_learning.lambda_targets(
            data.rewards,
            data.discounts,
            target.team(following, states),
            data.ends,
            trace=self.config.td_lambda,
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

    def tensors(self) -> dict[str, Tensor]:
        """See the base class."""
        normaliser = self._normaliser
        return {
            **state.prefixed("networks", self._networks.state_dict()),
            **state.prefixed("target", self._target.network.state_dict()),
            **state.prefixed("rewards", self._minibatches.rewards.tensors()),
            **({} if normaliser is None else state.prefixed("states", normaliser.state_dict())),
            **state.prefixed("optimiser", self._adam.tensors()),
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """See the base class."""
        state.refuse_other_names(tensors, self.tensors())
        state.load_module(self._networks, tensors, "networks")
        state.load_module(self._target.network, tensors, "target")
        self._minibatches.rewards.load_tensors(state.without_prefix("rewards", tensors))
        if self._normaliser is not None:
            state.load_module(self._normaliser, tensors, "states")
        self._adam.load_tensors(tensors, "optimiser")

    def values(self) -> dict[str, JSON]:
        """See the base class."""
        return {"updates": self._updates}

    def load_values(self, values: Mapping[str, JSON]) -> None:
        """See the base class."""
        self._updates = cast("int", values["updates"])


class VDN(IQL):
    """Value decomposition networks: the team's value is the sum of its agents'."""

    name = "vdn"
    Config = VDNConfig
    config: VDNConfig

    def _build_mixer(self) -> nn.Module:
        return SumMixer()

    @property
    def _team_reward(self) -> TeamReward:
        return self.config.team_reward


class QMIX(VDN):
    """QMIX: the team's value is monotonic in its agents', in a way that depends on the state."""

    name = "qmix"
    Config = QMIXConfig
    config: QMIXConfig

    def _build_state(self) -> TeamState:
        source = self.config.state
        if source == "auto":
            known = self.spec.global_state
            source = "observations" if known is None or has_pictures(known) else "global"
        return TeamState(self.spec, from_observations=source == "observations").to(self.device)

    def _build_normaliser(self) -> BoundedNormaliser | None:
        if not self.config.normalise_states:
            return None
        return BoundedNormaliser(cast("TeamState", self._state).width).to(self.device)

    def _build_mixer(self) -> nn.Module:
        width = cast("TeamState", self._state).width
        return MonotonicMixer(
            len(self.spec.agents),
            width,
            embedding=self.config.mixing_size,
            hypernetwork=self.config.hypernetwork_size,
        )
