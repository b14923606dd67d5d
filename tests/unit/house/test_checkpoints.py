from __future__ import annotations

import json
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner import checkpoints as module
from learner.checkpoints import Checkpoints, NoCheckpointError

FILES = ["manifest.json", "tensors.safetensors", "values.json"]


def state(number):
    tensors = {"weight": torch.full((3, 2), float(number)), "count": torch.tensor(number)}
    return tensors, {"number": number, "nested": {"list": [1, 2.5, None, "text"]}}


def saved(folder, generations=2):
    store = Checkpoints(folder)
    for number in range(1, generations + 1):
        assert store.save(*state(number)) == number
    return store


def path_of(folder, generation, name):
    return folder / f"generation-{generation:08d}" / name


def test_what_was_saved_is_loaded(tmp_path):
    loaded = saved(tmp_path).load()
    tensors, values = state(2)
    assert loaded.generation == 2
    assert loaded.values == values
    assert loaded.tensors.keys() == tensors.keys()
    assert all(torch.equal(loaded.tensors[name], tensors[name]) for name in tensors)
    assert loaded.tensors["count"].dtype == torch.int64


def test_views_and_tensors_that_share_memory_are_saved(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    store = Checkpoints(tmp_path)
    store.save({"a": base, "b": base, "c": base.T}, {})
    assert torch.equal(store.load().tensors["c"], base.T)


def test_only_the_newest_are_kept(tmp_path):
    assert saved(tmp_path, generations=5).generations() == [4, 5]
    store = Checkpoints(tmp_path / "more", kept=3)
    for number in range(1, 6):
        store.save(*state(number))
    assert store.generations() == [3, 4, 5]


def test_fewer_than_two_cannot_be_kept(tmp_path):
    with pytest.raises(ValueError, match="below 2"):
        Checkpoints(tmp_path, kept=1)


def test_without_a_checkpoint_there_is_none(tmp_path):
    with pytest.raises(NoCheckpointError, match="there is none"):
        Checkpoints(tmp_path / "nothing").load()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 1, -1])
def test_a_truncated_file_falls_back_to_the_one_before(tmp_path, name, keep):
    store = saved(tmp_path)
    path = path_of(tmp_path, 2, name)
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    assert store.load().generation == 1


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_falls_back_to_the_one_before(tmp_path, name):
    store = saved(tmp_path)
    path_of(tmp_path, 2, name).unlink()
    assert store.load().generation == 1


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_detected(tmp_path, name):
    store = saved(tmp_path)
    path = path_of(tmp_path, 2, name)
    data = path.read_bytes()

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, len(data) * 8 - 1))
    def check(bit):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert store.load().generation == 1

    check()
    path.write_bytes(data)
    assert store.load().generation == 2


def test_files_of_two_generations_do_not_mix(tmp_path):
    store = saved(tmp_path)
    for name in FILES:
        path_of(tmp_path, 2, name).write_bytes(path_of(tmp_path, 1, name).read_bytes())
    # Whole, but it says that it is generation 1: someone copied it.
    assert store.load().generation == 1


def test_where_all_are_damaged_nothing_is_loaded(tmp_path):
    store = saved(tmp_path)
    for generation in (1, 2):
        path_of(tmp_path, generation, "values.json").write_bytes(b"{}")
    with pytest.raises(NoCheckpointError, match="all of 2 are damaged"):
        store.load()


class Killed(BaseException):
    pass


def steps_of_a_save(tmp_path, monkeypatch):
    """How many syncs and renames a save makes."""
    counted = cut_after(monkeypatch, None)
    Checkpoints(tmp_path / "count").save(*state(1))
    monkeypatch.undo()
    return counted[0]


def cut_after(monkeypatch, allowed):
    """Raises in place of the sync or rename after `allowed` ones, as a kill there would end it."""
    done = [0]

    def counting(original):
        def replaced(*arguments):
            if allowed is not None and done[0] == allowed:
                raise Killed
            done[0] += 1
            return original(*arguments)

        return replaced

    monkeypatch.setattr(os, "fsync", counting(os.fsync))
    monkeypatch.setattr(module.os, "rename", counting(os.rename))
    # pathlib binds os.rename late, through the module.
    return done


def test_a_save_that_is_cut_anywhere_leaves_the_former_or_the_new_one(tmp_path, monkeypatch):
    steps = steps_of_a_save(tmp_path, monkeypatch)
    assert steps >= 5
    for allowed in range(steps):
        folder = tmp_path / f"cut-{allowed}"
        store = saved(folder, generations=1)
        # What a kill leaves is not tidied up by the dying process.
        with monkeypatch.context() as patch:
            patch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
            cut_after(patch, allowed)
            with pytest.raises(Killed):
                store.save(*state(2))
        loaded = Checkpoints(folder).load()
        assert loaded.values["number"] == loaded.generation
        assert loaded.generation in {1, 2}
        following = Checkpoints(folder).save(*state(9))
        assert Checkpoints(folder).load().generation == following
        assert not list(folder.glob(".*"))


def test_a_full_disk_is_an_error_and_leaves_the_former_one(tmp_path, monkeypatch):
    store = saved(tmp_path, generations=1)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.save(*state(2))
    assert store.load().generation == 1
    assert store.save(*state(2)) == 2
    assert not list(tmp_path.glob(".*"))


def test_values_are_json_and_nothing_else(tmp_path):
    saved(tmp_path)
    assert json.loads(path_of(tmp_path, 2, "values.json").read_bytes())["number"] == 2
    with pytest.raises(TypeError):
        Checkpoints(tmp_path).save({}, {"object": object()})
    assert Checkpoints(tmp_path).load().generation == 2
