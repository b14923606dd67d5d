from __future__ import annotations

import signal
import threading

import pytest

from wiserl.signals import Drain


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains_and_the_former_handlers_are_back(number):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    drained = []
    with Drain(lambda: drained.append(True)) as drain:
        signal.raise_signal(number)
        assert drained == [True]
        # A second one ends the process as ever.
        assert {each: signal.getsignal(each) for each in before} == before
    assert drain.signal == number


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
