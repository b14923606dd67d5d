"""A ring in files: what was committed is found again, exactly, wherever the process was killed."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import ring_support
from header_support import abandon
from replay_support import SPECS, VALID
from ring_support import SETTINGS, last_sequence, open_header, open_store, push

from common.signature import ColumnSpec
from learner.experience.replay import ReplaySettings, ReplayStore
from learner.experience.ring_files import RingFiles, RingFilesError

FLOAT = np.dtype(np.float32)


def filled(folder, pushes):
    """What a process leaves that was killed after so many pushes."""
    header = open_header(folder)
    store = open_store(folder, header)
    for sequence in range(last_sequence(header) + 1, pushes + 1):
        push(header, store, sequence)
    cursor = header.totals.ring
    abandon(header)
    return cursor


@pytest.mark.parametrize("pushes", [0, 1, 2, 3, 9, 20])
def test_what_was_pushed_is_there_after_a_kill(tmp_path, pushes):
    filled(tmp_path, pushes)
    with open_header(tmp_path) as header:
        store = open_store(tmp_path, header)
        assert store.is_persistent
        assert last_sequence(header) == pushes
        ring_support.check(header, store)


def test_it_goes_on_after_many_kills(tmp_path):
    for pushes in range(1, 12):
        filled(tmp_path, pushes)
    with open_header(tmp_path) as header:
        ring_support.check(header, open_store(tmp_path, header))
        assert header.totals.restarts == 11


def test_blocks_that_nothing_names_are_not_there(tmp_path):
    filled(tmp_path, 9)
    header = open_header(tmp_path)
    store = open_store(tmp_path, header)
    segment, keys = ring_support.pushed(10)
    header.totals.ring = store.make_room(len(keys))
    header.commit()
    store.insert(segment, keys)
    abandon(header)
    with open_header(tmp_path) as header:
        store = open_store(tmp_path, header)
        ring_support.check(header, store)
        push(header, store, 10)
        ring_support.check(header, store)


def test_without_room_made_first_the_overwritten_blocks_are_noticed(tmp_path):
    cursor = filled(tmp_path, 9)
    with open_header(tmp_path) as header:
        segment, keys = ring_support.pushed(10)
        open_store(tmp_path, header).insert(segment, keys)
        store = open_store(tmp_path, header)
        assert store.damaged == cursor.resident + len(keys) - SETTINGS.places > 0
        assert store.cursor == cursor


@pytest.mark.parametrize("name", ["0-observation%2Fposition", "5-reward", "keys", "has-final"])
@pytest.mark.parametrize("flip", [1, 255])
def test_a_damaged_block_is_dropped_and_counted_once(tmp_path, name, flip):
    cursor = filled(tmp_path, 9)
    with open_header(tmp_path) as header:
        whole = open_store(tmp_path, header).size
    array = np.load(tmp_path / "replay" / f"{name}.npy", mmap_mode="r+")
    place = (cursor.written - 2) % SETTINGS.places
    array[place].view(np.uint8)[...] ^= flip
    lost = int(ring_support.pushed(9)[0].columns[VALID][:, -2].sum())
    with open_header(tmp_path) as header:
        store = open_store(tmp_path, header)
        assert store.damaged == 1
        assert store.cursor == cursor
        assert store.size == whole - lost
        assert store.dump().columns[VALID].sum() == store.size
        known = open_store(tmp_path, header)
        assert (known.damaged, known.size) == (0, store.size)  # it is counted once
        for sequence in range(10, 15):  # until its place is written over
            push(header, store, sequence)
        again = open_store(tmp_path, header)
        assert (again.damaged, again.size) == (0, store.size)


def test_damaged_final_observations_are_noticed(tmp_path):
    filled(tmp_path, 4)
    (path,) = (tmp_path / "replay").glob("final-0-*")
    has_final = np.load(tmp_path / "replay" / "has-final.npy")
    array = np.load(path, mmap_mode="r+")
    array[has_final] += 1
    with open_header(tmp_path) as header:
        assert open_store(tmp_path, header).damaged == np.count_nonzero(has_final.any(axis=1))


def test_what_was_never_sealed_is_not_whole(tmp_path):
    ring = RingFiles(tmp_path)
    array = ring.column("a", (3, 2), FLOAT)
    assert not ring.is_whole(0, 0, [array[0]])
    ring.seal(1, 1, [array[1]])
    assert not ring.is_whole(0, 0, [array[0]])
    assert ring.is_whole(1, 1, [array[1]])
    assert not ring.is_whole(1, 4, [array[1]])
    assert not ring.is_whole(1, 1, [array[1], array[1][:0], np.zeros(1)])
    array[1, 1] = 1
    assert not ring.is_whole(1, 1, [array[1]])


def test_priorities_are_there_after_a_kill(tmp_path):
    prioritised = {"capacity": 100, "priority_exponent": 0.6}
    header = open_header(tmp_path)
    store = other_store(tmp_path, header, **prioritised)
    for sequence in range(1, 20):
        push(header, store, sequence)
        batch = store.sample(8)
        store.update_priorities(batch, (batch.returns**2).astype(np.float32))
    abandon(header)
    with open_header(tmp_path) as header:
        again = other_store(tmp_path, header, **prioritised)
        assert again.size == store.size
        leaves = [
            each._priorities._tree.get(np.arange(each._index.first, each._index.end) % 100)
            for each in (store, again)
        ]
        np.testing.assert_allclose(*leaves)
        assert len(np.unique(leaves[0])) > 20


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float16, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3)])
def test_parts_of_any_kind_are_sealed(tmp_path, dtype, shape):
    ring = RingFiles(tmp_path)
    array = ring.column("a", (2, *shape), np.dtype(dtype))
    ring.seal(1, 1, [array[1]])
    assert ring.is_whole(1, 1, [array[1]])
    array[1] = 1
    assert ring.is_whole(1, 1, [array[1]]) == (array.size == 0)


def test_any_name_is_a_file_of_its_own(tmp_path):
    ring = RingFiles(tmp_path / "replay")
    names = ["a", "A", "a/b", "../a", ".a", "a%2Fb", "\u00e9" * 60, "x" * 300, "x" * 301, "a b"]
    for i, name in enumerate(names):
        ring.column(name, (2,), FLOAT)[...] = i
    again = RingFiles(tmp_path / "replay")
    assert [again.column(name, (2,), FLOAT)[0] for name in names] == list(range(len(names)))
    assert [path.name for path in tmp_path.iterdir()] == ["replay"]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float16, np.float64])
@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 4, 84, 84), (3, 0)])
def test_arrays_come_back_as_they_were(tmp_path, dtype, shape):
    array = RingFiles(tmp_path).column("a", shape, np.dtype(dtype), sparse=shape == (3,))
    assert not array.any()
    values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    array[...] = values
    again = RingFiles(tmp_path).column("a", shape, np.dtype(dtype))
    assert type(again) is np.ndarray
    assert again.flags.c_contiguous
    np.testing.assert_array_equal(again, values)


def test_the_room_of_a_file_is_there_from_the_beginning(tmp_path):
    RingFiles(tmp_path).column("a", (1000, 1000), FLOAT, sparse=True)
    status = (tmp_path / "a.npy").stat()
    assert status.st_blocks * 512 >= status.st_size > 4_000_000


def test_without_room_it_says_how_much_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(RingFilesError, match=r"no room for 160 bytes.*lower buffer_size"):
            RingFiles(tmp_path).column("a", (10, 4), FLOAT)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RingFilesError, match=r"replay cannot be used: Not a directory"):
        RingFiles(tmp_path / "file" / "replay")


def other_store(folder, header, *, specs=SPECS, **settings):
    changed = {"capacity": SETTINGS.capacity, "block_rows": SETTINGS.block_rows, "gamma": 0.9}
    return ReplayStore(
        specs,
        ReplaySettings(**changed | settings),
        seed=1,
        folder=folder / "replay",
        cursor=header.totals.ring,
    )


def test_other_gammas_and_windows_take_the_same_files(tmp_path):
    filled(tmp_path, 9)
    with open_header(tmp_path) as header:
        store = other_store(tmp_path, header, gamma=0.5, n_step=2)
        assert store.damaged == 0
        assert store.size == open_store(tmp_path, header).size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity": 80}, r"holds float32 \[7, 5, 3\], but this run's is float32 \[20, 5, 3\]"),
        ({"block_rows": 7}, r"but this run's is float32 \[4, 8, 3\]"),
        ({"specs": (*SPECS, ColumnSpec(SPECS[0].key, FLOAT))}, "is missing"),
        (
            {"specs": (ColumnSpec(SPECS[0].key, np.dtype(np.float64), (3,)), *SPECS[1:])},
            r"but this run's is float64",
        ),
    ],
)
def test_files_of_another_description_are_refused(tmp_path, change, message):
    filled(tmp_path, 9)
    with open_header(tmp_path) as header:
        with pytest.raises(RingFilesError, match=message + r".*resume with what the run had"):
            other_store(tmp_path, header, **change)
        ring_support.check(header, open_store(tmp_path, header))


@pytest.mark.parametrize("content", [b"", b"PNG", None])
def test_a_damaged_file_is_refused(tmp_path, content):
    filled(tmp_path, 9)
    path = tmp_path / "replay" / "keys.npy"
    path.write_bytes(path.read_bytes()[:-8] if content is None else content)
    before = path.read_bytes()
    damaged = pytest.raises(RingFilesError, match=r"keys.npy cannot be read.*remove")
    with open_header(tmp_path) as header, damaged:
        open_store(tmp_path, header)
    assert path.read_bytes() == before


def test_with_the_files_gone_the_buffer_is_empty_and_it_goes_on(tmp_path):
    cursor = filled(tmp_path, 9)
    shutil.rmtree(tmp_path / "replay")
    with open_header(tmp_path) as header:
        store = open_store(tmp_path, header)
        assert (store.size, store.damaged) == (0, cursor.resident)
        push(header, store, 10)
        assert store.size > 0
        assert open_store(tmp_path, header).size == store.size


class Killed(BaseException):
    pass


STORING = {
    "header.py": {"_commit", "_sync", "create", "_on"},
    "mapped_file.py": {"__init__", "write"},
    "block_ring.py": {"write", "_write_finals", "_allocate_finals"},
    "ring_files.py": {"__init__", "column", "seal", "_create"},
    "replay.py": {"insert"},
}
"""The functions whose lines change a file, or what is known of one."""


class Cut:
    """Ends what is done under it before the n-th line of those functions, as a kill there would."""

    def __init__(self, line):
        self.left = line
        self.before = None

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, kind, error, traceback):
        sys.settrace(self.before)
        return kind is Killed

    def trace(self, frame, event, _):
        code = frame.f_code
        if code.co_name not in STORING.get(Path(code.co_filename).name, ()):
            return None
        if event == "line":
            self.left -= 1
            if self.left < 0:
                raise Killed
        return self.trace


@pytest.mark.parametrize(
    ("before", "stride"), [(0, 7), (3, 9), pytest.param(8, 1, marks=pytest.mark.chaos)]
)
def test_a_push_that_is_cut_at_any_line_is_there_whole_or_not_at_all(tmp_path, before, stride):
    """With none before it the files are made, with 3 those of final observations."""
    filled(tmp_path / "before", before)
    outcomes = set()
    for line in itertools.count(0, stride):
        folder = tmp_path / f"cut-{line}"
        shutil.copytree(tmp_path / "before", folder)
        header = open_header(folder)
        with Cut(line) as cut:
            push(header, open_store(folder, header), before + 1)
        is_cut = cut.left < 0
        abandon(header)
        with open_header(folder) as header:
            store = open_store(folder, header)
            ring_support.check(header, store)
            found = last_sequence(header)
            outcomes.add(found)
            assert found == before + 1 or (is_cut and found == before)
            if found == before:
                push(header, store, before + 1)
                ring_support.check(header, store)
        if not is_cut:
            break
    assert outcomes == {before, before + 1}


LOOP = textwrap.dedent("""
    import itertools, os, sys
    from pathlib import Path
    from ring_support import check, last_sequence, open_header, open_store, push

    folder = Path(sys.argv[1])
    header = open_header(folder)
    store = open_store(folder, header)
    check(header, store)
    os.write(1, b"%d\\n" % last_sequence(header))
    for sequence in itertools.count(last_sequence(header) + 1):
        push(header, store, sequence)
        os.write(1, b"%d\\n" % sequence)
""")


@pytest.mark.chaos
def test_a_killed_process_leaves_exactly_what_it_acknowledged(tmp_path):
    tests = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"}
    acknowledged = 0
    for attempt in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", LOOP, str(tmp_path)], stdout=subprocess.PIPE, env=environment
        )
        told = [process.stdout.readline() for _ in range(1 + 17 * attempt)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
        process.wait()
        acknowledged = int(told[-1])
    with open_header(tmp_path) as header:
        assert last_sequence(header) in {acknowledged, acknowledged + 1}
        ring_support.check(header, open_store(tmp_path, header))
