"""Environments with several agents: groups, agents that end early, masks, state, adapters."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pool_models
import pytest
import team_environments
from onnx import TensorProto, helper
from pool_rolls import evaluate, ready, roll
from small_models import BOOL, FLOAT, graph

from common import spaces, specs
from common.errors import UnsupportedSpaceError
from common.signature import (
    ColumnKey,
    ColumnSpec,
    Extent,
    GraphInput,
    GraphOutput,
    Noise,
    Role,
    Signature,
)
from protos.wiserl.v1 import environment_pb2
from sampler.environments import building
from sampler.environments.modules import EnvironmentRefusedError
from sampler.environments.observations import WrongObservationError
from sampler.inline_pool import InlinePool
from sampler.pool import PoolConfig, PoolError
from sampler.seeding import SlotIdentity

MODULES = ("team_environments", "turn_games", "lbforaging")
EXPEDITION = "team_environments:Expedition"


def made(name: str, copies: int = 2, **arguments: Any) -> InlinePool:
    reference = environment_pb2.EnvironmentReference(
        id=name, arguments=specs.arguments_to_proto(arguments)
    )
    return InlinePool(
        PoolConfig(reference, reference, envs_per_worker=copies, allowed_modules=MODULES)
    )


def choice(spec: specs.EnvironmentSpec) -> tuple[Signature, bytes]:
    """Each agent takes what its mask leaves, else floor(3 noise); a Box takes 2 noise - 1.

    Every group records the noise of its first draw.
    """
    inputs, outputs, columns, nodes = [], [], [], []
    for group in spec.groups:
        name, axis = group.name, spec.axis(group)
        for path, leaf in spaces.leaves(group.observation).items():
            key = ColumnKey(Role.OBSERVATION, name, path)
            dtype = FLOAT if leaf.dtype.kind == "f" else leaf.dtype
            columns.append(ColumnSpec(key, dtype, axis + leaf.shape, Extent.ROWS_PLUS_ONE))
        columns.append(ColumnSpec(ColumnKey(Role.ALIVE, name), BOOL, axis, Extent.ROWS_PLUS_ONE))
        width = group.action.shape
        noise = GraphInput(
            f"noise/{name}", Role.NOISE, FLOAT, axis + width, name, "u", noise=Noise.OPEN_UNIFORM
        )
        inputs.append(noise)
        outputs.append(GraphOutput(f"seen/{name}", Role.RECORD, FLOAT, axis + width, name, "noise"))
        nodes.append(helper.make_node("Identity", [noise.name], [f"seen/{name}"]))
        action = GraphOutput(f"action/{name}", Role.ACTION, group.action.dtype, axis + width, name)
        outputs.insert(0, action)
        if group.action_mask:
            n = spaces.mask_width(group.action)
            mask = GraphInput(f"mask/{name}", Role.ACTION_MASK, BOOL, (*axis, n), name)
            inputs.append(mask)
            columns.append(
                ColumnSpec(
                    ColumnKey(Role.ACTION_MASK, name), BOOL, (*axis, n), Extent.ROWS_PLUS_ONE
                )
            )
            nodes += [
                helper.make_node("Cast", [mask.name], [f"number/{name}"], to=TensorProto.INT32),
                helper.make_node("ArgMax", [f"number/{name}"], [action.name], axis=-1, keepdims=0),
            ]
        elif isinstance(group.action, spaces.Discrete):
            nodes += [
                helper.make_node("Mul", [noise.name, "n"], [f"scaled/{name}"]),
                helper.make_node("Cast", [f"scaled/{name}"], [action.name], to=TensorProto.INT64),
            ]
        else:
            nodes += [
                helper.make_node("Mul", [noise.name, "two"], [f"twice/{name}"]),
                helper.make_node("Sub", [f"twice/{name}", "one"], [action.name]),
            ]
    for path, leaf in spaces.leaves(spec.global_state).items() if spec.global_state else ():
        key = ColumnKey(Role.GLOBAL_STATE, "", path)
        columns.append(ColumnSpec(key, FLOAT, leaf.shape, Extent.ROWS_PLUS_ONE))
    for output in outputs:
        key = ColumnKey(output.role, output.group, output.key)
        columns.append(ColumnSpec(key, output.dtype, output.shape))
    for role, dtype in ((Role.REWARD, FLOAT), (Role.TERMINATED, BOOL), (Role.TRUNCATED, BOOL)):
        columns += [ColumnSpec(ColumnKey(role, g.name), dtype, spec.axis(g)) for g in spec.groups]
    columns += [
        ColumnSpec(ColumnKey(role), BOOL) for role in (Role.IS_FIRST, Role.VALID, Role.EPISODE_END)
    ]
    signature = Signature(tuple(inputs), tuple(outputs), tuple(columns))
    constants = {"n": np.float32(3), "two": np.float32(2), "one": np.float32(1)}
    return signature, graph(nodes, signature, constants)


@pytest.fixture
def pool():
    pool = made(EXPEDITION)
    yield pool
    pool.close()


def test_agents_with_identical_spaces_form_a_group_in_the_environments_order(pool):
    walkers, scout = pool.spec.groups
    assert (walkers.name, walkers.agents, walkers.action_mask) == (
        "walker",
        ("walker_0", "walker_1"),
        True,
    )
    assert (scout.name, scout.agents, scout.action_mask) == ("scout", ("scout",), False)
    assert pool.spec.multi_agent
    assert pool.spec.agents == ("walker_0", "walker_1", "scout")
    assert pool.spec.max_episode_steps == 4
    assert spaces.leaves(pool.spec.global_state)[""].shape == (2,)
    assert specs.from_proto(specs.to_proto(pool.spec)) == pool.spec


def test_every_column_of_an_episode_in_which_an_agent_ends_early(pool):
    ready(pool, choice)
    rolled = roll(pool, 7)
    slot = {name: array[:, 0] for name, array in rolled.columns.items()}
    t, f = True, False
    assert slot["valid"].tolist() == [t, t, t, t, f, t, t]
    assert slot["is_first"].tolist() == [t, f, f, f, f, t, f]
    assert slot["episode_end"].tolist() == [f, f, f, t, f, f, f]
    assert slot["alive/walker"].tolist() == [
        [t, t], [t, t], [t, f], [t, f], [f, f], [t, t], [t, t], [t, f]
    ]  # fmt: skip
    assert slot["alive/scout"][:, 0].tolist() == [t, t, t, t, f, t, t, t]
    assert slot["terminated/walker"].tolist() == [
        [f, f], [f, t], [f, f], [f, f], [f, f], [f, f], [f, t]
    ]  # fmt: skip
    assert slot["truncated/walker"].tolist() == [[f, f]] * 3 + [[t, f]] + [[f, f]] * 3
    assert slot["truncated/scout"][:, 0].tolist() == [f, f, f, t, f, f, f]
    assert slot["reward/walker"].tolist() == [
        [1, 10], [2, 20], [3, 0], [4, 0], [0, 0], [1, 10], [2, 20]
    ]  # fmt: skip
    assert slot["reward/scout"][:, 0].tolist() == [100, 100, 100, 100, 0, 100, 100]
    # The last observation stands after the last step, of an agent as of the episode.
    assert slot["observation/walker"][:, 0, 1].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert slot["observation/walker"][:, 1, 1].tolist() == [0, 1, 2, 0, 0, 0, 1, 2]
    assert slot["observation/scout/step"][:, 0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert slot["global_state"][:, 1].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]


def test_masks_hold_for_each_agent_and_allow_everything_to_an_absent_one(pool):
    ready(pool, choice)
    slot = {name: array[:, 0] for name, array in roll(pool, 5).columns.items()}
    only = np.eye(3, dtype=np.bool_)
    everything = [True, True, True]
    assert slot["action_mask/walker"][:, 0].tolist() == [
        *only[[0, 1, 2, 0, 1]].tolist(), only[0].tolist()
    ]  # fmt: skip
    assert slot["action_mask/walker"][:4, 1].tolist() == [*only[:3].tolist(), everything]
    # Actions are the policy's where an agent acted, and zeros where it did not.
    assert slot["action/walker"].tolist() == [[0, 0], [1, 1], [2, 0], [0, 0], [0, 0]]
    assert (slot["record/scout/noise"][:4] != 0).all()
    assert (slot["record/scout/noise"][4] == 0).all()
    assert (slot["action/scout"][4] == 0).all()


def test_returns_are_kept_apart_and_told_as_their_mean(pool):
    ready(pool, choice)
    episodes = [one for one in roll(pool, 10).episodes if one.slot == 1]
    assert [one.end_row for one in episodes] == [3, 8]
    for episode in episodes:
        assert list(episode.agent_returns) == [10.0, 30.0, 400.0]
        assert episode.episode_return == pytest.approx(440 / 3)
        assert (episode.length, episode.terminated) == (4, False)
        assert dict(episode.metrics) == {"found": 4.0}


def test_cutting_lives_into_segments_and_parts_of_the_slots_changes_nothing():
    whole, parts = made(EXPEDITION, 3), made(EXPEDITION, 3)
    for pool in (whole, parts):
        ready(pool, choice)
    expected = roll(whole, 9)
    pieces = [roll(parts, 4), roll(parts, 5, slots=(0, 2)), roll(parts, 5, slots=(1,))]
    for name, array in expected.columns.items():
        first, (outer, inner) = pieces[0][name], (pieces[1][name], pieces[2][name])
        joined = np.stack([outer[:, 0], inner[:, 0], outer[:, 1]], 1)
        cut = first[: len(array) - len(joined)]
        np.testing.assert_array_equal(np.concatenate([cut, joined]), array, err_msg=name)
    returns = sorted(tuple(e.agent_returns) for piece in pieces for e in piece.episodes)
    assert returns == sorted(tuple(e.agent_returns) for e in expected.episodes)


def test_evaluations_play_every_seed_and_tell_each_agents_return(pool):
    ready(pool, choice)
    episodes = evaluate(pool, [7, 5, 6])
    assert [one.seed for one in episodes] == [7, 5, 6]
    for one in episodes:
        assert list(one.episode.agent_returns) == [10.0, 30.0, 400.0]
        assert one.episode.length == 4
        assert not one.episode.terminated


def test_the_global_state_is_not_asked_for_where_nobody_wants_it(pool, monkeypatch):
    def fail(_self):
        raise AssertionError("nobody wants it")

    def without_state(spec):
        signature, model = choice(spec)
        kept = tuple(one for one in signature.columns if one.key.role != Role.GLOBAL_STATE)
        return Signature(signature.inputs, signature.outputs, kept), model

    monkeypatch.setattr(team_environments.Expedition, "state", fail)
    ready(pool, without_state)
    assert "global_state" not in roll(pool, 6).columns


def test_a_signature_for_other_agents_is_refused(pool):
    signature, _ = choice(pool.spec)
    others = pool_models.registration(Signature(signature.inputs, signature.outputs[:1], ()))
    with pytest.raises(PoolError, match="no action output for the group 'walker'"):
        pool.configure(others)


def test_an_agent_that_acts_must_be_observed():
    pool = made("team_environments:Silent")
    ready(pool, choice)
    with pytest.raises(WrongObservationError, match="no observation of scout"):
        roll(pool, 3)


@pytest.mark.parametrize(
    ("name", "groups", "limit", "state"),
    [
        ("mpe2/simple_spread_v3", {"agent": 3}, 25, 54),
        ("mpe2/simple_speaker_listener_v4", {"speaker": 1, "listener": 1}, 25, 14),
        ("mpe2/simple_tag_v3", {"adversary": 3, "agent": 1}, 25, 62),
        ("team_environments:spread_in_turns", {"agent": 3}, 25, 54),
        ("lbforaging:Foraging-8x8-2p-2f-coop-v3", {"agent": 2}, 50, None),
        ("team_environments:Foraging", {"agent": 2}, 3, None),
    ],
)
def test_environments_by_name(name, groups, limit, state):
    pool = made(name, 1)
    assert {group.name: len(group.agents) for group in pool.spec.groups} == groups
    assert pool.spec.max_episode_steps == limit
    found = pool.spec.global_state
    assert (found.shape[0] if found is not None else None) == state
    ready(pool, choice)
    rolled = roll(pool, limit + 2)
    assert len(rolled.episodes) == 1
    (episode,) = rolled.episodes
    assert len(episode.agent_returns) == sum(groups.values())
    assert episode.episode_return == pytest.approx(np.mean(episode.agent_returns))
    pool.close()


def test_rows_are_those_of_a_bare_loop_over_the_environment():
    from mpe2 import simple_spread_v3

    pool = made("mpe2/simple_spread_v3", 1, max_cycles=5)
    ready(pool, choice)
    rolled = roll(pool, 5)
    bare = simple_spread_v3.parallel_env(max_cycles=5)
    seen, _ = bare.reset(seed=SlotIdentity(1, 0, 0, 0).environment_seed())
    for row in range(5):
        for place, agent in enumerate(pool.spec.agents):
            np.testing.assert_array_equal(rolled["observation/agent"][row, 0, place], seen[agent])
        acts = rolled["action/agent"][row, 0].tolist()
        seen, rewards, *_ = bare.step(dict(zip(pool.spec.agents, acts, strict=True)))
        expected = np.array([rewards[agent] for agent in pool.spec.agents], np.float32)
        np.testing.assert_array_equal(rolled["reward/agent"][row, 0], expected)
    assert bare.agents == []


def test_agents_that_take_turns_have_a_row_for_each_turn():
    pool = made("turn_games:Nim", copies=1)
    ready(pool, choice)
    rolled = roll(pool, 6)
    pool.close()
    # Always one is taken, so that the first player takes the last.
    piles = rolled["observation/player/observation"][:, 0].argmax(-1)
    assert piles.tolist() == [[pile, pile] for pile in (5, 4, 3, 2, 1, 0, 5)]
    t, f = True, False
    acts, waits = [t, t], [t, f]
    masks = rolled["action_mask/player"][:5, 0].tolist()
    assert masks == [[acts, waits], [waits, acts], [acts, waits], [waits, acts], [waits, waits]]
    assert rolled["action/player"][:5, 0].tolist() == [[0, 0]] * 5
    assert rolled["alive/player"][:, 0].tolist() == [[t, t]] * 5 + [[f, f], [t, t]]
    assert rolled["reward/player"][:5, 0].tolist() == [[0, 0]] * 4 + [[1, -1]]
    assert rolled["terminated/player"][:5, 0].tolist() == [[f, f]] * 4 + [[t, t]]
    assert rolled["valid"][:, 0].tolist() == [t] * 5 + [f]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smac/x_v1", "none of the packages"),
        ("mpe2/simple_v9", "mpe2 has no such environment; did you mean mpe2/simple_v3"),
        ("team_environments:gymnasium.spaces", "is a module; name a function"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(name, words):
    with pytest.raises(EnvironmentRefusedError, match=words):
        made(name)


def test_a_tuple_is_no_observation_of_a_single_agent():
    with pytest.raises(UnsupportedSpaceError, match="Tuple"):
        made("team_environments:TupleObserver")


def test_tuples_need_a_reward_for_each_agent():
    pool = made("team_environments:Foraging", scalar_reward=True)
    ready(pool, choice)
    with pytest.raises(Exception, match="a number for each of its 2 agents"):
        roll(pool, 1)


def test_several_agents_have_no_native_vectorisation():
    reference = environment_pb2.EnvironmentReference(id=EXPEDITION)
    settings = PoolConfig(reference, reference, vectorization="native", allowed_modules=MODULES)
    with pytest.raises(EnvironmentRefusedError, match="no vectorisation of its own"):
        InlinePool(settings)


def test_groups_of_the_same_prefix_are_named_after_their_first_agents():
    class Uneven(team_environments.Expedition):
        def action_space(self, agent):
            return gymnasium.spaces.Discrete(2 if agent == "walker_0" else 3)

        def observation_space(self, agent):
            return gymnasium.spaces.Box(-1, 1, (1 + (agent == "scout"),), np.float32)

    uneven = Uneven()
    found = building.specification(uneven)
    assert [group.name for group in found.groups] == ["walker_0", "scout", "walker_1"]
