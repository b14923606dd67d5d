from __future__ import annotations

import math

import numpy as np
import pytest

from common.signature import ColumnKey, Role
from learner import tables
from learner.experience.on_policy import OnPolicyBatch
from learner.metrics import Evaluation, Metrics
from learner.run_folder import RunFolder
from learner.statistics import EpisodeStatistics, FinishedEpisode, finished_episodes
from protos.wiserl.v1 import learner_pb2, trajectory_pb2


def batch_of(ends, valid=None, *, version=1, metrics=None):
    """A round `[T, B]` whose episodes end where `ends` is true, with returns 1, 2, ... by slot."""
    ends = np.array(ends, np.bool_)
    valid = np.ones_like(ends) if valid is None else np.array(valid, np.bool_)
    slots, rows = np.nonzero((ends & valid).T)
    episodes = [
        trajectory_pb2.Episode(
            slot=slot, end_row=row, episode_return=i + 1, length=10 * (i + 1), metrics=metrics or {}
        )
        for i, (slot, row) in enumerate(zip(slots.tolist(), rows.tolist(), strict=True))
    ]
    columns = {ColumnKey(Role.VALID): valid, ColumnKey(Role.EPISODE_END): ends}
    none = np.empty(0, np.int64)
    return OnPolicyBatch(version, columns, none, none, {}, episodes, int(valid.sum()), [])


def test_episodes_stand_in_the_order_in_which_they_ended():
    # Slot 0 ends in rows 0 and 3, slot 1 in row 1; the round has two steps in each row.
    batch = batch_of([[1, 0], [0, 1], [0, 0], [1, 0]])
    found = finished_episodes(batch, steps_before=100)
    assert [(each.global_step, each.episode_return) for each in found] == [
        (102, 1.0),
        (104, 3.0),
        (108, 2.0),
    ]


def test_rows_that_are_no_steps_do_not_count():
    valid = [[1, 1], [0, 1], [1, 1]]
    found = finished_episodes(batch_of([[1, 0], [0, 0], [0, 1]], valid), steps_before=0)
    assert [each.global_step for each in found] == [2, 5]


def test_means_are_over_the_last_hundred_and_the_last_twenty():
    statistics = EpisodeStatistics()
    assert statistics.scalars()["rollout/ep_rew_mean"] is None
    statistics.add(FinishedEpisode(i, float(i), 2 * i, {}) for i in range(150))
    scalars = statistics.scalars()
    assert scalars["rollout/ep_rew_mean"] == sum(range(50, 150)) / 100
    assert scalars["rollout/ep_rew_mean_20"] == sum(range(130, 150)) / 20
    assert scalars["rollout/ep_len_mean"] == 2 * sum(range(50, 150)) / 100
    assert scalars["rollout/episodes"] == 150


def test_what_environments_report_is_shown_under_its_name():
    statistics = EpisodeStatistics()
    statistics.add(
        [
            FinishedEpisode(0, 0.0, 1, {"is_success": 1.0, "distance": 3.0}),
            FinishedEpisode(1, 0.0, 1, {"is_success": 0.0}),
        ]
    )
    scalars = statistics.scalars()
    assert scalars["rollout/success_rate"] == 0.5
    assert scalars["rollout/distance"] == 3.0


def test_statistics_go_on_from_their_values():
    statistics, restored = EpisodeStatistics(), EpisodeStatistics()
    statistics.add(FinishedEpisode(i, float(i), i, {"is_success": 1.0}) for i in range(30))
    restored.load_values(statistics.values())
    for one in (statistics, restored):
        one.add([FinishedEpisode(30, 7.0, 1, {})])
    assert restored.scalars() == statistics.scalars()


def evaluation(version, returns, *, final=False):
    episodes = [
        learner_pb2.EvaluatedEpisode(
            seed=i, episode=trajectory_pb2.Episode(episode_return=value, length=i + 1)
        )
        for i, value in enumerate(returns)
    ]
    return Evaluation.of(version, 100 * version, episodes, final=final)


def record(folder, *, seconds):
    metrics = Metrics(RunFolder(folder))
    for version in (1, 2):
        batch = batch_of([[1, 0], [0, 1]], version=version)
        metrics.record(
            version=version + 1,
            global_step=4 * version,
            episodes=finished_episodes(batch, 4 * (version - 1)),
            training={"train/loss": 0.1 * version},
            timing={"time/update_seconds": seconds},
        )
    metrics.evaluation(evaluation(1, [1.0, 3.0]))
    metrics.evaluation(evaluation(2, [5.0], final=True))
    metrics.close()
    return metrics


def test_the_record_depends_on_the_machine_in_time_columns_only(tmp_path):
    for name, seconds in (("a", 0.1), ("b", 7.0)):
        (tmp_path / name).mkdir()
        record(tmp_path / name, seconds=seconds)
    first, second = (tables.read(tmp_path / name / "metrics.csv") for name in "ab")
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == {"time/update_seconds"}
    for name in ("episodes.csv", "evaluations.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_record_has_a_row_for_every_round_episode_and_evaluation(tmp_path):
    metrics = record(tmp_path, seconds=0.5)
    rounds = tables.read(tmp_path / "metrics.csv")
    assert list(rounds)[:2] == ["version", "global_step"]
    assert rounds["version"] == ["2", "3"]
    assert rounds["global_step"] == ["4", "8"]
    assert rounds["rollout/ep_rew_mean"] == ["1.5", "1.5"]
    assert rounds["train/loss"] == ["0.1", "0.2"]
    assert tables.read(tmp_path / "episodes.csv")["global_step"] == ["2", "4", "6", "8"]
    found = tables.read(tmp_path / "evaluations.csv")
    assert found["final"] == ["0", "1"]
    assert found["eval/mean_reward"] == ["2.0", "5.0"]
    assert metrics.newest["eval/mean_reward"] == 5.0
    assert metrics.newest["train/loss"] == 0.2
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_an_evaluation_is_described_by_its_returns():
    found = evaluation(3, [1.0, 2.0, 6.0])
    assert found.describe() == "return 3.00 +- 2.16 over 3 greedy episodes (min 1.00, max 6.00)"
    described = found.to_json()
    assert described["return_mean"] == 3.0
    assert described["return_std"] == pytest.approx(math.sqrt(14 / 3))
    assert described["lengths"] == [1, 2, 3]
