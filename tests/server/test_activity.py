"""What a server counts of the tiers, and how fast all servers together are, over a real queue.

Counts could be lost when the database fails, be counted twice, or make rates that are wrong at the turn of a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.activity import FAILED, LAST_CLASS, RATE_SECONDS, Activity, Rates
from server.queue import FINAL, ConnectionLost, Minute, Prediction, Queue, Status, minute_of
from server.time_classes import class_of
from tests.server.queue.queue_world import World

TIERS = ("free", "premium")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


@pytest.fixture
def activity(world: World) -> Activity:
    return new(world)


def new(world: World) -> Activity:
    return Activity(world.queue.count, world.queue.latest_minutes, lambda: TIERS, world.clock)


def waited(world: World, seconds: float, status: Status = Status.SUCCEEDED) -> Prediction:
    one = world.get(world.submit())
    return replace(one, status=status, started_at=one.accepted_at + seconds)


def hour(world: World, tier: str = "free") -> list[Minute]:
    return world.queue.minutes(tier).result()


def test_what_happened_is_written_with_its_minute(world: World, activity: Activity) -> None:
    start = minute_of(world.clock.now)
    for _ in range(3):
        activity.accepted("free")
    activity.ended("free", Status.SUCCEEDED)
    activity.waited(waited(world, 2.0))
    activity.waited(waited(world, 5.0, Status.FAILED))
    world.clock.advance(60)
    for status in FINAL:
        activity.ended("free", status)
    activity.accepted("premium")
    activity.flush()
    activity.flush()
    assert hour(world) == [
        Minute(start, 3, 1, 0, {class_of(2000, LAST_CLASS): 1}),
        Minute(start + 1, 0, 1, len(FAILED)),
    ]
    assert hour(world, "premium") == [Minute(start + 1, 1)]


def test_what_could_not_be_written_is_written_later(world: World) -> None:
    failing = ConnectionLost("the connection broke")
    write: Callable[..., object] = world.queue.count

    def broken(told: object) -> object:
        raise failing

    activity = Activity(lambda told: write(told), world.queue.latest_minutes, lambda: TIERS, world.clock)  # type: ignore[arg-type, return-value]
    start, write = minute_of(world.clock.now), broken
    activity.accepted("free")
    with pytest.raises(ConnectionLost):
        activity.flush()
    activity.accepted("free")
    write = world.queue.count
    activity.flush()
    assert hour(world) == [Minute(start, 2)]
    write = broken
    activity.accepted("free")
    with pytest.raises(ConnectionLost):
        activity.flush()
    world.clock.advance(3600)
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            activity.accepted("free")
            activity.flush()
    write = world.queue.count
    activity.flush()
    assert hour(world) == [Minute(start + 60, 2)], "what is older than an hour was forgotten"


@pytest.mark.parametrize("second", [0, 55])
def test_rates_are_those_of_all_servers_over_the_last_seconds(world: World, activity: Activity, second: int) -> None:
    other = new(world)
    world.clock.now = 1_800_000_000.0 // 60 * 60 + second
    for _ in range(7):
        other.accepted("free")
    other.flush()
    assert activity.rates("free") == Rates()
    activity.flush()
    assert activity.rates("free") == Rates(), "one look says nothing"
    for _ in range(20):
        world.clock.advance(1)
        for one in (activity, other):
            one.accepted("free")
            one.ended("free", Status.SUCCEEDED)
        other.ended("premium", Status.EXPIRED)
        other.flush()
        activity.flush()
    assert activity.rates("free") == Rates(RATE_SECONDS, 2.0, 2.0, 0.0)
    assert activity.rates("premium") == Rates(RATE_SECONDS, 0.0, 0.0, 1.0)
    for _ in range(10):
        world.clock.advance(1)
        activity.flush()
    assert activity.rates("free") == Rates(RATE_SECONDS)
    world.clock.advance(100)
    assert activity.rates("free") == Rates(), "nobody has looked for long"


def test_looks_in_quick_succession_cost_nothing(world: World) -> None:
    asked: list[int] = []

    def read(tiers: object, many: int) -> object:
        asked.append(many)
        return world.queue.latest_minutes(TIERS, many)

    activity = Activity(world.queue.count, read, lambda: TIERS, world.clock)  # type: ignore[arg-type]
    for _ in range(100):
        activity.flush()
        world.clock.advance(0.01)
    assert len(asked) == 2


def test_the_queue_is_asked_for_no_more_than_it_needs(world: World) -> None:
    now = minute_of(world.clock.now)
    Queue(world.database).count([("free", Minute(now - 5, 1)), ("gone", Minute(now, 1))]).result()
    assert world.queue.latest_minutes(TIERS, 2).result() == {}
