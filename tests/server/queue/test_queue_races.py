"""A worker's result races with upkeep, thousands of times. Whoever comes first, a final state stays."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from server.queue import Leased, Status
from tests.server.queue.queue_world import TwoServersWorld, World, completion

ROUNDS = {World: 2000, TwoServersWorld: 500}
MEMORY = Path("/dev/shm")  # in memory, because this is about order; other tests are about durability


@pytest.fixture(params=[World, TwoServersWorld])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    memory = MEMORY if MEMORY.is_dir() else None
    with TemporaryDirectory(dir=memory) as directory, request.param(Path(directory)) as world:
        world.job()
        yield world


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_result_and_the_reaper_never_both_win(world: World, attempts: int) -> None:
    barrier, rounds = threading.Barrier(2), ROUNDS[type(world)]
    leased: list[Leased] = []
    outcomes: list[str] = []
    order = random.Random(attempts)

    def work() -> None:
        for _ in range(rounds):
            barrier.wait(60)
            for _ in range(order.randrange(3)):
                world.queue.depths()  # delays the result a little
            outcomes.append(world.complete(leased[-1]))
            barrier.wait(60)

    worker = threading.Thread(target=work)
    worker.start()
    ended: list[tuple[str, Status]] = []
    for _ in range(rounds):
        one = world.submit(deadline=1e9)
        leased += world.lease(most=1, seconds=1)
        world.clock.advance(1)
        barrier.wait(60)
        world.queue.reclaim({"free": attempts}).result()
        barrier.wait(60)
        ended.append((one, world.status(one)))
    worker.join(60)
    assert {status for _, status in ended} <= {Status.SUCCEEDED, Status.FAILED}
    assert [outcome == "accepted" for outcome in outcomes] == [status is Status.SUCCEEDED for _, status in ended]
    assert attempts == 1 or set(outcomes) == {"accepted"}
    while world.queue.reclaim({"free": attempts}).result().more:
        pass
    assert world.queue.depths().result()["free"].queued == 0
    assert all(world.status(one) is status for one, status in ended)


def test_one_prediction_is_never_leased_by_two(world: World) -> None:
    for number in range(4):
        world.job(f"job-{number}")
    ids = [world.submit() for _ in range(600)]
    taken: list[list[str]] = [[] for _ in range(4)]

    def work(number: int) -> None:
        while leased := world.lease(f"job-{number}", most=1 + number):
            taken[number] += [one.id for one in leased]
            done = [completion(one.id, one.token) for one in leased]  # a Job that holds many gets no more
            assert set(world.queue.complete(f"job-{number}", done).result()) == {"accepted"}

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(one for mine in taken for one in mine) == sorted(ids)
    assert all(mine == sorted(mine, key=ids.index) for mine in taken)
