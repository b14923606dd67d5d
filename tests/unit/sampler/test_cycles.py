"""AEC environments a cycle at a time: what PettingZoo's own conversion gives, in less time."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import numpy as np
import pytest
import team_environments
from gymnasium import spaces
from pettingzoo import AECEnv
from pettingzoo.utils.conversions import aec_to_parallel
from pettingzoo.utils.wrappers import (
    AssertOutOfBoundsWrapper,
    ClipOutOfBoundsWrapper,
    OrderEnforcingWrapper,
)

from protos.wiserl.v1 import environment_pb2
from sampler.environments import aec, registry


class Relay(AECEnv):
    """Each step of an agent pays 1 to it and 10 to the next; agent n ends after n + 2 cycles."""

    metadata: ClassVar[dict[str, Any]] = {"name": "relay", "is_parallelizable": True}
    render_mode = None

    def __init__(self) -> None:
        super().__init__()
        self.possible_agents = ["a_0", "a_1", "a_2"]
        self.looks = 0
        self.quits_early = False

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(-1, 99, (2,), np.float32)

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(3)

    def observe(self, agent: str) -> Any:
        self.looks += 1
        return np.array([self.cycle, self.last_action[agent]], np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents = list(self.possible_agents)
        self.last_action = dict.fromkeys(self.agents, -1)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        self.cycle, self.agent_selection = 0, self.agents[0]

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self.last_action[agent] = int(action)
        place = self.agents.index(agent)
        following = self.agents[(place + 1) % len(self.agents)]
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self.rewards[agent] += 1.0
        self.rewards[following] += 10.0
        self.agent_selection = following
        if place + 1 == len(self.agents):
            self.cycle += 1
            self.infos = {one: {"cycle": self.cycle} for one in self.agents}
            for one in self.agents:
                self.terminations[one] = self.cycle == int(one[-1]) + 2
            left = [one for one in self.agents if not self.terminations[one]]
            self.agent_selection = left[0] if left else following
            self._deads_step_first()
        elif self.quits_early:
            self.terminations[following] = True
            self._deads_step_first()
            self.agent_selection = self.agents[0]
        self._accumulate_rewards()


class Haunted(Relay):
    """Also says what agents are paid that have left: nothing."""

    def step(self, action: Any) -> None:
        super().step(action)
        self.rewards = dict.fromkeys(self.possible_agents, 0.0) | self.rewards


def both(make: Any) -> tuple[Any, Any]:
    """What PettingZoo's conversion makes of an AEC environment, and what ours does."""
    return aec_to_parallel(make()), aec.parallel(make())


def compared(theirs: Any, ours: Any, steps: int) -> int:
    """Steps both with the same actions and compares all that they say; counts the episodes."""
    generator, episodes = np.random.default_rng(3), 0
    for number in range(steps):
        if number == 0 or not theirs.agents:
            seed = 7 if number == 0 else None
            seen, expected = (one.reset(seed=seed)[0] for one in (ours, theirs))
            np.testing.assert_equal(seen, expected)
            episodes += 1
        assert ours.agents == theirs.agents
        actions = {}
        for agent in theirs.agents:
            space = theirs.action_space(agent)
            space.seed(int(generator.integers(1 << 30)))
            actions[agent] = space.sample()
        for mine, its in zip(ours.step(actions), theirs.step(actions), strict=True):
            np.testing.assert_equal(dict(mine), dict(its))
        if theirs.agents and hasattr(theirs, "state_space"):
            np.testing.assert_array_equal(ours.state(), theirs.state())
    return episodes


@pytest.mark.parametrize(
    "name", ["simple_spread_v3", "simple_speaker_listener_v4", "simple_tag_v3"]
)
@pytest.mark.parametrize("continuous", [False, True])
def test_mpe_is_what_its_own_conversion_gives(name: str, continuous: bool) -> None:  # noqa: FBT001
    build = importlib.import_module(f"mpe2.{name}").env
    theirs, ours = both(lambda: build(continuous_actions=continuous, max_cycles=9))

    assert type(ours) is aec.Cycles
    assert compared(theirs, ours, 40) == 5


@pytest.mark.parametrize("kind", [Relay, Haunted])
def test_agents_end_at_different_times_and_rewards_of_all_turns_add_up(kind: type[Relay]) -> None:
    theirs, ours = both(kind)

    assert compared(theirs, ours, 17) == 5
    ours.reset()
    _, rewards, *_ = ours.step(dict.fromkeys(ours.agents, 1))
    assert rewards == {"a_0": 11.0, "a_1": 11.0, "a_2": 11.0}


def test_agents_look_once_a_step() -> None:
    ours = aec.parallel(Relay())
    ours.reset()
    before = ours.unwrapped.looks
    ours.step(dict.fromkeys(ours.agents, 0))

    assert ours.unwrapped.looks - before == 3


def test_checks_are_taken_off_and_what_changes_actions_stays() -> None:
    ours: Any = aec.parallel(OrderEnforcingWrapper(AssertOutOfBoundsWrapper(Relay())))
    assert type(ours.aec_env) is Relay

    from mpe2 import simple_spread_v3

    clipped: Any = aec.parallel(simple_spread_v3.env(continuous_actions=True))
    assert type(clipped.aec_env) is ClipOutOfBoundsWrapper


def test_an_agent_that_ends_before_all_have_acted_is_an_error() -> None:
    ours = aec.parallel(Relay())
    ours.reset()
    ours.unwrapped.quits_early = True

    with pytest.raises(aec.CycleError, match="turn of a_0, not of a_1; all agents must act"):
        ours.step(dict.fromkeys(ours.agents, 0))


@pytest.mark.parametrize(
    "name", ["mpe2/simple_spread_v3", "team_environments:spread_in_turns"], ids=["parallel", "aec"]
)
def test_environments_are_built_so_in_either_form(name: str) -> None:
    recipe = registry.resolve(environment_pb2.EnvironmentReference(id=name), ("team_environments",))

    assert type(recipe.plain()) is aec.Cycles


def test_what_was_parallel_from_the_start_stays_so() -> None:
    recipe = registry.resolve(
        environment_pb2.EnvironmentReference(id="team_environments:Expedition"),
        ("team_environments",),
    )

    assert type(recipe.plain()) is team_environments.Expedition
