"""kill -9 of the learner at any instant: nothing acknowledged is lost, and samplers find back.

`CHAOS_KILLS=100` is the long form; `CHAOS_SEED` draws the instants of a run that failed again.
"""

from __future__ import annotations

import os
import random
import time

import history
import killing
import processes
import pytest
from counting_env import decoded
from killing import SAMPLERS, SLOTS, Run

from common.signature import ColumnKey, Role
from learner import header, policy_file
from learner.experience.on_policy import VALID
from learner.experience.replay import ReplaySettings, ReplayStore
from learner.ledger import Loss, LossReason
from learner.run_folder import RunFolder

KILLS = int(os.environ.get("CHAOS_KILLS", "5"))
SEED = int(os.environ.get("CHAOS_SEED", str(time.time_ns() % 1_000_000)))

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(300 + 60 * KILLS),
    pytest.mark.usefixtures("own_graph_cache"),
]

ROWS = 8
OBSERVATION = ColumnKey(Role.OBSERVATION)

DQN = ("dqn", "--segment-length", str(ROWS), "--hidden-sizes", "16", "--batch-size", "16")
DQN += ("--learning-starts", "200", "--replay-ratio", "0.25", *killing.EVALUATIONS)

N_STEPS = 32
PPO = ("ppo", "--n-envs", str(SAMPLERS * SLOTS), "--n-steps", str(N_STEPS), "--epochs", "1")
PPO += ("--n-minibatches", "1", "--hidden-sizes", "16", *killing.EVALUATIONS)

SELDOM = ("--checkpoint-seconds", "600")
OFTEN = ("--checkpoint-seconds", "0.1")


@pytest.fixture
def draw():
    print(f"CHAOS_SEED={SEED}")  # noqa: T201 - shown where the test fails
    return random.Random(SEED)  # noqa: S311 - instants are no secret


def buffer(budget):
    """Room for every push there will be: fragments have rows that are not valid."""
    return "--buffer-size", str(2 * budget)


def ring(folder, budget):
    """What is in the files of a run."""
    folder = RunFolder(folder)
    totals = header.read(folder.header)
    store = ReplayStore(
        policy_file.load(folder).signature.columns,
        ReplaySettings(2 * budget, ROWS, 0.99),
        seed=0,
        folder=folder.replay,
        cursor=totals.ring,
    )
    assert store.damaged == 0
    columns = store.dump().columns
    return history.Ring(decoded(columns[OBSERVATION][columns[VALID]]), totals)


def test_a_ring_in_files_has_every_acknowledged_row_once(tmp_path, draw):
    """Within the first checkpoint, while it starts, anywhere, and in the final evaluation."""
    budget = 2_000 * KILLS
    command = [*DQN, *OFTEN, *buffer(budget), "--replay-storage", "disk"]
    # Not so late that it could be over before it is killed; the end has a kill of its own.
    anywhere = range(budget // 5, budget * 4 // 5)
    instants = sorted(draw.sample(anywhere, max(0, KILLS - 3)))
    with Run(tmp_path, command, budget) as run:
        run.until_the_first_checkpoint()
        run.kill()
        run.resume()
        run.let_pass(draw.uniform(0.0, 2.0), steps=budget // 5)
        run.kill()
        run.resume()
        killing.kill_at_random(run, draw, instants)
        run.until_steps(budget)
        run.kill()
        run.resume()
        totals = run.finish()

    found = ring(run.path, budget)
    assert len(found.steps) == budget
    assert totals == found.totals
    violations = [*run.violations, *history.check_ring(run.pushes, found, SAMPLERS)]
    assert violations == []


def test_a_replay_in_memory_is_counted_as_lost(tmp_path, draw):
    """Twice before the first checkpoint, so that the run begins from the start, and once later."""
    budget = 6_000
    with Run(tmp_path, [*DQN, *SELDOM, *buffer(budget)], budget) as run:
        killing.kill_at_random(run, draw, [1_000, 2_000])
        assert run.kills[-1].checkpoints == 0
        run.kill()
        run.resume(*OFTEN)
        run.until_new_steps()
        run.until_the_first_checkpoint()
        last = run.kill()
        run.resume()
        totals = run.finish()

    lost = totals.losses[LossReason.LOST_IN_RESTART].rows
    least, most = history.rows_known(run.pushes, last.totals)
    assert lost == last.totals.rows
    assert least <= lost <= most
    assert run.violations == []


def test_rounds_that_are_in_no_checkpoint_are_counted_as_lost(tmp_path, draw):
    """A run that is killed again before its next checkpoint does not count them twice."""
    budget = 6_000
    with Run(tmp_path, [*PPO, *SELDOM], budget) as run:
        killing.kill_at_random(run, draw, [1_000, 2_000])
        assert run.kills[-1].checkpoints == 0
        run.until_new_steps()
        run.kill()
        run.resume(*OFTEN)
        run.until_the_first_checkpoint()
        run.kill()
        run.resume()
        totals = run.finish()

    lost = totals.losses[LossReason.LOST_IN_RESTART].rows
    rounds = int(float(processes.metrics(run.runs)[-1]["train/n_updates"]))
    assert lost > 2_000
    assert totals.rows == rounds * N_STEPS * SAMPLERS * SLOTS + lost
    assert totals.losses.get(LossReason.ABANDONED, Loss()) == Loss()
    assert run.violations == []
