"""How callers share a tier: by weight, nobody starves, and one flood is not everybody's wait."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.queue import Arrival, CallerQueueBytesFull, CallerQueueFull, Hold, Queue
from server.queue.operations import sweeps
from server.queue.operations.shares import charge, standing
from server.queue.operations.sweeps import IDLE_SECONDS
from server.queue.store.transactions import Transaction
from tests.server.queue.queue_world import (
    MANY,
    RESULTS,
    WORLDS,
    PostgresWorld,
    TwoServersWorld,
    World,
    completion,
    pairs,
)

KINDS = [*WORLDS, TwoServersWorld]
MEMORY = Path("/dev/shm")
SHARES = "SELECT caller, slot, finish FROM shares"
# The callers' weights, and how many pictures each of their predictions has.
WEIGHTS = st.sampled_from([0.3, 0.5, 1.0, 1.0, 2.0, 7.0])
CALLERS = st.lists(st.tuples(WEIGHTS, st.integers(1, 4)), min_size=2, max_size=4)


@contextmanager
def opened(kind: type[World]) -> Iterator[World]:
    """A world for one example of a property."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as home, kind(Path(home)) as world:
        world.job()
        yield world


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with request.param(tmp_path) as world:
        world.job()
        yield world


def flood(world: World, count: int, caller: str = "owner:flood", **changes: Any) -> list[str]:
    queue = world.queue
    futures = [queue.submit(world.submission(caller=caller, **changes), MANY) for _ in range(count)]
    return [future.result().prediction.id for future in futures]


def served(world: World, most: int = 1) -> list[str]:
    """Let the worker lease and finish so many; answers their ids in their order."""
    leased = world.lease(most=most)
    done = [replace(completion(one.id, one.token), results=RESULTS * one.images) for one in leased]
    assert set(world.queue.complete("job", done).result()) <= {"accepted"}
    return [one.id for one in leased]


def position(world: World, prediction_id: str) -> int:
    found = world.queue.position(prediction_id).result()
    assert found is not None
    return found.position


def rows(world: World) -> list[Any]:
    def read(tx: Transaction) -> list[Any]:
        tx.cursor.execute(SHARES, ())
        return tx.cursor.fetchall()

    return world.database.read(read).result()


def test_a_single_picture_beside_a_thousand_waits_for_one_turn(world: World) -> None:
    many = flood(world, 1000)
    assert served(world, 5) == many[:5]
    single = world.submit(caller="owner:anna")
    assert position(world, single) == 2
    assert served(world, 3) == [many[5], single, many[6]]


def test_one_who_is_alone_gets_everything_in_order(world: World) -> None:
    many = flood(world, 30)
    assert [one for _ in range(6) for one in served(world, 5)] == many


def test_a_caller_of_threefold_weight_has_three_in_each_turn(world: World) -> None:
    whose = dict.fromkeys(flood(world, 30, "owner:large", weight=3.0), "large")
    whose |= dict.fromkeys(flood(world, 10, "owner:small"), "small")
    for _ in range(10):
        assert Counter(whose[one] for one in served(world, 4)) == {"large": 3, "small": 1}


def test_many_pictures_in_one_prediction_take_as_many_turns(world: World) -> None:
    first, second = flood(world, 2, "owner:large", images=5)
    singles = flood(world, 7)
    assert served(world, 9) == [first, *singles[:5], second, *singles[5:]]


def test_tiers_are_shared_apart(world: World) -> None:
    flood(world, 20, tier="premium")
    mine = [world.submit(caller="owner:flood"), world.submit(caller="owner:anna")]
    assert [world.get(one).turn for one in mine] == [1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_shares_are_within_one_turn_of_the_weights(kind: type[World]) -> None:
    @settings(max_examples=25 if kind is World else 5)
    @given(callers=CALLERS, takes=st.lists(st.integers(1, 9), min_size=1, max_size=30), data=st.data())
    def check(callers: list[tuple[float, int]], takes: list[int], data: st.DataObject) -> None:
        with opened(kind) as world:
            waits: list[list[str]] = [[] for _ in callers]
            whose: dict[str, int] = {}

            def fill() -> None:
                """Give every caller more than can be taken next, in any order."""
                for index in data.draw(st.permutations(range(len(callers)))):
                    weight, images = callers[index]
                    while len(waits[index]) < 10:
                        new = world.submit(caller=f"owner:{index}", weight=weight, images=images)
                        waits[index].append(new)
                        whose[new] = index

            turns = [0.0] * len(callers)
            for most in takes:
                fill()
                for one in served(world, most):
                    index = whose[one]
                    weight, images = callers[index]
                    assert one == waits[index].pop(0), "one's own order is unchanged"
                    turns[index] += images / weight
                    # One prediction is begun in the turn in which it starts, though it takes as many as it costs.
                    over = [spent - images / weight for spent, (weight, images) in zip(turns, callers, strict=True)]
                    assert max(over) <= min(turns) + 1

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_newcomer_waits_for_two_turns_at_most(kind: type[World]) -> None:
    @settings(max_examples=20 if kind is World else 4)
    @given(callers=CALLERS, before=st.integers(0, 40))
    def check(callers: list[tuple[float, int]], before: int) -> None:
        with opened(kind) as world:
            for index, (weight, images) in enumerate(callers):
                flood(world, 30, f"owner:{index}", weight=weight, images=images)
            left = before
            while left > 0:
                left -= len(served(world, min(8, left))) or left
            single = world.submit(caller="owner:new")
            costs = [images / weight for weight, images in callers]
            assert position(world, single) - 1 <= sum(2 / cost + 1 for cost in costs)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_an_endless_row_of_new_callers_starves_nobody(kind: type[World]) -> None:
    with opened(kind) as world:
        mine = flood(world, 8)
        seen: list[str] = []
        for number in range(100):
            world.submit(caller=f"address:10.0.0.{number}/32")
            seen += served(world)
        assert [one for one in seen if one in mine] == mine
        assert len(seen) == 100


def test_who_has_waited_for_nothing_has_no_claim(world: World) -> None:
    """Time in which a caller sends nothing is not saved up."""
    for one in flood(world, 10, "owner:early"):
        assert served(world) == [one]
    mine = flood(world, 5, "owner:late")
    again = flood(world, 5, "owner:early")
    assert served(world, 10) == [one for pair in zip(mine, again, strict=True) for one in pair]


def test_floods_of_many_pictures_through_two_servers_have_one_share(tmp_path: Path) -> None:
    with TwoServersWorld(tmp_path) as world:
        world.job()
        queues = [Queue(world.database), Queue(world.second)]
        futures = [queue.submit(world.submission(caller="owner:flood"), MANY) for _ in range(300) for queue in queues]
        turns = sorted(future.result().prediction.turn for future in futures)
        both = 2 * 64  # what two groups commit at the same time
        assert all(turn + both >= place for place, turn in enumerate(turns))
        assert turns[-1] <= 600


def test_what_two_servers_commit_at_the_same_time_counts_for_both(tmp_path: Path) -> None:
    with TwoServersWorld(tmp_path) as world:
        together = threading.Barrier(2)

        def add(tx: Transaction) -> float:
            at = standing(tx, "free", "owner:flood")
            together.wait(5)
            start = at.start
            return charge(tx, "free", "owner:flood", at, start, 1.0)

        for _ in range(50):
            one, other = world.database.write(add), world.second.write(add)
            one.result()
            other.result()
        assert world.queue.submit(world.submission(caller="owner:flood"), MANY).result().prediction.turn >= 100


def test_servers_do_not_wait_for_each_others_shares(tmp_path: Path) -> None:
    """In opposite orders they would wait for each other."""
    with TwoServersWorld(tmp_path) as world:
        together = threading.Barrier(2)

        def add(*callers: str) -> Any:
            def run(tx: Transaction) -> None:
                for caller in callers:
                    charge(tx, "free", caller, standing(tx, "free", caller), 1.0, 1.0)
                    together.wait(5)

            return run

        for _ in range(3):
            asked = [world.database.write(add("a", "b")), world.second.write(add("b", "a"))]
            for one in asked:
                one.result(10)


def test_a_floor_is_where_a_prediction_starts_at_the_earliest(world: World) -> None:
    asked = world.queue.submit(world.submission(), MANY, MANY, 7.5).result()
    assert (asked.prediction.turn, asked.finish) == (7, 8.5)
    asked = world.queue.submit(world.submission(), MANY, MANY, 3.0).result()
    assert (asked.prediction.turn, asked.finish) == (8, 9.5)


def test_what_is_kept_has_its_turn_and_is_charged_unless_that_is_paid(world: World) -> None:
    def keep(start: float, *, paid: bool) -> tuple[int, float]:
        kept = world.queue.keep(Arrival(world.submission(), world.clock(), start), 3, 30.0, paid=paid).result()
        return kept.prediction.turn, kept.finish

    assert keep(4.5, paid=False) == (4, 5.5)
    assert keep(2.0, paid=False) == (2, 6.5)
    assert keep(3.0, paid=True) == (3, 4.0)
    assert world.get(world.submit()).turn == 6


def test_what_has_ended_when_it_comes_is_charged_to_nobody(world: World) -> None:
    given = world.submission()
    arrival = Arrival(given, world.clock(), 5.5, Hold("job", "t" * 32, world.clock()))
    (ended,) = world.queue.settle([(arrival, completion(given.id, "t" * 32))]).result()
    assert ended.turn == 5
    assert rows(world) == []


def test_a_tier_reaches_the_turn_of_what_is_leased_or_was_given_from_memory(world: World) -> None:
    flood(world, 3)
    granted = world.queue.lease("free", "job", 2, MANY, 30.0).result()
    assert granted.turn == 2
    assert world.queue.lease("free", "job", 0, MANY, 30.0).result().turn == 0
    assert world.queue.got_work("job", "free", 1).result() == 2
    assert world.queue.got_work("job", "free", 40).result() == 40
    assert world.queue.got_work("job", "premium", 3).result() == 3
    assert world.get(world.submit(caller="owner:new")).turn == 41
    world.queue.release("job", pairs(granted.leased)).result()
    assert world.queue.got_work("job", "free", 0).result() == 40


def test_a_caller_may_have_so_many_waiting_predictions_and_bytes(world: World) -> None:
    def ask(size: int, most: int | None, most_bytes: int | None, caller: str = "owner:anna") -> Future[Any]:
        return world.queue.submit(world.submission(size=size, caller=caller), MANY, MANY, 0.0, most, most_bytes)

    for size in (100, 300):
        ask(size, 2, None).result()
    with pytest.raises(CallerQueueFull) as full:
        ask(1, 2, None).result()
    assert (full.value.caller, full.value.depth, full.value.limit) == ("owner:anna", 2, 2)
    with pytest.raises(CallerQueueBytesFull) as bytes_full:
        ask(101, None, 500).result()
    assert (bytes_full.value.caller, bytes_full.value.taken, bytes_full.value.limit) == ("owner:anna", 400, 500)
    ask(100, 3, 500).result()
    ask(100, 1, 500, "owner:ben").result()
    for most, most_bytes in ((0, None), (-3, None), (None, 0), (None, -9)):
        assert isinstance(ask(1, most, most_bytes, "owner:new").exception(), CallerQueueFull | CallerQueueBytesFull)
    served(world, 4)
    ask(500, 1, 500).result()


def test_shares_are_forgotten_once_their_turn_has_come(world: World) -> None:
    flood(world, 1, "owner:done")
    flood(world, 4)
    served(world, 3)
    world.queue.forget_shares().result()
    assert {caller for caller, _, _ in rows(world)} == {"owner:flood"}
    assert world.get(world.submit(caller="owner:done")).turn == 3
    assert world.get(world.submit(caller="owner:flood")).turn == 5


def test_in_a_tier_that_stands_still_only_callers_that_wait_are_remembered(world: World) -> None:
    for one in (*flood(world, 3, "owner:gone"), *flood(world, 3)[1:]):
        world.queue.cancel(one).result()
    world.clock.advance(IDLE_SECONDS - 1)
    world.submit(caller="owner:fresh")
    world.queue.forget_shares().result()
    assert {caller for caller, _, _ in rows(world)} == {"owner:gone", "owner:flood", "owner:fresh"}
    world.clock.advance(1)
    world.queue.forget_shares().result()
    assert {caller for caller, _, _ in rows(world)} == {"owner:flood", "owner:fresh"}
    assert world.get(world.submit(caller="owner:flood")).turn == 4
    assert world.get(world.submit(caller="owner:gone")).turn == 1


def test_a_walk_through_the_shares_goes_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "PAGE", 2)
    monkeypatch.setattr(sweeps, "_SHARES", sweeps._SHARES.limit(2))
    for number in range(5):
        world.submit(caller=f"owner:{number}")
    flood(world, 3, "owner:2")
    served(world, 7)
    after, pages = world.queue.forget_shares().result(), 1
    while after is not None:
        after, pages = world.queue.forget_shares(after).result(), pages + 1
    assert pages >= 3
    assert {caller for caller, _, _ in rows(world)} == {"owner:2"}


def test_a_share_that_another_server_charges_meanwhile_stays(tmp_path: Path) -> None:
    with PostgresWorld(tmp_path) as world:
        world.job()
        flood(world, 2)
        served(world, 2)
        world.queue.got_work("job", "free", 9).result()
        with psycopg.connect(world.url) as other:
            other.execute("UPDATE shares SET finish = 20")
            world.queue.forget_shares().result(5)
        assert [finish for _, _, finish in rows(world)] == [20]
