"""Messages and shared memory between the supervisor and its processes."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampler import buffers
from sampler.buffers import BufferShelf
from sampler.hands import Watch
from sampler.losses import LossLimit
from sampler.mailbox import Letter, Mailbox, socket_pair
from sampler.workload import SIZE_BYTES, Workload


@pytest.fixture
def ends():
    one, other = socket_pair()
    one.setblocking(False)
    pair = Mailbox(one), Mailbox(other)
    yield pair
    for end in pair:
        end.close()


HEADERS = st.dictionaries(
    st.text(max_size=5).filter(lambda key: key != "parts"),
    st.one_of(st.integers(0, 2**64 - 1), st.floats(allow_nan=False), st.text(max_size=5)),
    max_size=5,
)
SIZES = st.one_of(st.integers(0, 50), st.integers(16_000, 17_000), st.just(300_000))


@given(HEADERS, st.lists(SIZES, max_size=4))
def test_a_message_arrives_as_it_was_sent(header, sizes):
    one, other = map(Mailbox, socket_pair())
    parts = tuple(bytes([i]) * size for i, size in enumerate(sizes))
    one.send(Letter(header, parts))
    message = other.receive()
    assert (message.header, message.parts, message.files) == (header, parts, ())
    one.close()
    assert other.receive() is None
    other.close()


@pytest.mark.parametrize("size", [10, 100_000])
def test_files_travel_along_and_are_the_receivers(ends, size):
    one, other = ends
    file = os.memfd_create("test")
    os.write(file, b"content")
    one.send(Letter({}, [b"x" * size], files=[file]))
    message = other.receive()
    (received,) = message.files
    assert os.pread(received, 10, 0) == b"content"
    os.close(received)
    with pytest.raises(OSError, match="Bad file"):  # the letter is gone, its file with it
        os.fstat(file)


def test_a_large_letter_may_go_to_many(ends):
    letter = Letter({"to": "all"}, [b"z" * 100_000])
    pairs = [ends, tuple(map(Mailbox, socket_pair()))]
    for one, _ in pairs:
        one.send(letter)
    assert [other.receive().parts for _, other in pairs] == [(b"z" * 100_000,)] * 2
    for end in pairs[1]:
        end.close()


def test_a_full_socket_keeps_messages_in_order_until_there_is_room(ends):
    one, other = ends
    count = 2000
    for number in range(count):
        one.send(Letter({"number": number}, [b"x" * 1000]))
    assert not one.flush()
    received = []
    while len(received) < count:
        received.append(other.receive().header["number"])
        one.flush()
    assert received == list(range(count))
    assert one.flush()


def test_an_end_that_is_gone_is_an_error_to_write_to(ends):
    one, other = ends
    other.close()
    with pytest.raises(OSError, match="pipe"):
        one.send(Letter({}))


def test_a_shared_file_cannot_shrink():
    file = buffers.shared_file("test", 100)
    memory = buffers.mapped(file)
    memory[99] = 7
    with pytest.raises(PermissionError):
        os.ftruncate(file, 10)
    os.close(file)
    assert memory[99] == 7


def test_the_shelf_gives_each_buffer_once_until_it_comes_back():
    shelf = BufferShelf()
    assert shelf.take(0.0) is None
    shelf.replace({0: "a", 1: "b"})
    assert [shelf.take(0.0), shelf.take(0.0), shelf.take(0.0)] == [(0, "a"), (1, "b"), None]
    shelf.put_back(1)
    shelf.put_back(1)
    assert [shelf.take(0.0), shelf.take(0.0)] == [(1, "b"), None]
    shelf.replace({2: "c"})
    shelf.put_back(0)  # of the old ones
    assert [shelf.take(0.0), shelf.take(0.0)] == [(2, "c"), None]


def test_a_taker_waits_for_the_next_free_buffer():
    shelf = BufferShelf()
    taken = []
    taker = threading.Thread(target=lambda: taken.append(shelf.take(30.0)))
    taker.start()
    shelf.replace({5: "e"})
    taker.join()
    assert taken == [(5, "e")]


def test_a_workload_is_read_through_the_same_memory():
    memory = bytearray(SIZE_BYTES)
    ours, theirs = Workload(memory), Workload(memory)
    ours.counters[0] += 2**40
    ours.beat()
    ours.add_seconds(policy=1.5, idle=2.0)
    ours.add_seconds(environment=0.25, policy=1.0)
    assert theirs.rows == 2**40
    assert list(theirs.counters) == [2**40, 1]
    assert theirs.seconds == (2.5, 0.25, 2.0)


def test_silence_is_measured_between_signs_of_life():
    watch = Watch(check_seconds=0.5)
    assert watch.look(10.0, (0,)) == 0
    assert watch.look(10.5, (0,)) == 0.5
    assert watch.look(11.0, (0,)) == 1.0
    assert watch.look(11.5, (1,)) == 0
    assert watch.look(12.0, (1,)) == 0.5


def test_a_pause_of_the_watcher_is_no_silence_of_the_worker():
    watch = Watch(check_seconds=0.5)
    watch.look(0.0, (0,))
    assert watch.look(600.0, (0,)) == 1.0
    watch.forget()
    assert watch.look(601.0, (0,)) == 0


def test_five_losses_within_a_minute_are_too_many():
    limit = LossLimit()
    assert [limit.add(time) for time in (0, 10, 20, 30)] == [False] * 4
    assert not limit.add(60.1)  # the first is forgotten
    assert limit.add(70.0)
