"""A game whose players take turns, learned by playing against oneself."""

from __future__ import annotations

import pytest
import turn_games
from one_process import ONE_PROCESS

import wiserl

pytestmark = [pytest.mark.usefixtures("own_graph_cache"), pytest.mark.timeout(300)]

SMALL = {
    **ONE_PROCESS,
    "env": "turn_games:Nim",
    "total_steps": 10_000,
    "n_envs": 8,
    "n_steps": 50,
    "learning_rate": 3e-3,
    "hidden_sizes": (32,),
}


def test_players_who_wait_for_their_turn_learn_to_win(tmp_path):
    outcome = wiserl.train("ippo", runs=tmp_path, **SMALL)

    assert outcome.environment_steps == 10_000
    assert outcome.final.agent_returns == {"player_0": (1.0,), "player_1": (-1.0,)}
    agent = wiserl.load(outcome.folder)
    # The observation brings the mask. Leaving three, or none, wins. From four the second player
    # would have to take one, but a first one that plays well leaves no four to learn from.
    for player, best in (("player_0", {5: 1, 2: 1, 1: 0}), ("player_1", {2: 1, 1: 0})):
        for pile, act in best.items():
            assert agent.act({player: turn_games.seen(pile)}) == {player: act}
    assert agent.act({"player_0": turn_games.seen(2), "player_1": turn_games.seen(1)}) == {
        "player_0": 1,
        "player_1": 0,
    }
