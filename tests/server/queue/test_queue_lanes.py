"""The two lanes of a tier, main and canary, on each database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from server.queue import Arrival, Available, Depth, Hold, Lane, Queue, QueueFull, Status, Strikes
from server.queue.operations import upkeep
from tests.server.queue.queue_world import MANY, PostgresWorld, World, completion, pairs

OLD, NEW = "flowers@11111111 onnx/int8", "flowers@22222222 onnx/int8"


@pytest.fixture
def world(world: World) -> World:
    world.job()
    world.job("canary", model=NEW)
    return world


def lane(world: World) -> Lane | None:
    return world.queue.depths().result()["free"].canary


def test_each_lane_is_leased_in_its_own_order(world: World) -> None:
    ids = [world.submit(canary=canary, priority=at % 2) for at, canary in enumerate([True, False] * 4)]
    assert [world.get(one).canary for one in ids] == [True, False] * 4
    assert [one.id for one in world.lease(most=3)] == [ids[1], ids[3], ids[5]]
    assert [one.id for one in world.lease("canary", canary=True)] == ids[::2]
    assert [one.id for one in world.lease()] == [ids[7]]


def test_a_newcomer_waits_for_no_turns_that_only_a_canary_has_done(world: World) -> None:
    """A backlog of one caller: its part of the canary is done, most of the rest waits."""
    ids = [world.submit(canary=number % 2 == 1, caller="anna") for number in range(20)]
    granted = world.queue.lease("free", "canary", 10, MANY, 30.0, canary=True).result()
    assert ([one.id for one in granted.leased], granted.turn) == (ids[1::2], 0)
    assert [one.id for one in world.lease(most=2)] == [ids[0], ids[2]]
    newcomer = world.submit(caller="ben")
    assert [one.id for one in world.lease(most=2)] == [newcomer, ids[4]]
    last = world.submit(canary=True, caller="ben")
    assert [one.id for one in world.lease("canary", canary=True)] == [last]


def test_a_canary_that_has_all_predictions_brings_the_tier_from_turn_to_turn(world: World) -> None:
    for _ in range(5):
        world.submit(canary=True, caller="anna")
    (first, *_) = world.lease("canary", 3, canary=True)
    assert world.get(first.id).turn == 1
    assert world.get(world.submit(canary=True, caller="ben")).turn == 4
    world.job("other", "premium")
    for _ in range(2):
        world.submit(tier="premium", caller="anna", canary=True)
    granted = world.queue.lease("premium", "other", 2, MANY, 30.0, canary=True).result()
    assert granted.turn == 2


def test_a_lease_tells_what_is_left_of_its_lane_only(world: World) -> None:
    for canary in (True, False, False):
        world.submit(canary=canary)
    world.heard()
    granted = world.queue.lease("free", "canary", 1, MANY, 30.0, canary=True).result()
    assert (len(granted.leased), granted.next) == (1, None)
    assert Available("free") not in world.heard()
    granted = world.queue.lease("free", "job", 1, MANY, 30.0).result()
    assert granted.next is not None
    assert Available("free") in world.heard()


def test_a_row_of_older_versions_is_of_the_main_lane(world: World) -> None:
    one = world.submit()
    assert not world.get(one).canary
    assert world.queue.depths().result() == {"free": Depth(1, 0, world.clock.now, 1000)}


def test_every_end_of_a_canarys_prediction_is_counted(world: World) -> None:
    ids = [world.submit(canary=True) for _ in range(6)]
    assert lane(world) == Lane(6, 0, world.clock.now)
    first, second, third, fourth = world.lease("canary", 4, canary=True)
    assert lane(world) == Lane(2, 4, world.clock.now)
    world.complete(first, "canary")
    world.queue.release("canary", pairs([second])).result()
    world.queue.cancel(third.id).result()
    assert lane(world) == Lane(3, 1, world.clock.now)
    world.queue.end_job("canary", "crashed").result()
    assert lane(world) == Lane(4, 0, world.clock.now)
    world.clock.advance(1000)
    world.queue.reclaim({"free": 3}).result()
    assert (world.status(fourth.id), world.status(ids[5])) == (Status.EXPIRED, Status.ABORTED)
    assert lane(world) is None
    world.queue.purge({"free": 0.0}).result()
    assert world.queue.depths().result() == {"free": Depth(0, 0, None)}


def test_what_comes_into_the_table_later_is_of_its_lane_too(world: World) -> None:
    waits, held = (Arrival(world.submission(canary=True), world.clock(), 1.0, hold) for hold in (None, hold_of(world)))
    for arrival in (waits, held):
        assert world.queue.keep(arrival, 3, 30.0).result().prediction.canary
    ended = Arrival(world.submission(canary=True), world.clock(), 1.0, hold_of(world))
    (settled,) = world.queue.settle([(ended, completion(ended.submission.id, "t" * 32))]).result()
    assert settled.canary
    assert lane(world) == Lane(1, 1, world.clock.now)
    assert world.lease() == []


def hold_of(world: World) -> Hold:
    return Hold("canary", "t" * 32, world.clock())


@pytest.mark.parametrize("canary", [False, True])
def test_a_full_queue_tells_since_when_the_oldest_of_either_lane_waits(world: World, canary: bool) -> None:
    since = world.clock.now
    world.submit(canary=canary)
    world.clock.advance(5)
    world.submit(canary=not canary)
    refusal = world.queue.submit(world.submission(), 2).exception()
    assert isinstance(refusal, QueueFull)
    assert (refusal.depth, refusal.oldest) == (2, since)
    depth = world.queue.depths().result()["free"]
    assert depth.oldest == since
    assert depth.canary == Lane(1, 0, since if canary else since + 5)


def test_positions_count_both_lanes(world: World) -> None:
    ids = [world.submit(canary=at % 3 == 0, caller=f"owner:{at // 5}", priority=-(at // 12)) for at in range(15)]
    in_order = sorted(ids, key=lambda one: (world.get(one).priority, world.get(one).turn, ids.index(one)))
    found = [world.queue.position(one).result() for one in in_order]
    assert [one and one.position for one in found] == list(range(1, 16))


@pytest.mark.parametrize("canary", [False, True])
def test_a_solo_prediction_at_the_head_of_a_lane_waits_for_a_job_of_that_lane(world: World, canary: bool) -> None:
    job = "canary" if canary else "job"
    first, second = world.submit(canary=canary), world.submit(canary=canary)
    world.lease(job, 1, canary=canary)
    world.queue.end_job(job, "crashed").result()
    world.job("next")
    world.job("holder")
    held, other = world.submit(canary=canary, priority=-1), world.submit(canary=not canary, priority=-1)
    (leased,) = world.lease("holder", 1, canary=canary)
    assert leased.id == held
    assert world.lease("holder", canary=canary) == []  # the head goes alone
    (beside,) = world.lease("next", 1, canary=not canary)
    assert beside.id == other
    world.heard()
    world.complete(beside, "next")
    assert Available("free") not in world.heard()
    world.complete(leased, "holder")
    assert Available("free") in world.heard()
    assert [one.id for one in world.lease("holder", canary=canary)] == [first]
    assert world.status(second) is Status.QUEUED


def test_what_waits_for_a_canary_moves_to_the_main_model_at_its_place(world: World) -> None:
    ids = [world.submit(canary=at % 2 == 0) for at in range(6)]
    world.submit(canary=True, tier="premium")
    (held,) = world.lease("canary", 1, canary=True)
    world.heard()
    assert world.queue.end_canary("free").result() == 2
    assert world.heard() == [Available("free")]
    assert lane(world) == Lane(0, 1, None)
    assert world.queue.depths().result()["premium"].canary == Lane(1, 0, world.clock.now)
    assert [one.id for one in world.lease()] == ids[1:]
    assert world.queue.end_canary("free").result() == 0
    assert world.heard()[-1:] != [Available("free")]
    # What the canary held waits in its lane again, until it is moved too.
    world.queue.release("canary", pairs([held])).result()
    assert world.lease() == []
    assert world.queue.end_canary("free").result() == 1
    assert lane(world) is None
    assert [one.id for one in world.lease()] == [ids[0]]


def test_a_deep_lane_is_moved_page_by_page(world: World) -> None:
    for future in [world.queue.submit(world.submission(canary=True), MANY) for _ in range(upkeep.PAGE + 5)]:
        future.result()
    assert [world.queue.end_canary("free").result() for _ in range(3)] == [upkeep.PAGE, 5, 0]
    assert world.queue.depths().result()["free"].canary is None
    assert world.queue.depths().result()["free"].queued == upkeep.PAGE + 5


def test_both_lanes_end_with_their_tier(world: World) -> None:
    ids = [world.submit(canary=canary) for canary in (True, False)]
    world.queue.abort_tier("free", "gone", "it is gone").result()
    assert {world.status(one) for one in ids} == {Status.ABORTED}
    assert world.queue.depths().result() == {"free": Depth(0, 0, None)}


def test_a_row_that_another_server_has_locked_is_left_for_the_next_call(tmp_path: Path) -> None:
    with PostgresWorld(tmp_path) as world:
        locked, free = world.submit(canary=True), world.submit(canary=True)
        with psycopg.connect(world.url) as other:
            other.execute("SELECT 1 FROM predictions WHERE id = %s FOR UPDATE", [locked])
            assert world.queue.end_canary("free").result(10) == 1
            assert (world.get(locked).canary, world.get(free).canary) == (True, False)
        assert world.queue.end_canary("free").result(10) == 1


def test_two_servers_that_lease_both_lanes_never_get_the_same(tmp_path: Path) -> None:
    with PostgresWorld(tmp_path) as world, world.open() as second:
        world.job()
        world.job("canary")
        ids = [world.submit(canary=at % 2 == 0) for at in range(200)]
        other = Queue(second)
        leases: list[Callable[[], list[str]]] = []
        for _ in range(10):
            for queue, job, canary in ((world.queue, "job", False), (other, "canary", True)):
                future = queue.lease("free", job, 5, MANY, 30.0, canary=canary)
                leases.append(lambda future=future: [one.id for one in future.result(20).leased])  # type: ignore[misc]
        moved = [other.end_canary("free") for _ in range(4)]
        taken = [one for lease in leases for one in lease()]
        moves = sum(future.result(20) for future in moved)
        assert len(taken) == len(set(taken)) == 100
        depth = world.queue.depths().result()["free"]
        assert (depth.queued, depth.leased, depth.canary and depth.canary.leased) == (100, 100, 50)
        assert moves == 50
        assert {world.get(one).canary for one in ids if one not in taken} == {False}


def test_a_job_says_which_model_its_worker_runs(world: World) -> None:
    world.restart()
    assert {row.name: row.model for row in world.queue.jobs().result()} == {"job": "", "canary": NEW}


def test_each_model_has_strikes_of_its_own(world: World) -> None:
    def crash(name: str, model: str) -> None:
        world.job(name, model=model)
        world.queue.end_job(name, f"{name} crashed").result()
        world.clock.advance(1)

    for name, model in (("a", OLD), ("b", NEW), ("c", NEW), ("d", OLD)):
        crash(name, model)
    ended = world.clock.now
    assert world.queue.strikes("free", NEW).result() == Strikes(2, "c crashed", ended - 2)
    assert world.queue.strikes("free", OLD).result() == Strikes(2, "d crashed", ended - 1)
    assert world.queue.strikes("free").result() == Strikes(4, "d crashed", ended - 1)
    assert world.queue.strikes("premium", NEW).result().count == 0
    # Work that a live Job of one model gets forgives that model, and not the other.
    world.submit(canary=True)
    world.lease("canary", canary=True)
    assert world.queue.strikes("free", NEW).result().count == 0
    assert world.queue.strikes("free", OLD).result().count == 2
    world.queue.end_job("canary", "it left", blame=False).result()
    crash("e", NEW)
    assert world.queue.strikes("free", NEW).result().count == 1
