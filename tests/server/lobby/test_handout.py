"""Who is given what, of lobby and table together: in one order, alone if it must be, and shared among workers."""

from __future__ import annotations

import math

import pytest

from server.lobby.handout import LOOK_AGAIN_SECONDS, UNKNOWN_JOB
from server.lobby.lobby import LARGEST_BYTES
from server.queue import HELD_BYTES, HELD_MOST, Anything, Arrival, Available, Hold, Status, StorageError, new_token
from tests.server.lobby.lobby_world import LOBBY_SECONDS, LobbyWorld


def solo(world: LobbyWorld) -> str:
    """A prediction of the table that must be leased alone, as a worker died with it."""
    world.clock.advance(0.001)
    one = world.base.submission(size=108)
    arrival = Arrival(one, world.clock.now, 0.0, Hold("unlucky", new_token("unlucky"), world.clock.now))
    world.queue.keep(arrival, 3, 30.0, "its worker died").result()
    world.calm()
    return one.id


def test_what_was_accepted_first_goes_first_wherever_it_is(world: LobbyWorld) -> None:
    ids = [world.enter().id, world.submit(), world.submit(), world.enter().id, world.enter().id, world.submit()]
    hand = world.hand()
    for _ in ids:
        hand.grant(1)
    assert hand.ids == ids
    assert hand.finish() == ["accepted"] * 6


@pytest.mark.parametrize("most", [2, 3, 64])
def test_many_credits_get_the_same_order_as_one(world: LobbyWorld, most: int) -> None:
    ids = [world.submit() if number % 3 else world.enter().id for number in range(9)]
    hand = world.hand()
    for _ in range(9 // most + 1):
        hand.grant(most)
    assert hand.ids == ids


def test_a_smaller_priority_goes_first_in_lobby_and_table(world: LobbyWorld) -> None:
    late, low = world.enter(priority=1).id, world.submit(priority=0)
    first, second = world.enter(priority=-1).id, world.submit(priority=-1)
    hand = world.hand()
    for _ in range(4):
        hand.grant(1)
    assert hand.ids == [first, second, low, late]


def test_what_is_kept_and_what_is_handed_back_stay_in_their_places(world: LobbyWorld) -> None:
    first, second, third = world.enter(), world.submit(), world.enter()
    fourth = world.submit()
    first.keep()
    third.keep()
    hand = world.hand(wants=2)
    assert hand.ids == [first.id, second]
    hand.release()
    hand.leave()
    other = world.hand("other", wants=4)
    assert other.ids == [first.id, second, third.id, fourth]


def test_a_credit_is_used_once(world: LobbyWorld) -> None:
    hand = world.hand(wants=2)
    ids = [world.enter().id for _ in range(4)]
    assert hand.ids == ids[:2]
    assert hand.grant(1).ids == ids[:3]
    assert hand.grant(5).ids == ids
    later = [world.submit(), world.enter().id]
    assert hand.ids == ids + later


def test_workers_get_work_of_their_tier_only(world: LobbyWorld) -> None:
    free, premium = world.hand(wants=9), world.hand("best", wants=9, tier="premium")
    ours, theirs = world.enter(), world.enter(tier="premium")
    stored = world.submit(tier="premium")
    assert (free.ids, premium.ids) == ([ours.id], [theirs.id, stored])


def test_a_burst_is_shared_among_the_workers(world: LobbyWorld) -> None:
    for _ in range(4):
        world.enter()
        world.submit()
    hands = [world.hand(f"job-{number}") for number in range(4)]
    for hand in hands:
        world.do(lambda hand=hand: world.handout.grant(hand, 64), calm=False)  # type: ignore[misc]
    world.calm()
    assert sorted(len(hand.ids) for hand in hands) == [2, 2, 2, 2]


def test_an_idle_worker_comes_before_a_busy_one(world: LobbyWorld) -> None:
    busy, idle = world.hand("busy", wants=2), world.hand("idle")
    first = world.enter()
    assert first.id in busy.ids
    idle.grant(1)
    second = world.enter()
    assert second.id in idle.ids


@pytest.mark.parametrize("names", [("one", "two"), ("two", "one")])
def test_of_idle_workers_the_one_that_was_last_given_work_comes_first(
    world: LobbyWorld, names: tuple[str, str]
) -> None:
    hands = {}
    for name in ("one", "two"):
        hands[name] = world.hand(name)
        world.clock.advance(0.1)
    for name in names:
        hands[name].grant(1)
        world.enter()
        hands[name].finish()
        world.clock.advance(0.1)
    for hand in hands.values():
        hand.grant(1)
    last = world.enter()
    assert last.id in hands[names[1]].ids
    assert world.enter().id in hands[names[0]].ids


def test_nothing_is_delivered_while_a_frame_is_on_its_way(world: LobbyWorld) -> None:
    hand = world.hand(wants=5)
    hand.slow = True
    first = world.enter()
    second, third = world.enter(), world.submit()
    assert hand.ids == [first.id]
    hand.was_sent()
    assert hand.ids == [first.id, second.id, third]


def test_frames_are_bounded_and_a_job_holds_no_more_than_it_may(small: LobbyWorld) -> None:
    half = LARGEST_BYTES // 2
    ids = [small.enter(size=half, calm=False).id for _ in range(3)]
    small.calm()
    hand = small.hand(wants=9)
    assert [len(frame) for frame in hand.frames] == [2]
    assert [len(frame) for frame in hand.grant(1).frames] == [2, 1]
    hand.finish()
    assert hand.ids == ids


def test_a_job_holds_64_at_most_and_gets_more_when_it_has_finished_some(small: LobbyWorld) -> None:
    for _ in range(HELD_MOST + 2):
        small.enter(calm=False)
    small.calm()
    hand = small.hand(wants=HELD_MOST)
    hand.grant(HELD_MOST)
    assert len(hand.ids) == len(hand.holds) == HELD_MOST
    hand.finish(hand.ids[0])
    assert len(hand.ids) == HELD_MOST + 1


def test_a_job_holds_so_many_bytes_at_most_but_two_always_fit(small: LobbyWorld) -> None:
    hand = small.hand(wants=9)
    large = [small.submit(size=HELD_BYTES, stored=108) for _ in range(2)]
    last = small.enter()
    assert hand.ids == large
    hand.finish(large[0])
    assert hand.ids == [*large, last.id]


def test_a_solo_prediction_of_the_table_is_not_overtaken_by_the_lobby(world: LobbyWorld) -> None:
    hand = world.hand(wants=3)
    first = world.enter()
    alone = solo(world)
    after = world.enter()
    assert hand.ids == [first.id]
    hand.finish()
    assert hand.ids == [first.id, alone]
    assert hand.holds[alone].solo
    hand.finish()
    assert hand.ids == [first.id, alone, after.id]


def test_a_solo_prediction_goes_to_a_worker_that_is_idle(world: LobbyWorld) -> None:
    busy = world.hand("busy", wants=3)
    first = world.enter()
    alone = solo(world)
    idle = world.hand("idle", wants=1)
    after = world.enter()
    assert (busy.ids, idle.ids) == ([first.id, after.id], [alone])


def test_a_worker_with_a_solo_prediction_gets_nothing_else(world: LobbyWorld) -> None:
    alone = solo(world)
    hand = world.hand(wants=3)
    after, stored = world.enter(), world.submit()
    assert hand.ids == [alone]
    world.handout.look()
    world.passes(LOOK_AGAIN_SECONDS)
    assert hand.ids == [alone]
    assert hand.finish() == ["accepted"]
    assert hand.ids == [alone, after.id, stored]


def test_a_worker_that_comes_back_with_a_solo_prediction_gets_nothing_else(world: LobbyWorld) -> None:
    alone = solo(world)
    again = world.hand(wants=1).again(alone)
    again.grant(2)
    after = world.enter()
    assert again.ids == []
    assert again.finish() == ["accepted"]
    assert again.ids == [after.id]


def test_what_is_being_kept_is_held_too_when_a_solo_prediction_waits(world: LobbyWorld) -> None:
    hand = world.hand(wants=2)
    client = world.enter()
    world.blobs.released.clear()
    world.clock.advance(LOBBY_SECONDS * 2)
    world.until(lambda: client.id in world.lobby.book.keeping)
    one = world.base.submission(size=108)
    arrival = Arrival(one, world.clock.now, 0.0, Hold("unlucky", new_token("unlucky"), world.clock.now))
    world.queue.keep(arrival, 3, 30.0, "its worker died").result()
    for _ in range(20):
        world.do(lambda: None, calm=False)
        world.base.heard()
    world.blobs.released.set()
    world.calm()
    assert hand.ids == [client.id]


def test_the_table_is_not_asked_while_it_has_nothing(world: LobbyWorld) -> None:
    hand = world.hand(wants=1)
    before = world.leases
    for _ in range(5):
        world.enter()
        hand.finish()
        hand.grant(1)
    assert world.leases == before
    world.submit()
    assert world.leases == before + 1
    assert len(hand.ids) == 6


def test_a_request_that_leaves_the_lobby_while_the_table_is_asked_leaves_nothing_waiting(world: LobbyWorld) -> None:
    """The table is asked up to the place of the lobby's first; when that has gone, it must be asked for the rest."""
    client = world.enter()
    stored = world.submit()
    hand = world.hand()
    with world.writer_held():
        world.do(lambda: world.handout.grant(hand, 1), calm=False)
        world.until(lambda: world.leases > 0)
        client.hang_up()
    world.calm()
    assert hand.ids == [stored]


def test_a_second_credit_goes_to_the_table_when_the_lobby_had_the_first(world: LobbyWorld) -> None:
    client = world.enter()
    stored = world.submit()
    hand = world.hand(wants=2)
    assert hand.ids == [client.id, stored]


def test_a_table_that_cannot_be_asked_is_asked_again_later(failing_world: LobbyWorld) -> None:
    world = failing_world
    world.base.job()
    vars(world.base.database)["failure"] = StorageError("the disk refused")
    hand = world.hand_without_take_up(wants=2)
    client = world.enter()
    assert hand.ids == []
    before = world.leases
    world.passes(LOOK_AGAIN_SECONDS)
    assert world.leases - before <= 1
    vars(world.base.database)["failure"] = None
    world.passes(LOOK_AGAIN_SECONDS)
    world.lobby_ends()
    world.passes(LOOK_AGAIN_SECONDS)
    assert hand.ids == [client.id]


def test_anything_may_mean_work(failing_world: LobbyWorld) -> None:
    world = failing_world
    hand = world.hand(wants=1)
    vars(world.base.database)["mute"] = True
    stored = world.submit()
    assert hand.ids == []
    world.do(lambda: world.hear([Anything()]))
    assert hand.ids == [stored]


def test_news_that_is_lost_costs_a_moment_only(failing_world: LobbyWorld) -> None:
    world = failing_world
    hand = world.hand(wants=1)
    vars(world.base.database)["mute"] = True
    stored = world.submit()
    world.passes(LOOK_AGAIN_SECONDS)
    assert hand.ids == [stored]


def test_a_job_that_is_over_is_dismissed_when_it_asks(world: LobbyWorld) -> None:
    hand, other = world.hand(wants=1), world.hand("other")
    world.queue.end_job("job", "exit code 1").result()
    stored = world.submit()
    assert hand.dismissed is not None
    assert hand.dismissed[0] == UNKNOWN_JOB
    assert other.grant(1).ids == [stored]
    assert world.handout.has_workers(("free", False))
    other.leave()
    assert not world.handout.has_workers(("free", False))


def test_an_entry_that_finds_no_worker_is_told_of(small: LobbyWorld) -> None:
    told: list[int] = []
    small.handout.unserved = lambda: told.append(1)
    hand = small.hand(wants=1)
    small.enter()
    assert told == []
    small.enter()
    assert told == [1]
    assert hand.grant(1).finish() == ["accepted"] * 2


def test_when_it_has_stopped_nothing_more_is_handed_out(world: LobbyWorld) -> None:
    hand, waiting = world.hand(wants=1), world.hand("waiting", wants=3)
    first = world.enter()
    world.do(world.handout.stop)
    assert (hand.stopped, waiting.stopped) == (True, True)
    assert not world.handout.has_workers(("free", False))
    client, stored = world.enter(), world.submit()
    late = world.hand("late", wants=2)
    assert late.stopped
    assert sorted([*hand.ids, *waiting.ids, *late.ids]) == [first.id]
    world.lobby_ends()
    assert client.status is Status.QUEUED
    assert world.get(stored).status is Status.QUEUED
    assert hand.finish() == ["accepted"]


def test_a_worker_that_is_gone_gets_nothing(world: LobbyWorld) -> None:
    hand = world.hand(wants=5)
    hand.leave()
    client, stored = world.enter(), world.submit()
    assert hand.grant(5).ids == []
    assert world.hand("other", wants=2).ids == [client.id, stored]


def test_the_queue_is_told_that_a_job_works_for_the_lobby(world: LobbyWorld) -> None:
    hand = world.hand(wants=1)
    world.enter()
    (row,) = world.queue.jobs().result()
    assert row.leased_at == pytest.approx(world.clock.now, abs=0.01)
    hand.finish()
    world.clock.advance(0.5)
    hand.grant(1)
    world.enter()
    (row,) = world.queue.jobs().result()
    assert row.leased_at is not None
    assert math.isclose(row.leased_at, world.clock.now - 0.5, abs_tol=0.01)  # not so soon again


def test_available_tells_waiting_workers_one_by_one(world: LobbyWorld) -> None:
    hands = [world.hand(f"job-{number}", wants=1) for number in range(3)]
    before = world.leases
    world.submit()
    assert world.leases == before + 1
    assert sum(len(hand.ids) for hand in hands) == 1
    world.do(lambda: world.hear([Available("free")]))
    assert sum(len(hand.ids) for hand in hands) == 1
