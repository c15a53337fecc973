"""Which requests are admitted before their bodies are read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from server.access.allowances import Allowances
from server.access.callers import Caller
from server.blobs import DirectoryBlobs
from server.intake.admission import Gate
from server.intake.memory import Memory
from server.intake.storage_check import StorageCheck
from server.problems import Problem
from server.queue import Depth, Queue, Recent, SQLite
from server.settings.records import CallerLimits
from server.settings.values import load

CALLER = Caller.at("127.0.0.1", trusted=True)


def test_a_gate_counts_those_whom_it_let_in_since_the_last_count(
    storage_check: StorageCheck, allowances: Allowances
) -> None:
    tiers = load().tiers
    free = replace(tiers["free"], limits=replace(tiers["free"].limits, queue=3))

    def depths() -> Future[dict[str, Depth]]:
        future: Future[dict[str, Depth]] = Future()
        future.set_result({"free": Depth(queued=1, leased=5, oldest=None)})
        return future

    beside = Depth(0, 0, None)

    async def story() -> None:
        gate = Gate(Recent(depths, 3600), storage_check, Memory(1000), lambda _: beside, allowances)
        await gate.enter(CALLER, free, 0)
        await gate.enter(CALLER, free, 0)
        with pytest.raises(Problem) as refused:
            await gate.enter(CALLER, free, 0)
        assert (refused.value.status, refused.value.body["queued"], refused.value.body["limit_queued"]) == (429, 3, 3)
        await gate.enter(CALLER, tiers["premium"], 0)

    asyncio.run(story())


def test_a_gate_counts_what_is_not_in_the_table(storage_check: StorageCheck, allowances: Allowances) -> None:
    tiers = load().tiers
    free = replace(tiers["free"], limits=replace(tiers["free"].limits, queue=3))
    beside = [Depth(0, 0, None)]

    def depths() -> Future[dict[str, Depth]]:
        future: Future[dict[str, Depth]] = Future()
        future.set_result({})
        return future

    async def story() -> None:
        gate = Gate(Recent(depths, 3600), storage_check, Memory(1000), lambda _: beside[0], allowances)
        for waiting in (1, 2, 3):
            await gate.enter(CALLER, free, 0)
            gate.is_beside(free, 0)
            beside[0] = Depth(waiting, 0, None)
        with pytest.raises(Problem, match="3 predictions wait"):
            await gate.enter(CALLER, free, 0)
        beside[0] = Depth(2, 0, None)
        await gate.enter(CALLER, free, 0)

    asyncio.run(story())


def test_a_gate_refuses_bytes_for_which_no_body_can_be_small_enough(
    storage_check: StorageCheck, allowances: Allowances
) -> None:
    tier = load().tiers["free"]
    free = replace(tier, limits=replace(tier.limits, queue_bytes=1000))

    def depths() -> Future[dict[str, Depth]]:
        future: Future[dict[str, Depth]] = Future()
        future.set_result({"free": Depth(queued=1, leased=5, oldest=None, bytes=400)})
        return future

    beside = Depth(0, 0, None)

    async def story() -> None:
        gate = Gate(Recent(depths, 3600), storage_check, Memory(1000), lambda _: beside, allowances)
        await gate.enter(CALLER, free, 500)  # may become 350 bytes
        with pytest.raises(Problem) as refused:
            await gate.enter(CALLER, free, 400)
        told = refused.value
        assert (told.status, told.body["code"], told.retry_after in range(1, 6)) == (429, "queue_bytes_full", True)
        assert (told.body["queue_bytes"], told.body["limit_queue_bytes"]) == (750, 1000)
        await gate.enter(CALLER, free, 0)  # a length that is not known may be short

    asyncio.run(story())


def test_a_caller_that_is_refused_takes_no_place_from_others(
    storage_check: StorageCheck, allowances: Allowances
) -> None:
    tier = load().tiers["free"]
    limits = CallerLimits(bytes_queued=100)
    free = replace(tier, access=replace(tier.access, limits=limits), limits=replace(tier.limits, queue=1))

    def depths() -> Future[dict[str, Depth]]:
        future: Future[dict[str, Depth]] = Future()
        future.set_result({})
        return future

    async def story() -> None:
        gate = Gate(Recent(depths, 3600), storage_check, Memory(1000), lambda _: Depth(0, 0, None), allowances)
        with pytest.raises(Problem, match="your pictures"):
            await gate.enter(Caller.at("192.0.2.1"), free, 1000)
        await gate.enter(CALLER, free, 1000)

    asyncio.run(story())


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with SQLite.open(tmp_path) as database:
        yield Queue(database)


@pytest.fixture
def storage_check(queue: Queue, tmp_path: Path) -> Iterator[StorageCheck]:
    with closing(DirectoryBlobs(tmp_path / "blobs")) as blobs:
        yield StorageCheck(queue, blobs)


@pytest.fixture
def allowances(queue: Queue) -> Allowances:
    return Allowances(queue, time.time, lambda *_: Depth(0, 0, None))
