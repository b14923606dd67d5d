"""MAPPO and IPPO with a memory: who forgets when, what a critic recalls, normalised features."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from joint_support import MIXED, TEAM
from learner_support import assert_same, parameters
from team_round_support import FIRST, made, rolled, with_a_death
from torch.nn import functional as F

from common.errors import InvalidFieldError
from common.signature import ColumnKey, Extent, Role
from learner.algorithms.policy_sharing import members_of
from learner.algorithms.team_networks import FeatureNorm
from learner.experience.on_policy import FragmentKey
from learner.networks.agent_memory import AgentMemory
from learner.publishing import sessions
from learner.publishing.publisher import Publisher

NAMES = ["mappo", "ippo"]
SHARING = ["shared", "per_role", "per_agent"]
UNITS = 5
ALIVE, MEMORY = ColumnKey(Role.ALIVE, "agent"), ColumnKey(Role.STATE, "agent", "memory")
SEEN = ColumnKey(Role.OBSERVATION, "agent")


def recurrent(name="mappo", spec=None, **settings):
    given = {"recurrent_units": UNITS, **settings}
    return made(name, **given) if spec is None else made(name, spec, **given)


def values_of(algorithm, batch):
    """V of every observation that stands in a row, [T + 1, B, A]."""
    data = algorithm._rollout(batch)
    agents = len(algorithm.spec.agents)
    values = algorithm._values(data, data.leaves)[: data.rows + data.shape[1]]
    return values.view(data.shape[0] + 1, -1, agents)


def with_keys(batch, *keys):
    """The round with fragments that stand there in the run."""
    return dataclasses.replace(batch, keys=[FragmentKey(*key) for key in keys])


def test_the_states_of_every_group_travel_with_segments():
    signature = recurrent().signature
    states = {state.group: state.shape for state in signature.inputs_of(Role.STATE)}
    assert states == {"walker": (3, UNITS), "scout": (1, UNITS)}
    columns = {c.key.group: c for c in signature.columns if c.key.role == Role.STATE}
    assert {name: c.shape for name, c in columns.items()} == states
    assert {c.extent for c in columns.values()} == {Extent.INITIAL}
    assert len(signature.inputs_of(Role.RESET)) == 1
    assert not made().signature.inputs_of(Role.RESET)


@pytest.mark.parametrize("policies", SHARING)
@pytest.mark.parametrize("name", NAMES)
def test_at_a_fresh_version_the_ratio_is_1_and_every_network_learns(name, policies):
    algorithm = recurrent(name, policies=policies, n_minibatches=3, learning_rate=1e-2)
    first = rolled(algorithm, ends=with_a_death)
    before = parameters(algorithm)
    metrics = algorithm.update(first, 0.0)
    assert metrics["train/fresh_ratio_error"] < 1e-5
    assert np.isfinite(list(metrics.values())).all()
    learnt = [key for key in before if key.startswith(("behaviour.", "critic."))]
    same = [key for key in learnt if torch.equal(before[key], algorithm.tensors()[key])]
    assert same == []
    again = rolled(algorithm, ends=with_a_death, seed=1)
    assert algorithm.update(again, 0.0)["train/fresh_ratio_error"] < 1e-5
    assert algorithm.update(again, 0.0)["train/fresh_ratio_error"] > 1e-3


@pytest.mark.parametrize("forgotten", ["resets", "states"])
def test_without_resets_or_the_states_that_travelled_it_is_not(forgotten):
    algorithm = recurrent(learning_rate=1e-1)
    algorithm.update(rolled(algorithm), 0.0)
    batch = rolled(algorithm, ends=with_a_death)
    for key, column in batch.columns.items():
        if key == FIRST if forgotten == "resets" else key.role == Role.STATE:
            column[:] = 0
    assert algorithm.update(batch, 0.0)["train/fresh_ratio_error"] > 1e-3


@pytest.mark.timeout(400)  # an export takes minutes on a machine that is busy
@pytest.mark.parametrize("policies", ["shared", "per_role"])
def test_one_graph_remembers_for_all_agents_as_the_learner_does(policies, graph_cache):
    algorithm = recurrent(policies=policies, normalise_features=True)
    model = Publisher(algorithm.behaviour, cache=graph_cache).publish(1).model
    names = [output.name for output in algorithm.behaviour.outputs]
    session = sessions.session_of(model)
    acted = rolled(
        algorithm, ends=with_a_death, run=lambda feeds: sessions.run(session, names, feeds)
    )
    in_torch = rolled(algorithm, ends=with_a_death)
    for key, column in in_torch.columns.items():
        np.testing.assert_allclose(acted.columns[key], column, rtol=1e-4, atol=1e-4)
    assert algorithm.update(acted, 0.0)["train/fresh_ratio_error"] < 1e-5


@pytest.mark.parametrize("sharing", SHARING)
def test_agents_remember_each_for_itself_by_the_network_of_its_policy(sharing):
    policies = members_of(MIXED, sharing)
    memory = AgentMemory(policies, 4, UNITS)
    generator = torch.Generator().manual_seed(0)
    features, state = torch.randn(7, 2 * 4, 4, generator=generator), torch.zeros(2 * 4, UNITS)
    reset = torch.rand(7, 2 * 4, generator=generator) < 0.2
    states = memory.unroll(features, state, reset)
    by_row = []
    for row in range(7):
        state = memory(features[row], state, reset[row])
        by_row.append(state)
    torch.testing.assert_close(states, torch.stack(by_row))
    for agent in range(4):
        (policy,) = [n for n, members in enumerate(policies) if agent in members]
        own = slice(agent, None, 4)
        alone = memory.memories[policy].unroll(
            features[:, own], torch.zeros(2, UNITS), reset[:, own]
        )
        torch.testing.assert_close(states[:, own], alone)


@pytest.mark.parametrize("name", NAMES)
def test_agents_that_are_gone_count_in_nothing(name):
    one, other = (recurrent(name, team_reward="none") for _ in range(2))
    batch, changed = (rolled(one, ends=with_a_death) for _ in range(2))
    for key, column in changed.columns.items():
        if key.role in {Role.REWARD, Role.OBSERVATION, Role.RECORD} and key.group == "walker":
            column[2:4, 0, 0] += 1.0
    assert one.update(batch, 0.0) == other.update(changed, 0.0)
    assert_same(one.tensors(), other.tensors())


def with_a_rebirth(batch):
    """In slot 0 the first agent dies in row 1, is away for two rows, and acts again from row 4."""
    batch.columns[ColumnKey(Role.TERMINATED, "agent")][1, 0, 0] = True
    batch.columns[ALIVE][2:4, 0, 0] = False
    return batch


def test_a_critic_remembers_an_agents_present_life_and_the_present_episode():
    algorithm = recurrent("ippo", TEAM)
    batch = rolled(algorithm, ends=with_a_rebirth)
    batch.columns[FIRST][3, 1] = True
    expected = values_of(algorithm, batch)
    batch.columns[SEEN][1] += 1.0
    changed = values_of(algorithm, batch) != expected
    # Row 1 is seen in it and in the rows behind it, up to a death or another episode.
    assert changed[:, 0, 0].tolist() == [False, True] + [False] * 5
    assert changed[:, 0, 1].tolist() == [False] + [True] * 6
    assert changed[:, 1, 0].tolist() == [False, True, True] + [False] * 4


def test_an_agent_that_a_time_limit_cut_off_is_worth_what_its_memory_says():
    algorithm = recurrent("ippo", TEAM)

    def cut_off(batch):
        batch.columns[ColumnKey(Role.TRUNCATED, "agent")][2, 0] = True
        batch.columns[ALIVE][3, 0] = False
        batch.columns[ColumnKey(Role.VALID)][3, 0] = False
        batch.columns[FIRST][4, 0] = True
        return batch

    batch = rolled(algorithm, ends=cut_off)
    expected = values_of(algorithm, batch)
    batch.columns[SEEN][0, 0] += 1.0
    changed = (values_of(algorithm, batch) != expected)[:, 0, 0]
    assert changed.tolist() == [True] * 4 + [False] * 3


@pytest.mark.parametrize("name", NAMES)
def test_a_critic_goes_on_where_the_fragment_before_ended(name):
    long, short = recurrent(name, TEAM, n_steps=12), recurrent(name, TEAM)
    whole = rolled(long, ends=with_a_rebirth)
    keys = [(0, slot, 0, 0) for slot in range(3)]
    expected = values_of(long, with_keys(whole, *keys))

    def part(rows):
        columns = {key: column[rows].copy() for key, column in whole.columns.items()}
        for key, column in whole.columns.items():
            if key.role in {Role.OBSERVATION, Role.ALIVE, Role.GLOBAL_STATE}:
                columns[key] = column[rows.start : rows.stop + 1].copy()
            elif key.role == Role.STATE:
                columns[key] = column
        return dataclasses.replace(whole, columns=columns)

    def later(first_row, incarnation=0):
        return with_keys(part(slice(6, 12)), *((0, s, incarnation, first_row) for s in range(3)))

    found = values_of(short, with_keys(part(slice(0, 6)), *keys))
    torch.testing.assert_close(found, expected[:7])
    torch.testing.assert_close(values_of(short, later(6)), expected[6:])
    # Rows that are missing, or another life of the slot, are nothing to go on from.
    values_of(short, with_keys(part(slice(0, 6)), *keys))
    assert not torch.isclose(values_of(short, later(7)), expected[6:]).any()
    values_of(short, with_keys(part(slice(0, 6)), *keys))
    assert not torch.isclose(values_of(short, later(6, incarnation=1)), expected[6:]).any()


def test_fragments_of_one_slot_in_one_round_follow_on_each_other():
    algorithm = recurrent("ippo", TEAM, n_envs=2)
    batch = rolled(algorithm)
    batch.columns[FIRST][:] = False
    apart = values_of(algorithm, with_keys(batch, (0, 0, 0, 0), (0, 1, 0, 0)))
    # The later fragment stands first, as it may where a round's order is another.
    joined = values_of(algorithm, with_keys(batch, (3, 0, 0, 6), (3, 0, 0, 0)))
    torch.testing.assert_close(joined[:, 1], apart[:, 1])
    assert not torch.isclose(joined[:-1, 0], apart[:-1, 0]).all()
    data = algorithm._rollout(with_keys(batch, (4, 0, 0, 6), (4, 0, 0, 0)))
    assert data.past.of_critic.initial[:3].abs().sum() > 0
    assert data.past.of_critic.initial[3:].abs().sum() == 0


def test_what_an_agent_was_left_with_dies_with_it():
    algorithm = recurrent("ippo", TEAM)

    def dies_last(batch):
        batch.columns[ColumnKey(Role.TERMINATED, "agent")][5, 0, 0] = True
        return batch

    keys = [(0, slot, 0, 0) for slot in range(3)]
    algorithm._rollout(with_keys(rolled(algorithm, ends=dies_last), *keys))
    following = [(0, slot, 0, 6) for slot in range(3)]
    data = algorithm._rollout(with_keys(rolled(algorithm), *following))
    left = data.past.of_critic.initial.abs().sum(1) > 0
    assert left.tolist() == [False] + [True] * 8


def test_minibatches_are_whole_fragments_with_all_their_agents():
    algorithm = recurrent(n_minibatches=3)
    data = algorithm._rollout(rolled(algorithm, ends=with_a_death))
    order, weights, pasts = algorithm._order(data)
    assert sorted(order.reshape(-1).tolist()) == list(range(6 * 3 * 4))
    assert weights.sum() == 6 * 3 * 4 - 2 - 4
    for rows, past in zip(order, pasts, strict=True):
        slot = rows[0] // 4
        agents = [12 * row + 4 * slot + agent for row in range(6) for agent in range(4)]
        assert rows.tolist() == agents
        torch.testing.assert_close(past.initial, data.past.initial[slot * 4 : slot * 4 + 4])
        whole = data.past.of_critic.reset[:, slot * 4 : slot * 4 + 4]
        assert torch.equal(past.of_critic.reset, whole)


def test_it_goes_on_from_its_state_bit_for_bit():
    one, other = recurrent(), recurrent(seed=1)
    one.update(rolled(one), 0.0)
    other.load_tensors(parameters(one))
    other.load_values(one.values())
    # What comes to another process is of other lives.
    batch = with_keys(rolled(one, seed=1), *((0, slot, 1, 0) for slot in range(3)))
    assert one.update(batch, 0.5) == other.update(batch, 0.5)
    assert_same(one.tensors(), other.tensors())


def test_features_are_normalised_each_row_by_itself_and_padding_stays_0():
    rows = torch.tensor([[[1.0, 3.0, 0.0], [2.0, 4.0, 9.0]], [[0.0] * 3, [5.0] * 3]])
    real = torch.tensor([[True, True, False], [True, True, True]])
    found = FeatureNorm(real)(rows)
    torch.testing.assert_close(found[0, 0], torch.tensor([-1.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[:, 1], F.layer_norm(rows[:, 1], (3,)))
    assert found[1].abs().max() == 0
    whole = FeatureNorm(torch.ones(2, 3, dtype=torch.bool))
    assert whole.real is None
    torch.testing.assert_close(whole(rows)[:, 1], found[:, 1])


@pytest.mark.parametrize("units", [0, UNITS])
def test_a_policy_with_normalised_features_does_not_see_how_large_they_are(units):
    algorithm = made("mappo", TEAM, normalise_features=True, recurrent_units=units)
    batch = rolled(algorithm)
    expected = values_of(algorithm, batch)
    batch.columns[SEEN][:] *= 100.0
    torch.testing.assert_close(values_of(algorithm, batch), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_minibatches": 2}, "2 does not divide the 3 fragments of a round"),
        ({"hidden_sizes": ()}, "must have a layer with recurrent_units"),
        ({"recurrent_units": -1}, "must not be negative"),
    ],
)
def test_settings_that_do_not_go_with_a_memory(settings, said):
    with pytest.raises(InvalidFieldError, match=said):
        recurrent(**settings)
