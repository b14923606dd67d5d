"""PPO with a memory: whole fragments, their states, resets inside them, and what is published."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from learner_support import (
    IS_FIRST,
    MEMORY,
    OBSERVATION,
    SPECS,
    TERMINATED,
    TRUNCATED,
    VALID,
    acted,
    assert_same,
    discrete_spec,
    parameters,
    ppo,
    round_of,
    trpo,
    with_finals,
)

from common.errors import InvalidFieldError
from common.signature import Extent, Role
from learner.algorithms.ppo import PPOConfig
from learner.algorithms.rollout import rollout_of
from learner.algorithms.sequences import Past, remembered, shuffled_fragments
from learner.publishing.publisher import Publisher

UNITS = 6


def recurrent(spec=None, **config):
    """A small PPO with a memory: 4 environments by 8 steps, two fragments in a minibatch."""
    return ppo(spec or discrete_spec(), recurrent_units=UNITS, **config)


def with_ends(batch):
    """The round with episodes that end inside fragments: cut off, over, and in the last row."""
    batch.columns[TRUNCATED][3, 2] = True
    batch.columns[TERMINATED][1, 0] = True
    batch.columns[TRUNCATED][-1, 1] = True
    for row, slot in ((3, 2), (1, 0)):
        batch.columns[VALID][row + 1, slot] = False
        batch.columns[IS_FIRST][row + 2, slot] = True
    batch.columns[IS_FIRST][0, 3] = True
    return batch


def values_of(algorithm, batch):
    """V of every observation, `[(T + 1) B + N]`."""
    data = rollout_of(
        batch, algorithm.signature, algorithm.behaviour.distribution, device=algorithm.device
    )
    return algorithm._values(data, algorithm.behaviour.preprocess(data.leaves))


def test_the_signature_says_that_states_travel_with_segments():
    signature = recurrent().signature
    (state,) = signature.inputs_of(Role.STATE)
    assert (state.shape, state.key) == ((UNITS,), "memory")
    np.testing.assert_array_equal(state.initial_state, np.zeros(UNITS, np.float32))
    assert [one.key for one in signature.outputs_of(Role.NEXT_STATE)] == ["memory"]
    assert len(signature.inputs_of(Role.RESET)) == 1
    (column,) = [column for column in signature.columns if column.key == MEMORY]
    assert column.extent == Extent.INITIAL
    assert not ppo(discrete_spec()).signature.inputs_of(Role.STATE)


@pytest.mark.parametrize("name", SPECS)
def test_at_a_fresh_version_every_ratio_is_one(name, graph_cache):
    algorithm = recurrent(SPECS[name], learning_rate=1e-2)
    publisher = Publisher(algorithm.behaviour, cache=graph_cache)

    def update(version, seed):
        model = publisher.publish(version).model
        batch = acted(algorithm, model, with_ends(round_of(algorithm, seed=seed)), seed=seed)
        return algorithm.update(batch, 0.0)["train/fresh_ratio_error"], batch

    assert update(1, 0)[0] < 1e-5
    fresh, batch = update(2, 1)
    assert fresh < 1e-5
    assert algorithm.update(batch, 0.0)["train/fresh_ratio_error"] > 1e-3


@pytest.mark.parametrize("forgotten", [IS_FIRST, MEMORY], ids=["resets", "initial states"])
def test_without_resets_or_initial_states_ratios_are_not_one(forgotten, graph_cache):
    algorithm = recurrent(learning_rate=1e-1)
    publisher = Publisher(algorithm.behaviour, cache=graph_cache)
    algorithm.update(acted(algorithm, publisher.publish(1).model, round_of(algorithm)), 0.0)
    model = publisher.publish(2).model
    batch = acted(algorithm, model, with_ends(round_of(algorithm)))
    batch.columns[forgotten][:] = 0
    assert algorithm.update(batch, 0.0)["train/fresh_ratio_error"] > 1e-3


@pytest.mark.parametrize("name", ["discrete", "continuous"])
def test_every_parameter_learns_and_a_restored_algorithm_goes_on_bit_for_bit(name):
    first = recurrent(SPECS[name])
    before = parameters(first)
    first.update(with_ends(round_of(first)), 0.0)
    after = first.tensors()
    learnt = [key for key in before if key.startswith(("behaviour.", "critic."))]
    assert [key for key in learnt if torch.equal(before[key], after[key])] == []
    restored = recurrent(SPECS[name], seed=17)
    restored.load_tensors(parameters(first))
    restored.load_values(json.loads(json.dumps(first.values())))
    batch = with_ends(round_of(first, seed=1))
    assert first.update(batch, 0.2) == restored.update(batch, 0.2)
    assert_same(parameters(first), parameters(restored))


def test_a_step_is_worth_what_its_episode_has_shown_and_nothing_else():
    algorithm = recurrent()
    batch = with_ends(round_of(algorithm))
    expected = values_of(algorithm, batch).view(9, 4)
    batch.columns[OBSERVATION][0] += 1.0
    batch.columns[MEMORY][:] += 1.0
    changed = values_of(algorithm, batch).view(9, 4) != expected
    # Slots 0 and 2 forget in rows 3 and 5. Slot 3 begins in row 0, whose observation it keeps.
    assert changed.tolist() == [[row < 3, True, row < 5, True] for row in range(9)]
    batch.columns[OBSERVATION][0] -= 1.0
    found = values_of(algorithm, batch).view(9, 4)
    torch.testing.assert_close(found[:, 3], expected[:, 3])


@pytest.mark.parametrize("where", [(3, 2), (7, 1)], ids=["inside", "in the last row"])
def test_a_final_observation_follows_on_the_row_that_it_belongs_to(where):
    row, slot = where
    algorithm = recurrent()
    batch = with_ends(round_of(algorithm))
    expected = values_of(algorithm, batch)
    final = batch.columns[OBSERVATION][row + 1, slot].copy()
    batch.columns[OBSERVATION][row + 1, slot] = 7.0
    found = values_of(algorithm, with_finals(batch, [row], [slot], [final]))
    torch.testing.assert_close(found[-1], expected[(row + 1) * 4 + slot])


def test_the_value_after_the_last_row_remembers_the_fragment():
    algorithm = recurrent()
    memory = algorithm.behaviour.memory
    features = torch.randn(9 * 4, 4, generator=torch.Generator().manual_seed(0))
    past = Past(torch.ones(4, UNITS), torch.zeros(8, 4, dtype=torch.bool))
    none = np.empty(0, np.int64)
    states = remembered(memory, features, past, final_rows=none, final_slots=none).view(9, 4, -1)
    going_on = torch.zeros(4, dtype=torch.bool)
    torch.testing.assert_close(states[0], memory(features[:4], past.initial, going_on))
    torch.testing.assert_close(states[8], memory(features[-4:], states[7], going_on))


def test_minibatches_are_whole_fragments_in_their_order():
    valid = np.ones((3, 4), np.bool_)
    valid[2, 1] = False
    numbers, weights, slots = shuffled_fragments(np.random.default_rng(0), valid, 2)
    assert sorted(slots.reshape(-1)) == [0, 1, 2, 3]
    for rows, counts, chosen in zip(numbers, weights, slots, strict=True):
        assert rows.reshape(3, 2).tolist() == [
            [4 * row + slot for slot in chosen] for row in range(3)
        ]
        np.testing.assert_array_equal(counts, valid.reshape(-1)[rows])
    again, _, _ = shuffled_fragments(np.random.default_rng(1), valid, 2)
    assert again.tolist() != numbers.tolist()


def test_a_minibatch_without_a_valid_row_is_left_out():
    valid = np.zeros((3, 4), np.bool_)
    valid[0, 2] = True
    numbers, _, slots = shuffled_fragments(np.random.default_rng(0), valid, 4)
    assert slots.tolist() == [[2]]
    assert numbers.tolist() == [[2, 6, 10]]


def test_settings_that_do_not_go_with_a_memory_are_refused():
    with pytest.raises(InvalidFieldError, match="3 does not divide the 8 fragments of a round"):
        PPOConfig(recurrent_units=4, n_minibatches=3, n_steps=3)
    with pytest.raises(InvalidFieldError, match="-1 must not be negative"):
        PPOConfig(recurrent_units=-1)
    with pytest.raises(InvalidFieldError, match="share_encoder: must be True with recurrent_units"):
        recurrent(share_encoder=False)
    with pytest.raises(InvalidFieldError, match="trpo trains no memory; take ppo, appo or imp"):
        trpo(discrete_spec(), recurrent_units=4)
    uneven = recurrent(n_envs="auto")
    with pytest.raises(InvalidFieldError, match="2 does not divide the 3 fragments"):
        uneven.update(round_of(recurrent(n_envs=3, n_minibatches=1)), 0.0)
