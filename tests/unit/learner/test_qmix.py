"""VDN, QMIX and IQL: what they are fed and answer, what they refuse, masks and agents that end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from learner_support import box, discrete_spec, undocumented

from common import spaces, specs
from common.errors import InvalidFieldError, UnsupportedSpaceError
from common.signature import ColumnKey, Extent, Role
from learner.algorithms import qmix, registry
from learner.algorithms.policy_sharing import members_of
from learner.experience.episodes import Episodes, EpisodeStore
from learner.experience.on_policy import NONE, FragmentKey, Segment
from learner.losses import q_learning
from learner.networks.mixers import MonotonicMixer
from learner.publishing import sessions
from learner.publishing.examples import example_inputs
from learner.publishing.publisher import Publisher
from learner.totals import RingCursor

CPU = torch.device("cpu")
WALKERS = specs.AgentGroup(
    "walker", ("walker_0", "walker_1"), box(3), spaces.Discrete(3, 2), action_mask=True
)
SCOUT = specs.AgentGroup(
    "scout",
    ("scout",),
    spaces.Dict({"step": spaces.Discrete(5), "way": box(2)}),
    spaces.Discrete(2),
)
SPEC = specs.EnvironmentSpec(
    (WALKERS, SCOUT), multi_agent=True, max_episode_steps=4, global_state=box(5)
)


def made(name: str = "qmix", spec: specs.EnvironmentSpec = SPEC, **settings: Any) -> Any:
    algorithm = registry.resolve(name)
    given = {"buffer_size": 1000, "learning_starts": 1, "segment_length": 5, **settings}
    return algorithm(spec, algorithm.Config(**given), device=CPU, seed=0)


def pushed(algorithm: Any, *, seed: int = 0, slots: int = 3) -> Segment:  # noqa: C901 - a case each
    """Each slot an episode of four steps and a reset row; walker_1 ends with its second step."""
    generator = np.random.default_rng(seed)
    columns = {}
    for spec in algorithm.signature.columns:
        shape = spec.extent.leading(5, slots) + spec.shape
        if spec.dtype == np.float32:
            columns[spec.key] = generator.standard_normal(shape).astype(np.float32)
        else:
            columns[spec.key] = np.zeros(shape, spec.dtype)
    for key, column in columns.items():
        match key.role, key.group:
            case Role.ACTION, "walker":
                column[...] = generator.integers(2, 5, column.shape)
            case Role.ACTION_MASK, _:
                column[...] = True
            case Role.ALIVE, _:
                column[:4] = True
                column[2:, ..., 1:] = False
            case Role.TERMINATED, "walker":
                column[1, :, 1] = True
            case (Role.TRUNCATED, "walker") | (Role.TRUNCATED, "scout"):
                column[3, :, 0] = True
            case Role.VALID, _:
                column[:4] = True
            case Role.IS_FIRST, _:
                column[0] = True
            case Role.EPISODE_END, _:
                column[3] = True
    return Segment(columns, NONE, NONE, {}, ())


def drawn(algorithm: Any, **others: Any) -> Any:
    store = algorithm.store(seed=0, folder=None, cursor=RingCursor())
    assert isinstance(store, EpisodeStore)
    segment = pushed(algorithm, **others)
    slots = segment.columns[ColumnKey(Role.VALID)].shape[1]
    assert store.insert(segment, [FragmentKey(0, s, 0, 0) for s in range(slots)]) == 4 * slots
    return store.sample(slots)


@pytest.mark.parametrize("policies", ["shared", "per_role", "per_agent"])
@pytest.mark.parametrize("recurrent", [False, True], ids=["plain", "recurrent"])
@pytest.mark.parametrize("name", ["iql", "vdn", "qmix"])
def test_every_kind_takes_a_step_and_goes_on_from_its_state(name, recurrent, policies):
    settings = {"recurrent": recurrent, "policies": policies, "td_lambda": 0.5}
    one, other = made(name, **settings), made(name, standardise_rewards=False, **settings)
    batch = drawn(one)
    before = {key: tensor.clone() for key, tensor in one.tensors().items()}
    one.update(batch, 0.0)
    changed = [key for key, tensor in one.tensors().items() if not torch.equal(tensor, before[key])]
    assert any(key.startswith("networks.values") for key in changed)
    other.load_tensors(one.tensors())
    other.load_values(one.values())
    for algorithm in (one, other):
        algorithm.update(batch, 0.5)
    for key, tensor in one.tensors().items():
        assert torch.equal(tensor, other.tensors()[key]), key
    assert {"train/loss", "train/q_value", "train/target"} <= one.metrics().keys()


@pytest.mark.parametrize("name", ["iql", "vdn", "qmix"])
def test_batches_may_differ_in_their_longest_episode(name):
    steady = {"normalise_states": False} if name == "qmix" else {}
    algorithm = made(name, learning_rate=1e-9, **steady)
    batch = drawn(algorithm)
    shorter = Episodes({key: column[:-1] for key, column in batch.columns.items()}, batch.mask[:-1])
    seen = []
    for given in ((batch,), (shorter,), (batch, shorter)):
        for one in given:
            algorithm.update(one, 0.0)
        seen.append(algorithm.metrics()["train/q_value"])

    assert seen[2] == pytest.approx((seen[0] + seen[1]) / 2, rel=1e-5)
    assert seen[0] != pytest.approx(seen[1], rel=1e-3)


def test_agents_are_mapped_to_policies_by_the_rule():
    assert members_of(SPEC, "shared") == ((0, 1, 2),)
    assert members_of(SPEC, "per_role") == ((0, 1), (2,))
    assert members_of(SPEC, "per_agent") == ((0,), (1,), (2,))


@pytest.mark.timeout(400)  # an export takes minutes on a machine that is busy
def test_one_graph_acts_for_all_agents_as_torch_does(graph_cache):
    algorithm = made(recurrent=True)
    behaviour = algorithm.behaviour
    model = Publisher(behaviour, cache=graph_cache).publish(1).model
    feeds = example_inputs(behaviour, np.random.default_rng(3), 64)
    names = [output.name for output in behaviour.outputs]
    found = sessions.run(sessions.session_of(model), names, feeds)
    with torch.no_grad():
        expected = behaviour(*(torch.from_numpy(array) for array in feeds.values()))
    for name, tensor in zip(names, expected, strict=True):
        assert found[name].shape == tuple(tensor.shape)
        np.testing.assert_allclose(found[name], tensor.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)
    mask = feeds["action_mask/walker"] | ~feeds["action_mask/walker"].any(2, keepdims=True)
    for name in ("action/walker", "greedy_action/walker"):
        taken = np.take_along_axis(mask, (found[name] - 2)[..., None], 2)
        assert taken.all()
    assert set(np.unique(found["action/scout"])) == {0, 1}
    state = {column.key for column in algorithm.signature.columns if column.key.role == Role.STATE}
    assert state == set()


def test_the_global_state_travels_only_where_it_is_mixed():
    def recorded(algorithm):
        return Role.GLOBAL_STATE in {c.key.role for c in algorithm.signature.columns}

    assert recorded(made("qmix"))
    assert not recorded(made("qmix", state="observations"))
    assert not recorded(made("vdn"))
    assert made("qmix", state="observations")._state.width == 2 * 3 + 7


def test_a_team_goes_on_while_any_agent_does_and_an_agent_for_itself():
    team, alone = made("vdn"), made("iql")
    batch = drawn(team, slots=1)
    one = team._minibatches.of(batch, CPU)
    assert one.acting[:, 0].tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 1], [1, 0, 1]]
    assert one.going[:, 0].tolist() == [[1, 1, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1]]
    assert one.discounts[:, 0, 0].tolist() == pytest.approx([0.99] * 4)
    assert one.ends[:, 0, 0].tolist() == [False, False, False, True]
    own = alone._minibatches.of(batch, CPU)
    assert own.discounts[:, 0, 1].tolist() == pytest.approx([0.99, 0, 0, 0])
    assert own.weights[:, 0, 1].tolist() == [1, 1, 0, 0]
    assert own.ends[:, 0, 1].tolist() == [False, True, True, True]
    rewards = np.concatenate(
        [batch.columns[ColumnKey(Role.REWARD, group)] for group in ("walker", "scout")], 2
    )
    np.testing.assert_allclose(one.rewards[..., 0], rewards.mean(2), rtol=1e-6)
    np.testing.assert_allclose(own.rewards, rewards)
    summed = made("vdn", team_reward="sum")._minibatches.of(batch, CPU)
    np.testing.assert_allclose(summed.rewards[..., 0], rewards.sum(2), rtol=1e-5)


def test_unavailable_actions_are_never_the_next_ones():
    algorithm = made("vdn", recurrent=False, target_update_interval=1)
    batch = drawn(algorithm, slots=1)
    mask = batch.columns[ColumnKey(Role.ACTION_MASK, "walker")]
    mask[...] = False
    mask[..., 1] = True
    data = algorithm._minibatches.of(batch, CPU)
    with torch.no_grad():
        own = algorithm._networks.values
        observed = own.observations(data.leaves)
        values = own.episodes(observed, 5)
        found = algorithm._targets(data, observed, values)
        best = torch.where(data.mask, values, -torch.inf)[1:].amax(3)
        expected = data.rewards[..., 0] + 0.99 * (best * data.going).sum(2)
    torch.testing.assert_close(found[..., 0], expected)
    torch.testing.assert_close(best[..., 0], values[1:, :, 0, 1])


def test_standardised_rewards_have_mean_0_and_deviation_1():
    algorithm = made("vdn", standardise_rewards=True)
    data = algorithm._minibatches.of(drawn(algorithm, slots=30), CPU)
    assert data.rewards.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert data.rewards.std(correction=0).item() == pytest.approx(1.0, abs=1e-4)


def test_the_mixer_sees_states_without_bound_within_bounds():
    algorithm, raw = made("qmix"), made("qmix", normalise_states=False)
    batch = drawn(algorithm, slots=30)
    key = ColumnKey(Role.GLOBAL_STATE)
    batch.columns[key][...] *= 1000.0
    seen, given = (one._minibatches.of(batch, CPU).states for one in (algorithm, raw))
    np.testing.assert_array_equal(given, batch.columns[key])
    assert seen.abs().max() < 1.0
    normal = seen / (1.0 - seen.abs())  # the inverse of x / (1 + |x|)
    taken = normal[:-1].flatten(0, 1)
    torch.testing.assert_close(taken.mean(0), torch.zeros(5), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(taken.std(0, correction=0), torch.ones(5), atol=1e-3, rtol=0.0)


def test_the_mixer_is_monotonic_in_every_agent_and_depends_on_the_state():
    torch.manual_seed(0)
    mixer = MonotonicMixer(3, 4, embedding=8, hypernetwork=16)
    values = torch.randn(50, 3, requires_grad=True)
    mixer(values, torch.randn(50, 4)).sum().backward()
    assert (values.grad >= 0).all()
    assert (values.grad > 0).any()
    same = torch.zeros(2, 3)
    one, other = mixer(same, torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])).tolist()
    assert one != other


def test_lambda_targets_by_hand():
    rewards = torch.tensor([1.0, 2.0, 4.0, 7.0])[:, None]
    discounts = torch.tensor([0.5, 0.5, 0.5, 0.5])[:, None]
    following = torch.tensor([10.0, 20.0, 40.0, 80.0])[:, None]
    ends = torch.tensor([False, False, True, False])[:, None]
    # Row 2 ends the episode: 4 + 0.5 40 = 24; what is behind it does not matter.
    # Row 1: 2 + 0.5 (0.75 20 + 0.25 24) = 12.5; row 0: 1 + 0.5 (0.75 10 + 0.25 12.5) = 6.3125.
    found = q_learning.lambda_targets(rewards, discounts, following, ends, trace=0.25)
    assert found[:3, 0].tolist() == [6.3125, 12.5, 24.0]
    one_step = q_learning.lambda_targets(rewards, discounts, following, ends, trace=0.0)
    assert one_step[:, 0].tolist() == [6.0, 12.0, 24.0, 47.0]


def test_lambda_targets_are_those_of_the_equation_row_by_row():
    torch.manual_seed(0)
    rewards, discounts, following = (
        torch.randn(25, 8, 2),
        torch.rand(25, 8, 2),
        torch.randn(25, 8, 2),
    )
    ends = torch.rand(25, 8, 2) < 0.1
    found = q_learning.lambda_targets(rewards, discounts, following, ends, trace=0.6)
    expected = [rewards[-1] + discounts[-1] * following[-1]]
    for t in reversed(range(24)):
        mixed = torch.where(ends[t], following[t], torch.lerp(following[t], expected[0], 0.6))
        expected.insert(0, rewards[t] + discounts[t] * mixed)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (discrete_spec(), "this one has a single agent; take dqn"),
        (
            specs.EnvironmentSpec((WALKERS,), multi_agent=True),
            "no known step limit; give it one",
        ),
        (
            specs.EnvironmentSpec(
                (specs.AgentGroup("a", ("a_0",), box(2), box(2)),),
                multi_agent=True,
                max_episode_steps=5,
                global_state=box(2),
            ),
            "Discrete actions, these are a Box",
        ),
        (
            specs.EnvironmentSpec(
                (specs.AgentGroup("a", ("a_0",), box(2), spaces.Discrete(2)),),
                multi_agent=True,
                max_episode_steps=5,
            ),
            "no global state; set state to observations",
        ),
    ],
)
def test_environments_that_cannot_be_learned_in_are_refused(spec, words):
    with pytest.raises(UnsupportedSpaceError, match=words):
        made("qmix", spec, state="global")


def test_a_buffer_without_room_for_an_episode_is_refused():
    with pytest.raises(InvalidFieldError, match="no room for an episode of 4 steps"):
        made("vdn", buffer_size=12)


@pytest.mark.parametrize("name", ["ppo", "dqn", "sac", "trpo"])
def test_algorithms_for_one_agent_name_those_for_several(name):
    algorithm = registry.resolve(name)
    with pytest.raises(UnsupportedSpaceError, match=r"has 3; .*maddpg.*qmix, vdn or iql"):
        algorithm(SPEC, algorithm.Config(), device=CPU, seed=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0.0),
        ("td_lambda", 1.5),
        ("target_tau", 0.0),
        ("mixing_size", 0),
        ("memory_size", 0),
        ("hidden_sizes", (0,)),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(field, value):
    with pytest.raises(InvalidFieldError) as caught:
        qmix.QMIXConfig(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("config", [qmix.IQLConfig, qmix.VDNConfig, qmix.QMIXConfig])
def test_every_setting_says_what_it_is(config):
    assert undocumented(config) == []


def test_extents_of_what_is_recorded():
    extents = {c.key.role: c.extent for c in made().signature.columns}
    assert extents[Role.ALIVE] == extents[Role.GLOBAL_STATE] == Extent.ROWS_PLUS_ONE
