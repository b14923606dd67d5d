from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import header_support
import pytest
from header_support import abandon
from hypothesis import given, settings
from hypothesis import strategies as st

from learner import header_layout as layout
from learner.header import HeaderError, MappedHeader, read
from learner.ledger import Loss, LossReason
from learner.mapped_file import MappedFile
from learner.totals import RingCursor, SamplerTotals, Totals

NUMBERS = st.integers(0, 2**64 - 1)
SAMPLERS = st.builds(SamplerTotals, NUMBERS, NUMBERS)
LOSSES = st.builds(Loss, NUMBERS, NUMBERS)
TOTALS = st.builds(
    Totals,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.dictionaries(st.from_regex(r"\A[A-Za-z0-9_-]{8,64}\Z"), SAMPLERS, max_size=20),
    st.dictionaries(st.sampled_from(LossReason), LOSSES),
    st.builds(RingCursor, NUMBERS, NUMBERS),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "header.bin"


def committed(path, totals, *, reserved=0):
    """A file in which these were committed last, by a process that ended without a word."""
    header = MappedHeader.create(path)
    header.reserve_version(reserved)
    header.totals = totals
    header.commit()
    abandon(header)


def damage(path, offset, size=64):
    with path.open("r+b") as file:
        file.seek(offset)
        data = file.read(size)
        file.seek(offset)
        file.write(bytes(255 - byte for byte in data))


def test_a_new_header_is_all_zeros_and_on_the_disk(path):
    with MappedHeader.create(path) as header:
        assert header.totals == Totals()
        assert read(path) == Totals()


def test_what_was_committed_is_found_with_one_restart_more(path):
    totals = header_support.filled(23)
    committed(path, totals)
    assert read(path) == totals
    with MappedHeader.open(path) as header:
        assert header.totals == dataclasses.replace(totals, restarts=1)
    with MappedHeader.open(path) as header:
        assert header.totals.restarts == 2


@given(st.lists(TOTALS, min_size=1, max_size=4))
@settings(max_examples=25)
def test_any_totals_come_back(tmp_path_factory, series):
    path = tmp_path_factory.mktemp("header") / "header.bin"
    with MappedHeader.create(path) as header:
        for totals in series:
            header.totals = totals
            header.commit()
            assert read(path) == totals
            assert list(read(path).samplers) == list(totals.samplers)


def test_what_was_not_committed_is_not_found(path):
    header = MappedHeader.create(path)
    header.totals.rows = 5
    header.commit()
    header.totals.rows = 6
    abandon(header)
    assert read(path).rows == 5


def test_closing_commits_and_is_done_once(path):
    header = MappedHeader.create(path)
    header.totals.rows = 5
    header.close()
    header.close()
    assert read(path).rows == 5
    with pytest.raises(ValueError, match="closed"):
        header.commit()


def test_a_second_process_is_kept_out_until_the_first_ends(path):
    with MappedHeader.create(path), pytest.raises(HeaderError, match="in use by another learner"):
        MappedHeader.open(path)
    MappedHeader.open(path).close()


def test_a_child_does_not_keep_the_file(path):
    header = MappedHeader.create(path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        header.close()
        MappedHeader.open(path).close()
    finally:
        child.communicate(b"\n")


def test_a_new_run_does_not_take_an_old_ones_file(path):
    MappedHeader.create(path).close()
    with pytest.raises(HeaderError, match="is there already; resume"):
        MappedHeader.create(path)


def test_where_there_is_none_it_says_so(path):
    with pytest.raises(HeaderError, match="nothing to resume"):
        MappedHeader.open(path)
    with pytest.raises(HeaderError, match="nothing to resume"):
        read(path)


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("at", [layout.numbers_at, layout.names_at])
def test_one_damaged_slot_leaves_the_other(path, slot, at):
    header = MappedHeader.create(path)
    for count in range(1, 21):
        header_support.fill(header.totals, count)
        header.commit()
    newer = header._slot
    abandon(header)
    damage(path, at(slot))
    assert read(path) == header_support.filled(19 if slot == newer else 20)


def test_with_both_slots_damaged_it_says_what_to_do(path):
    committed(path, header_support.filled(3))
    for slot in range(2):
        damage(path, layout.numbers_at(slot))
    for reader in (read, MappedHeader.open):
        with pytest.raises(HeaderError, match=r"both of its slots.*start a new run"):
            reader(path)


@pytest.mark.parametrize("content", [b"PNG", b"\x89PNG" * 10, b"x" * layout.FILE_BYTES])
def test_another_file_is_no_header(path, content):
    path.write_bytes(content)
    for reader in (read, MappedHeader.open):
        with pytest.raises(HeaderError, match="its beginning is damaged"):
            reader(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("cut", [layout.PROLOGUE_BYTES, 5000, layout.FILE_BYTES - 1])
def test_a_file_cut_short_is_damaged(path, cut):
    committed(path, header_support.filled(3))
    os.truncate(path, cut)
    for reader in (read, MappedHeader.open):
        with pytest.raises(HeaderError, match=f"its size of {cut} bytes"):
            reader(path)


def test_a_zeroed_beginning_is_damage_once_there_were_commits(path):
    committed(path, header_support.filled(3))
    with path.open("r+b") as file:
        file.write(bytes(layout.PROLOGUE_BYTES))
    with pytest.raises(HeaderError, match="its beginning is damaged"):
        MappedHeader.open(path)


def test_a_newer_format_is_not_touched(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(layout, "FORMAT", layout.FORMAT + 1)
        MappedHeader.create(path).close()
    os.truncate(path, 8192)  # whatever size the newer one has
    before = path.read_bytes()
    for reader in (read, MappedHeader.open):
        with pytest.raises(HeaderError, match="has format 2, and this release reads up to 1"):
            reader(path)
    assert path.read_bytes() == before


def test_a_reason_that_is_unknown_here_is_of_a_newer_release(path):
    with MappedHeader.create(path) as header:
        header.totals.losses["eaten_by_a_dog"] = Loss(1, 1)
    with pytest.raises(HeaderError, match=r"eaten_by_a_dog.*release that wrote it"):
        MappedHeader.open(path)


def test_without_room_no_file_is_left(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(HeaderError, match="No space left on device; make room"):
            MappedHeader.create(path)
    assert not path.exists()
    MappedHeader.create(path).close()


def test_as_many_samplers_as_there_is_room_for_fit_with_the_longest_names(path):
    with MappedHeader.create(path) as header:
        for i in range(layout.MAX_SAMPLERS):
            header.totals.samplers[f"{i:064d}"] = SamplerTotals(2**64 - 1, 2**64 - 1)
        for reason in LossReason:
            header.totals.losses[reason] = Loss(2**64 - 1, 2**64 - 1)
        header.commit()
        assert read(path) == header.totals


@pytest.mark.parametrize("names", [["x" * layout.NAMES_BYTES, "y"], map(str, range(8193))])
def test_what_does_not_fit_leaves_the_former_totals(path, names):
    with MappedHeader.create(path) as header:
        header.totals.rows = 5
        header.commit()
        header.totals.samplers.update((name, SamplerTotals()) for name in names)
        header.totals.rows = 6
        with pytest.raises(ValueError, match="forget those that left longest ago"):
            header.commit()
        assert read(path).rows == 5
        header.reserve_version(1)
        assert (read(path).rows, read(path).samplers) == (5, {})
        header.totals.samplers.clear()
        header.commit()
        assert read(path).rows == 6


def test_a_number_below_zero_leaves_the_former_totals(path):
    with MappedHeader.create(path) as header:
        header.totals.samplers["sampler-1"] = SamplerTotals(-1)
        with pytest.raises(struct.error):
            header.commit()
        header.reserve_version(1)
        assert read(path).samplers == {}
        header.totals.samplers.clear()


def test_a_reservation_is_in_both_slots_and_synced(path, monkeypatch):
    with MappedHeader.create(path) as header:
        synced = []
        original = MappedFile.sync

        def sync(file):
            synced.append(file.read(0, layout.FILE_BYTES))
            original(file)

        monkeypatch.setattr(MappedFile, "sync", sync)
        header.reserve_version(1)
        (content,) = synced
        for slot in range(2):
            torn = bytearray(content)
            torn[layout.numbers_at(slot)] ^= 1
            assert layout.newest(path, bytes(torn)).totals.reserved_version == 256
        for version in (1, 2, 256):
            header.reserve_version(version)
        assert len(synced) == 1
        assert header.totals.reserved_version == 256
        header.reserve_version(257)
        assert len(synced) == 2
        assert read(path).reserved_version == 512


def test_a_version_that_was_reserved_is_not_used_by_a_later_process(path):
    header = MappedHeader.create(path)
    header.reserve_version(7)
    abandon(header)
    with MappedHeader.open(path) as header:
        assert header.totals.reserved_version >= 7


def test_a_reservation_commits_nothing_else(path):
    header = MappedHeader.create(path)
    header.totals.rows = 5
    header.totals.samplers["sampler-1"] = SamplerTotals(1, 5)
    header.commit()
    # As another thread would catch it: the rows are there, their sequence is not yet.
    header.totals.rows = 9
    header.totals.samplers["sampler-2"] = SamplerTotals(1, 0)
    header.reserve_version(1)
    found = read(path)
    assert (found.rows, found.reserved_version) == (5, 256)
    assert found.samplers == {"sampler-1": SamplerTotals(1, 5)}
    header.commit()
    assert read(path) == header.totals
    abandon(header)


def test_a_reservation_that_the_disk_refused_is_made_again(path, monkeypatch):
    with MappedHeader.create(path) as header:
        with monkeypatch.context() as patch:
            patch.setattr(MappedFile, "sync", lambda _: (_ for _ in ()).throw(OSError(5, "I/O")))
            with pytest.raises(OSError, match="I/O"):
                header.reserve_version(1)
        synced = []
        monkeypatch.setattr(MappedFile, "sync", lambda file: synced.append(file))  # noqa: PLW0108
        header.reserve_version(1)
        header.reserve_version(1)
        assert len(synced) == 1


def test_threads_that_reserve_do_not_disturb_commits(path):
    with MappedHeader.create(path) as header, ThreadPoolExecutor(1) as pool:
        reserving = pool.submit(lambda: [header.reserve_version(1 + 256 * i) for i in range(100)])
        for count in itertools.count(1):
            header_support.fill(header.totals, count)
            header.commit()
            if reserving.done():
                break
        reserving.result()
        found, expected = read(path), header_support.filled(count)
        assert found.reserved_version == 256 * 100
        found.reserved_version = 0
        assert found == expected


class Killed(BaseException):
    pass


def cut(monkeypatch, allowed, share):
    """Stores `allowed` times, then only a share of the bytes, and ends there as a kill would."""
    done = itertools.count()
    original = MappedFile.write

    def write(file, offset, data):
        if next(done) < allowed:
            return original(file, offset, data)
        original(file, offset, data[: int(share * len(data))])
        raise Killed

    monkeypatch.setattr(MappedFile, "write", write)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99, 1.0])
def test_a_commit_that_is_cut_anywhere_leaves_the_former_or_the_new_totals(
    path, monkeypatch, share
):
    for count, allowed in itertools.product(range(1, 12), range(2)):
        path.unlink(missing_ok=True)
        header = MappedHeader.create(path)
        for each in range(1, count):
            header_support.fill(header.totals, each)
            header.commit()
        header_support.fill(header.totals, count)
        is_cut = True
        with monkeypatch.context() as patch:
            cut(patch, allowed, share)
            try:
                header.commit()
                is_cut = False  # the names had not to be written
            except Killed:
                pass
        abandon(header)
        found = MappedHeader.open(path)
        found.totals.restarts = 0
        expected = [header_support.filled(count)]
        if is_cut:
            expected.append(header_support.filled(count - 1))
        assert found.totals in expected
        # And it goes on from there.
        header_support.fill(found.totals, found.totals.environment_steps + 1)
        found.commit()
        assert read(path) == found.totals
        abandon(found)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_creation_that_is_cut_anywhere_can_begin_again(path, monkeypatch, share):
    for allowed in itertools.count():
        path.unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            cut(patch, allowed, share)
            try:
                MappedHeader.create(path).close()
            except Killed:
                pass
            else:
                break
        with MappedHeader.open(path) as header:
            assert header.totals in (Totals(), Totals(restarts=1))
    assert allowed > 3


def test_an_opening_that_is_cut_anywhere_can_begin_again(path, monkeypatch):
    committed(path, header_support.filled(9), reserved=9)
    for allowed, share in itertools.product(range(4), (0.0, 0.5, 1.0)):
        copied = path.with_name("copy.bin")
        shutil.copy(path, copied)
        with monkeypatch.context() as patch:
            cut(patch, allowed, share)
            with pytest.raises(Killed):
                MappedHeader.open(copied)
        with MappedHeader.open(copied) as header:
            assert header.totals.environment_steps == 9
            assert header.totals.restarts in {1, 2}


LOOP = textwrap.dedent("""
    import itertools, os, sys
    from pathlib import Path
    import header_support
    from learner.header import MappedHeader

    header = MappedHeader.open(Path(sys.argv[1]))
    start = header.totals.environment_steps
    for count in itertools.count(start + 1):
        os.write(1, b"%d\\n" % count)   # may be found
        header_support.fill(header.totals, count)
        header.commit()
        os.write(1, b"%d\\n" % -count)  # must be found
""")


def run_until_killed(path, lines):
    """Commits in a process that is killed while it goes on; the counts tried and committed."""
    here = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{here}:{here.parents[2]}"},
    )
    read_before = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    told = [int(line) for line in (*read_before, *process.stdout.read().splitlines())]
    process.wait()
    return max((count for count in told if count > 0), default=0), max(
        (-count for count in told if count < 0), default=0
    )


@pytest.mark.chaos
def test_a_killed_process_leaves_what_it_committed_last(path):
    MappedHeader.create(path).close()
    last = 0
    for attempt in range(12):
        tried, done = run_until_killed(path, 200 + 37 * attempt)
        found = read(path)
        assert done <= found.environment_steps <= tried
        assert found.environment_steps > last
        last = found.environment_steps
        expected = header_support.filled(last)
        assert found.samplers == expected.samplers
        assert (found.rows, found.ring) == (expected.rows, expected.ring)
        assert found.restarts == attempt + 1
