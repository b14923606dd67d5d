"""Environments whose agents take turns: who waits has one action, and all that is paid arrives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import turn_games
from pettingzoo.classic import tictactoe_v3
from pettingzoo.utils.conversions import turn_based_aec_to_parallel_wrapper

from common import specs
from protos.wiserl.v1 import environment_pb2
from sampler.environments import aec, registry
from sampler.environments.modules import EnvironmentRefusedError


def available(seen: Any, info: Any) -> list[int]:
    """What a mask leaves."""
    mask = seen["action_mask"] if isinstance(seen, dict) else info["action_mask"]
    return np.flatnonzero(mask).tolist()


def test_a_game_is_played_as_in_its_own_api() -> None:
    game, ours = tictactoe_v3.env(), aec.parallel(tictactoe_v3.env())
    assert type(ours) is aec.Turns
    generator = np.random.default_rng(0)
    winners = set()
    for _ in range(12):
        game.reset(seed=5)
        observations, infos = ours.reset(seed=5)
        paid = dict.fromkeys(ours.possible_agents, 0.0)
        while ours.agents:
            acting = game.agent_selection
            waiting = next(agent for agent in ours.agents if agent != acting)
            expected = game.observe(acting)
            for key, entry in expected.items():
                np.testing.assert_array_equal(observations[acting][key], entry)
            board = game.observe(waiting)["observation"]
            np.testing.assert_array_equal(observations[waiting]["observation"], board)
            assert available(observations[waiting], infos[waiting]) == [0]
            act = int(generator.choice(available(observations[acting], infos[acting])))
            game.step(act)
            # What one that waits is said to do is not looked at.
            observations, rewards, ended, _, infos = ours.step({acting: act, waiting: 8})
            for agent, reward in rewards.items():
                paid[agent] += reward
        assert all(ended.values())
        for agent in ours.possible_agents:
            assert available(observations[agent], infos[agent]) == [0]
        assert paid == {agent: game._cumulative_rewards[agent] for agent in paid}
        winners.add(max(paid, key=paid.__getitem__) if any(paid.values()) else None)
    assert winners == {"player_1", "player_2", None}


def test_one_that_ends_early_leaves_and_the_others_go_on() -> None:
    ours = aec.parallel(turn_games.Knockout())
    observations, infos = ours.reset()
    told, paid, terminated = [], np.zeros(3), []
    while ours.agents:
        turn = ours.unwrapped.agent_selection
        told.append({one: available(observations[one], infos[one]) for one in ours.agents})
        assert all(free == [0] for one, free in told[-1].items() if one != turn)
        observations, rewards, ended, _, infos = ours.step(dict.fromkeys(ours.agents, 1))
        paid += [rewards.get(one, 0.0) for one in ours.possible_agents]
        terminated.append([one for one in ours.possible_agents if ended.get(one)])
    # p_0 p_1 p_2 p_0, then p_1 is out: p_2 p_0 p_2 p_0 p_2.
    assert terminated == [[], [], [], ["p_1"], [], [], [], [], ["p_0", "p_2"]]
    assert [sorted(one) for one in told[3:5]] == [["p_0", "p_1", "p_2"], ["p_0", "p_2"]]
    assert [told[row][who] for row, who in ((0, "p_0"), (3, "p_0"))] == [[0, 1], [0, 1, 2]]
    assert paid.tolist() == [4 + 40, 1 + 20, 4 + 30]


class OwnForm(turn_based_aec_to_parallel_wrapper):
    """Somebody's own."""


def build(name: str, **arguments: Any) -> Any:
    """A copy as a sampler builds it."""
    reference = environment_pb2.EnvironmentReference(
        id=name, arguments=specs.arguments_to_proto(arguments)
    )
    return registry.resolve(reference, ("turn_games",)).plain()


@pytest.mark.parametrize(
    "name", ["pettingzoo/tictactoe_v3", "turn_games:Nim", "turn_games:converted"]
)
def test_environments_are_built_so(name: str) -> None:
    assert type(build(name)) is aec.Turns


def test_what_somebody_made_of_the_conversion_stays() -> None:
    own = OwnForm(turn_games.Nim())

    assert aec.parallel(own) is own


def test_actions_that_no_mask_can_hold_are_refused() -> None:
    with pytest.raises(EnvironmentRefusedError, match=r"take turns, and p_0 acts in Box.*Discrete"):
        build("turn_games:Knockout", continuous=True)
