"""Callers are held to their limits by what the table and the lobby show, over a real queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.access import allowances as module
from server.access.allowances import Allowances
from server.access.callers import Caller
from server.problems import Problem
from server.queue import Depth, Queue, StorageError, Use
from server.settings.records import CallerLimits, Tier
from server.settings.values import load
from tests.server.http.http_site import FailingDatabase
from tests.server.queue.queue_world import TwoServersWorld, World

NOTHING = Depth(0, 0, None)
FULL = Depth(1000, 0, None, 1 << 40)  # of a tier in which so much waits that its callers must be looked at
CALLER = Caller.at("192.0.2.7")


class Beside:
    """What waits in the lobby of a caller."""

    def __init__(self) -> None:
        self.depth = NOTHING

    def __call__(self, tier: str, caller: str) -> Depth:
        return self.depth


class FailingWorld(World):
    def open(self) -> FailingDatabase:
        database = FailingDatabase.open(self.directory / "data", self.clock)
        assert isinstance(database, FailingDatabase)
        return database


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def tier(**limits: Any) -> Tier:
    free = load().tiers["free"]
    return replace(free, access=replace(free.access, limits=CallerLimits(**limits)))


def over(world: World, queue: Queue | None = None) -> tuple[Allowances, Beside]:
    beside = Beside()
    return Allowances(queue or world.queue, world.clock, beside, -1.0), beside


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_caller_without_limits_is_not_even_known(world: World) -> None:
    async def story() -> None:
        allowances, beside = over(world)
        beside.depth = FULL
        for caller, of in ((CALLER, tier()), (Caller.at("::1", trusted=True), tier(per_second=1, per_day=1, queued=1))):
            for _ in range(9):
                allowances.request(caller, of)
                await allowances.enter(caller, of, 100, FULL)
                await allowances.admit(caller, of, 8, 100, FULL)
            assert allowances.room(caller, of) == (None, None)
            assert allowances.fields(caller, of) == {}
        await allowances.stop()

    run(story)


def test_a_request_too_many_says_when_the_next_may_come(world: World) -> None:
    async def story() -> None:
        allowances, _ = over(world)
        slow = tier(per_second=0.5, burst=2)
        allowances.request(CALLER, slow)
        allowances.request(CALLER, slow)
        assert allowances.fields(CALLER, slow) == {
            "RateLimit-Policy": '"second";q=2;w=4',
            "RateLimit": '"second";r=0;t=2',
        }
        with pytest.raises(Problem) as refused:
            allowances.request(CALLER, slow)
        problem = refused.value
        assert (problem.status, problem.body["code"], problem.body["limit"]) == (429, "rate_limit", "perSecond")
        assert (problem.body["per_second"], problem.body["burst"], problem.retry_after) == (0.5, 2, 2)
        world.clock.advance(2)
        allowances.request(CALLER, slow)

    run(story)


def test_the_limits_of_a_key_replace_those_of_the_tier(world: World) -> None:
    async def story() -> None:
        allowances, _ = over(world)
        strict = tier(per_second=1, burst=1, queued=7)
        keyed = Caller("owner:anna", "anna", "k1", frozenset(["free"]), {"per_second": 2, "burst": 3, "per_day": 0})
        for _ in range(3):
            allowances.request(keyed, strict)
        with pytest.raises(Problem):
            allowances.request(keyed, strict)
        assert allowances.room(keyed, strict) == (7, None)

    run(story)


def test_a_caller_may_have_so_many_predictions_in_table_and_lobby(world: World) -> None:
    async def story() -> None:
        allowances, beside = over(world)
        few = tier(queued=3)
        world.submit(caller=CALLER.name)
        world.submit(caller="owner:ben")
        beside.depth = Depth(1, 0, None, 10)
        await allowances.enter(CALLER, few, 0, FULL)
        assert allowances.room(CALLER, few) == (2, None)
        beside.depth = Depth(2, 0, None, 10)
        with pytest.raises(Problem) as refused:
            await allowances.enter(CALLER, few, 0, FULL)
        problem = refused.value
        assert (problem.body["code"], problem.body["limit"]) == ("queued_limit", "queued")
        assert (problem.body["limit_queued"], problem.body["queued"]) == (3, 3)
        assert problem.retry_after
        beside.depth = NOTHING
        await allowances.enter(CALLER, few, 0, FULL)

    run(story)


def test_a_caller_may_have_so_many_bytes_in_table_and_lobby(world: World) -> None:
    async def story() -> None:
        allowances, beside = over(world)
        few = tier(bytes_queued=3000)
        world.submit(caller=CALLER.name, size=1000)
        beside.depth = Depth(1, 0, None, 1500)
        await allowances.enter(CALLER, few, 500, FULL)
        assert allowances.room(CALLER, few) == (None, 1500)
        with pytest.raises(Problem) as refused:
            await allowances.enter(CALLER, few, 501, FULL)
        problem = refused.value
        assert (problem.body["code"], problem.body["limit"]) == ("bytes_queued_limit", "bytesQueued")
        assert (problem.body["limit_bytes_queued"], problem.body["bytes_queued"]) == (3000, 2500)
        assert problem.retry_after
        with pytest.raises(Problem) as refused:
            await allowances.enter(CALLER, few, 3001, FULL)
        assert refused.value.retry_after is None, "to wait does not help"

    run(story)


def test_the_table_is_only_asked_when_the_tier_is_as_deep_as_the_limit(world: World) -> None:
    async def story() -> None:
        allowances, _ = over(world)
        world.database.close()
        some = tier(queued=3, bytes_queued=1000)
        await allowances.enter(CALLER, some, 100, Depth(2, 0, None, 900))

    run(story)


def test_what_came_into_the_table_since_it_was_asked_counts(world: World) -> None:
    async def story() -> None:
        allowances = Allowances(world.queue, world.clock, Beside(), 3600)
        few = tier(queued=2, bytes_queued=1000)
        await allowances.enter(CALLER, few, 0, FULL)
        allowances.kept("free", CALLER.name, 100)
        allowances.kept("free", "owner:ben", 100)
        await allowances.enter(CALLER, few, 900, FULL)
        with pytest.raises(Problem, match="take 100 bytes"):
            await allowances.enter(CALLER, few, 901, FULL)
        allowances.kept("free", CALLER.name, 100)
        with pytest.raises(Problem, match="2 of your predictions"):
            await allowances.enter(CALLER, few, 0, FULL)

    run(story)


def test_the_pictures_of_a_day_are_exact_and_outlive_the_server(world: World) -> None:
    async def story() -> None:
        few = tier(per_day=10)
        allowances, _ = over(world)
        await allowances.enter(CALLER, few, 0, NOTHING)
        await allowances.admit(CALLER, few, 8, 0, NOTHING)
        allowances.give_back(CALLER, few, 2)
        await allowances.stop()
        allowances, _ = over(world)
        with pytest.raises(Problem) as refused:
            await allowances.take(CALLER, few, 5)
        problem = refused.value
        assert (problem.body["code"], problem.body["limit"]) == ("day_limit", "perDay")
        assert (problem.body["per_day"], problem.body["left"]) == (10, 4)
        assert problem.retry_after == 86400 - world.clock.now % 86400
        await allowances.enter(CALLER, few, 0, NOTHING)
        await allowances.take(CALLER, few, 4)
        with pytest.raises(Problem, match="0 are left"):
            await allowances.enter(CALLER, few, 0, NOTHING)
        fields = allowances.fields(CALLER, few)
        assert fields["RateLimit-Policy"] == '"day";q=10;w=86400'
        assert fields["RateLimit"] == f'"day";r=0;t={problem.retry_after}'
        world.clock.advance(problem.retry_after)
        await allowances.enter(CALLER, few, 0, NOTHING)

    run(story)


def test_pictures_of_a_prediction_that_may_not_wait_are_given_back(world: World) -> None:
    async def story() -> None:
        allowances, beside = over(world)
        few = tier(per_day=10, queued=1)
        beside.depth = Depth(1, 0, None)
        with pytest.raises(Problem, match="1 of your predictions"):
            await allowances.admit(CALLER, few, 8, 0, FULL)
        beside.depth = NOTHING
        await allowances.admit(CALLER, few, 10, 0, FULL)

    run(story)


def test_what_is_left_is_described(world: World) -> None:
    async def story() -> None:
        allowances, beside = over(world)
        all_of_them = tier(per_second=4, per_day=1000, queued=5, bytes_queued=5000)
        other, _ = over(world)
        await other.take(CALLER, all_of_them, 100)
        world.submit(caller=CALLER.name, size=1000)
        beside.depth = Depth(1, 0, None, 10)
        allowances.request(CALLER, all_of_them)
        described = await allowances.describe(CALLER, all_of_them)
        assert described == {
            "anonymous": True,
            "allowed": True,
            "limits": {"per_second": 4, "burst": 4, "per_day": 1000, "queued": 5, "bytes_queued": 5000},
            "left": {"requests": 3, "pictures": 900, "queued": 3, "bytes_queued": 3990},
        }
        described = await allowances.describe(CALLER, tier())
        assert set(described["left"].values()) == set(described["limits"].values()) == {None}

    run(story)


def test_without_the_table_rates_hold_and_days_are_not_guessed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TELL_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    with FailingWorld(tmp_path) as world:
        database = world.database
        assert isinstance(database, FailingDatabase)

        async def story() -> None:
            allowances, _ = over(world)
            allowances.start()
            both = tier(per_second=1, burst=3, per_day=10)
            database.failure = StorageError("the disk is away")
            for _ in range(3):
                allowances.request(CALLER, both)
            with pytest.raises(Problem):
                allowances.request(CALLER, both)
            with pytest.raises(StorageError):
                await allowances.enter(CALLER, both, 0, NOTHING)
            with pytest.raises(StorageError):
                await allowances.take(CALLER, both, 1)
            await asyncio.sleep(0.1)
            database.failure = None
            await allowances.take(CALLER, both, 1)
            await allowances.stop()
            day = int(world.clock.now // 86400)
            (used,) = await asyncio.wrap_future(world.queue.use([Use("free", CALLER.name, day, 0, 0, 0.0)]))
            assert (used.requests, used.pictures) == (3, 1), "what was not heard was told later, once"

        run(story)
    said = [record.message for record in caplog.records if "limits of callers" in record.message]
    assert len(said) == 2, said


def test_two_servers_hold_a_flood_to_its_limit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their clock is the test's; they tell each other through PostgreSQL."""
    monkeypatch.setattr(module, "TELL_SECONDS", 3600)
    with TwoServersWorld(tmp_path) as world:

        async def story() -> None:
            limited = tier(per_second=20, burst=10, per_day=500)
            both = [over(world, Queue(database))[0] for database in (world.database, world.second)]
            passed = [0, 0]
            for step in range(3000):
                world.clock.advance(0.01)
                for number, one in enumerate(both):
                    with suppress(Problem):
                        one.request(CALLER, limited)
                        await one.enter(CALLER, limited, 0, NOTHING)
                        await one.take(CALLER, limited, 1)
                        passed[number] += 1
                if step % 50 == 0:
                    for one in both:
                        one._tell()
                        await asyncio.wait(one._telling) if one._telling else None
                if step == 1500:
                    assert 0.9 * 20 * 15 <= sum(passed) <= 1.1 * 20 * 15 + 2 * 20
            assert 450 <= sum(passed) <= 500
            assert min(passed) > 100, "both served it"

        run(story)
