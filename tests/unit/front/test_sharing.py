"""One coordinator, two threads: each wakes the other, and only when there is something."""

import asyncio
import threading

import pytest
from front_support import (
    A,
    B,
    Part,
    make_batch,
    make_coordinator,
    publication,
    pull_request,
    push_request,
    pushed,
    register_request,
)

from learner.front.interface import DrainingError
from learner.front.sharing import EVERYONE, SharedCoordinator


def shared_round():
    shared = SharedCoordinator(make_coordinator())
    with shared.locked() as coordinator:
        coordinator.register(shared.now(), register_request(A, 1))
        coordinator.register(shared.now(), register_request(B, 1))
        coordinator.publish(publication(1))
        coordinator.open_round(shared.now(), n_envs=1, n_steps=2)
    return shared


def in_a_thread(function):
    """Starts a thread; the list gets what it returned or raised."""
    found = []

    def run():
        try:
            found.append(function())
        except DrainingError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def test_training_wakes_when_the_round_closes():
    shared = shared_round()
    looks = []

    def ready(coordinator):
        looks.append(1)
        return coordinator.closed_round()

    thread, found = in_a_thread(lambda: shared.wait(ready))
    with shared.locked() as coordinator:
        pushed(coordinator, shared.now(), push_request(A, 1, 1, make_batch(1, [Part(0)])))
    thread.join(10)
    assert found[0].steps == 2
    assert len(looks) <= 2


def test_training_is_told_of_draining():
    shared = shared_round()
    thread, found = in_a_thread(lambda: shared.wait(lambda coordinator: coordinator.closed_round()))
    with shared.locked() as coordinator:
        coordinator.drain()
    thread.join(10)
    assert isinstance(found[0], DrainingError)
    with pytest.raises(DrainingError):
        shared.wait(lambda coordinator: coordinator)


def test_what_is_there_is_answered_without_waiting():
    assert shared_round().wait(lambda coordinator: coordinator.samplers) == 2


def test_an_error_inside_still_wakes_the_others():
    shared = shared_round()
    thread, found = in_a_thread(lambda: shared.wait(lambda coordinator: coordinator.closed_round()))

    def fail():
        with shared.locked() as coordinator:
            pushed(coordinator, shared.now(), push_request(A, 1, 1, make_batch(1, [Part(0)])))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    thread.join(10)
    assert found[0].steps == 2


def loop_test(function):
    """Runs an async test on a loop that the coordinator is attached to."""

    def test():
        async def run():
            shared = shared_round()
            shared.attach(asyncio.get_running_loop())
            with shared.locked():
                pass
            await asyncio.sleep(0)
            await asyncio.wait_for(function(shared), 20)

        asyncio.run(run())

    test.__name__ = function.__name__
    return test


async def looked(waiter):
    await waiter.wait()
    return True


@loop_test
async def test_a_grant_wakes_its_sampler_alone(shared):
    """b leaves with nothing, then a, which had the work: it is c's now, and no news to a fourth."""
    with shared.locked() as coordinator:
        for name in ("sampler-c", "sampler-d"):
            coordinator.register(shared.now(), register_request(name, 1))
        coordinator.pull(shared.now(), pull_request(B, leaving=True), since=shared.now())
    await asyncio.sleep(0)
    with shared.waiting("sampler-c") as of_c, shared.waiting("sampler-d") as of_d:
        await asyncio.to_thread(leave, shared, A)
        await of_c.wait()
        assert not of_d._event.is_set()


def leave(shared, sampler_id):
    with shared.locked() as coordinator:
        request = pull_request(sampler_id, leaving=True)
        coordinator.pull(shared.now(), request, since=shared.now())


@loop_test
async def test_a_publication_wakes_everyone(shared):
    with shared.waiting(A) as of_a, shared.waiting(EVERYONE) as of_all:
        waits = [asyncio.create_task(looked(waiter)) for waiter in (of_a, of_all)]
        with shared.locked() as coordinator:
            coordinator.publish(publication(2))
        assert await asyncio.gather(*waits) == [True, True]


@loop_test
async def test_a_wait_ends_with_its_timeout(shared):
    with shared.waiting(A) as waiter:
        await waiter.wait(0.0)
    assert not shared._waiters


@loop_test
async def test_superseding_wakes(shared):
    with shared.waiting(A) as waiter:
        waits = asyncio.create_task(looked(waiter))
        await asyncio.sleep(0)
        shared.supersede(A)
        assert await waits
        assert waiter.is_superseded


@loop_test
async def test_without_a_loop_nothing_is_woken(shared):
    shared.attach(None)
    with shared.waiting(A) as waiter:
        with shared.locked() as coordinator:
            coordinator.publish(publication(2))
        assert not waiter._event.is_set()
