"""Which requests are admitted before their bodies are read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from server.blobs import DirectoryBlobs
from server.intake.admission import Gate
from server.intake.capacity import Capacity
from server.intake.memory import Memory
from server.problems import Problem
from server.queue import Depth, Queue, Recent, SQLite
from server.settings.values import load


def test_a_gate_counts_those_whom_it_let_in_since_the_last_count(capacity: Capacity) -> None:
    tiers = load().tiers
    free = replace(tiers["free"], limits=replace(tiers["free"].limits, queue=3))

    def depths() -> Future[dict[str, Depth]]:
        future: Future[dict[str, Depth]] = Future()
        future.set_result({"free": Depth(queued=1, leased=5, oldest=None)})
        return future

    beside = Depth(0, 0, None)

    async def story() -> None:
        gate = Gate(Recent(depths, 3600), capacity, Memory(1000), lambda _: beside)
        await gate.enter(free, 0)
        await gate.enter(free, 0)
        with pytest.raises(Problem) as refused:
            await gate.enter(free, 0)
        assert (refused.value.status, refused.value.body["queued"], refused.value.body["limit_queued"]) == (429, 3, 3)
        await gate.enter(tiers["premium"], 0)

    asyncio.run(story())


def test_a_gate_counts_what_is_not_in_the_table(capacity: Capacity) -> None:
    tiers = load().tiers
    free = replace(tiers["free"], limits=replace(tiers["free"].limits, queue=3))
    beside = [Depth(0, 0, None)]

    def depths() -> Future[dict[str, Depth]]:
        future: Future[dict[str, Depth]] = Future()
        future.set_result({})
        return future

    async def story() -> None:
        gate = Gate(Recent(depths, 3600), capacity, Memory(1000), lambda _: beside[0])
        for waiting in (1, 2, 3):
            await gate.enter(free, 0)
            gate.is_beside(free, 0)
            beside[0] = Depth(waiting, 0, None)
        with pytest.raises(Problem, match="3 predictions wait"):
            await gate.enter(free, 0)
        beside[0] = Depth(2, 0, None)
        await gate.enter(free, 0)

    asyncio.run(story())


def test_a_gate_refuses_bytes_for_which_no_body_can_be_small_enough(capacity: Capacity) -> None:
    tier = load().tiers["free"]
    free = replace(tier, limits=replace(tier.limits, queue_bytes=1000))

    def depths() -> Future[dict[str, Depth]]:
        future: Future[dict[str, Depth]] = Future()
        future.set_result({"free": Depth(queued=1, leased=5, oldest=None, bytes=400)})
        return future

    beside = Depth(0, 0, None)

    async def story() -> None:
        gate = Gate(Recent(depths, 3600), capacity, Memory(1000), lambda _: beside)
        await gate.enter(free, 500)  # may become 350 bytes
        with pytest.raises(Problem) as refused:
            await gate.enter(free, 400)
        told = refused.value
        assert (told.status, told.body["code"], told.retry_after in range(1, 6)) == (429, "queue_bytes_full", True)
        assert (told.body["queue_bytes"], told.body["limit_queue_bytes"]) == (750, 1000)
        await gate.enter(free, 0)  # a length that is not known may be short

    asyncio.run(story())


@pytest.fixture
def capacity(tmp_path: Path) -> Iterator[Capacity]:
    with SQLite.open(tmp_path) as database, closing(DirectoryBlobs(tmp_path / "blobs")) as blobs:
        yield Capacity(Queue(database), blobs)
