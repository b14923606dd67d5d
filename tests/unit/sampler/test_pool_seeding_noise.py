"""Seeds and noise are functions of their address alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.signature import GraphInput, Noise, Role
from sampler.noise import NoiseSource
from sampler.seeding import SlotIdentity, evaluation_noise_key

U64 = st.integers(0, 2**64 - 1)


def noise_input(kind, *shape, name="noise"):
    return GraphInput(name, Role.NOISE, np.dtype(np.float32), shape, "", name, noise=kind)


def draw(source, keys, version=1, first_rows=None, rows=4):
    first = np.zeros(len(keys)) if first_rows is None else first_rows
    return source.draw(np.array(keys, np.uint64), version, np.array(first, np.uint64), rows)


def test_the_seed_of_an_environment_is_the_contracts():
    digest = hashlib.sha256(b"wiserl/42/3/17/5/environment").digest()
    expected = int.from_bytes(digest[:4], "little") % 2**31
    assert SlotIdentity(42, 3, 17, 5).environment_seed() == expected


@given(st.lists(st.tuples(U64, U64, U64, U64), min_size=2, max_size=4, unique=True))
def test_no_two_slots_share_a_noise_key(identities):
    keys = {SlotIdentity(*identity).noise_key() for identity in identities}
    assert len(keys) == len(identities)


def test_evaluated_episodes_have_noise_of_their_own():
    keys = {evaluation_noise_key(run, episode) for run in range(3) for episode in range(3)}
    assert len(keys) == 9


@pytest.mark.parametrize("kind", list(Noise))
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 2)])
def test_a_rows_noise_does_not_depend_on_layout_or_segment(kind, shape):
    source = NoiseSource([noise_input(kind, *shape), noise_input(Noise.OPEN_UNIFORM, name="u")])
    keys = list(range(100, 137))
    whole = draw(source, keys, rows=33)["noise"]
    alone = [draw(source, [key], rows=33)["noise"][:, 0] for key in keys]
    np.testing.assert_array_equal(whole, np.stack(alone, axis=1))
    parts = [draw(source, keys, first_rows=[start] * 37, rows=11)["noise"] for start in (0, 11, 22)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert whole.shape == (33, 37, *shape)
    assert whole.dtype == np.float32


def test_slots_may_stand_at_different_rows():
    source = NoiseSource([noise_input(Noise.OPEN_UNIFORM, 2)])
    both = draw(source, [7, 8], first_rows=[3, 1000])["noise"]
    np.testing.assert_array_equal(both[:, 0], draw(source, [7], first_rows=[3])["noise"][:, 0])
    np.testing.assert_array_equal(both[:, 1], draw(source, [8], first_rows=[1000])["noise"][:, 0])


def test_versions_slots_and_rows_differ():
    source = NoiseSource([noise_input(Noise.OPEN_UNIFORM)])
    values = np.concatenate(
        [draw(source, range(50), version=version, rows=50)["noise"] for version in range(20)]
    )
    # 50,000 of 2^23 values: a handful may coincide, more would be repetition.
    assert len(np.unique(values)) > 49_700


@given(st.integers(0, 2**63), st.integers(0, 2**63), st.integers(0, 2**40))
def test_open_uniforms_lie_on_the_contracts_grid(key, version, row):
    source = NoiseSource([noise_input(Noise.OPEN_UNIFORM, 5)])
    values = draw(source, [key], version, [row])["noise"].astype(np.float64)
    numbers = values * 2**23 - 0.5
    assert (numbers == np.round(numbers)).all()
    assert (numbers >= 0).all()
    assert (numbers < 2**23).all()


def test_uniforms_are_uniform_and_normals_normal():
    source = NoiseSource(
        [noise_input(Noise.OPEN_UNIFORM, 2, name="u"), noise_input(Noise.STANDARD_NORMAL, 3)]
    )
    drawn = draw(source, range(64), rows=4096)
    uniform, normal = drawn["u"].astype(np.float64), drawn["noise"].astype(np.float64)
    # Five standard errors each.
    assert abs(uniform.mean() - 0.5) < 5 * np.sqrt(1 / 12 / uniform.size)
    assert abs(uniform.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / uniform.size)
    assert abs(normal.mean()) < 5 / np.sqrt(normal.size)
    assert abs(normal.var() - 1) < 5 * np.sqrt(2 / normal.size)
    assert abs((normal**3).mean()) < 5 * np.sqrt(15 / normal.size)
    assert abs((normal**4).mean() - 3) < 5 * np.sqrt(96 / normal.size)
    assert (np.abs(normal) > 3).mean() == pytest.approx(0.0027, rel=0.1)
    for series in (uniform[..., 0], normal[..., 0]):
        centred = series - series.mean()
        for other in (np.roll(centred, 1, axis=0), np.roll(centred, 1, axis=1)):
            assert abs((centred * other).mean() / centred.var()) < 5 / np.sqrt(centred.size)
    pairs = np.corrcoef(normal.reshape(-1, 3).T) - np.eye(3)
    assert np.abs(pairs).max() < 5 / np.sqrt(normal.size / 3)


def test_a_graph_without_noise_draws_none():
    assert draw(NoiseSource([]), [1, 2]) == {}
