"""kill -9 at every line of writing a checkpoint, or a policy: the former one is there, or the new.

Here a process is really killed, with files half written; that every sync and rename is where it has
to be is shown beside the unit tests of checkpoints, without a process.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import sys

import pytest
import saved_policy
import torch

from learner import checkpoints, files, policy_file
from learner.checkpoints import Checkpoints
from learner.run_folder import RunFolder

pytestmark = [
    pytest.mark.chaos,
    # The other threads of this process are at rest, and the child needs none of them.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

TRACED = {module.__file__ for module in (checkpoints, files, policy_file)}


def killed_before_line(number, work):
    """Whether a process that does this is killed before it is through with it."""
    child = os.fork()
    if not child:
        left = number

        def trace(frame, event, _):
            nonlocal left
            if frame.f_code.co_filename not in TRACED:
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def state(number):
    return {"weight": torch.full((64, 64), float(number))}, {"number": number}


def number_of(store):
    loaded = store.load()
    assert torch.equal(
        loaded.tensors["weight"], torch.full((64, 64), loaded.values["number"] * 1.0)
    )
    return loaded.values["number"]


def test_a_killed_save_leaves_the_former_checkpoint_or_the_new_one(tmp_path):
    found = set()
    for line in itertools.count():
        folder = tmp_path / str(line)
        store = Checkpoints(folder)
        for number in (1, 2):
            store.save(*state(number))
        was_killed = killed_before_line(line, lambda store=store: store.save(*state(3)))
        after = Checkpoints(folder)
        found.add((was_killed, number_of(after)))
        after.save(*state(4))
        assert number_of(after) == 4
        assert len(list(folder.iterdir())) == 2
        if not was_killed:
            break
    assert line > 30
    assert found == {(True, 2), (True, 3), (False, 3)}


@pytest.mark.parametrize("killed_before", [False, True], ids=["once", "twice"])
def test_a_killed_save_leaves_the_former_policy_or_the_new_one(tmp_path, killed_before):
    found = set()
    for line in itertools.count():
        folder = RunFolder(tmp_path / str(line))
        folder.path.mkdir()
        policy_file.save(folder, policy(1))
        if killed_before:
            # Between the two files: the description is of version 2, the model that of 1.
            model = folder.policy_model.read_bytes()
            policy_file.save(folder, policy(2))
            folder.policy_model.write_bytes(model)
        was_killed = killed_before_line(
            line, lambda folder=folder: policy_file.save(folder, policy(3))
        )
        loaded = policy_file.load(folder)
        assert loaded == dataclasses.replace(
            policy(loaded.version), spec=loaded.spec, signature=loaded.signature
        )
        found.add((was_killed, loaded.version))
        if not was_killed:
            break
    assert line > 20
    assert found == {(True, 1), (True, 3), (False, 3)}


def policy(version):
    """Of each version another model, steps and exploration."""
    return dataclasses.replace(
        saved_policy.saved(epsilon=1 / version),
        version=version,
        environment_steps=1000 * version,
        model=b"the model of %d" % version,
    )
