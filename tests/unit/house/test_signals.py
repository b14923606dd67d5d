"""Signals that stop a run, also where they come at the worst moment."""

from __future__ import annotations

import signal
import threading

import pytest
from front_support import make_coordinator

from learner.front.interface import DrainingError
from learner.front.sharing import SharedCoordinator
from wiserl.signals import Drain


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains_and_the_former_handlers_are_back(number):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    drained = []
    with Drain(lambda: drained.append(True)) as drain:
        signal.raise_signal(number)
        # A second one ends the process as ever.
        assert {each: signal.getsignal(each) for each in before} == before
    assert drained == [True]
    assert drain.signal == number


def test_a_signal_between_the_look_and_the_wait_ends_the_wait():
    shared = SharedCoordinator(make_coordinator())

    def stop() -> None:
        with shared.locked() as coordinator:
            coordinator.drain()

    looks = []

    def nothing_yet(_coordinator: object) -> None:
        if not looks:
            signal.raise_signal(signal.SIGTERM)
        looks.append(True)

    with Drain(stop), pytest.raises(DrainingError):
        shared.wait(nothing_yet)
    assert looks


def test_a_signal_while_an_event_is_being_waited_for_sets_it():
    stopped = threading.Event()

    class Interrupted(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            # Inside `Event.wait`, with the lock that `Event.set` takes.
            signal.raise_signal(signal.SIGTERM)
            return super().wait(timeout)

    stopped._cond = Interrupted(threading.Lock())
    with Drain(stopped.set):
        assert stopped.wait(30)


def test_without_a_signal_nothing_happens():
    before = signal.getsignal(signal.SIGTERM)
    with Drain(lambda: pytest.fail("nobody asked for it")) as drain:
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    assert drain.signal is None


def test_outside_the_main_thread_signals_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    during = []

    def enter():
        with Drain(lambda: None):
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert during == [before]
