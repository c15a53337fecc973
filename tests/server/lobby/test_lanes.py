"""Lanes: each worker gets what its own model is to classify, also while the models of a tier change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.models import OUTDATED
from server.queue import Depth, Lane, Status, StorageError
from tests.server.lobby.lobby_world import Hand, LobbyWorld
from tests.server.queue.queue_world import completion

OLD, NEW, OTHER = "flowers@11111111", "flowers@22222222", "flowers@33333333"


def both(world: LobbyWorld, wants: int = 9) -> tuple[Hand, Hand]:
    """A worker of the main model and one of the canary."""
    world.serve(OLD, NEW)
    return world.hand("main", wants, model=OLD), world.hand("canary", wants, model=NEW)


def test_each_worker_gets_what_is_of_its_lane_of_lobby_and_table(world: LobbyWorld) -> None:
    main, canary = both(world)
    of_main = [world.enter().id, world.submit(), world.enter().id]
    of_canary = [world.submit(canary=True), world.enter(canary=True).id, world.submit(canary=True)]
    assert (main.ids, canary.ids) == (of_main, of_canary)
    assert main.finish() == canary.finish() == ["accepted"] * 3
    assert world.depth() == Depth(0, 0, None)


def test_what_no_worker_of_its_lane_can_take_waits(world: LobbyWorld) -> None:
    world.serve(OLD, NEW)
    main = world.hand("main", 9, model=OLD)
    client, stored = world.enter(canary=True), world.submit(canary=True)
    last = world.enter()
    assert main.ids == [last.id]
    assert (world.handout.has_workers(("free", False)), world.handout.has_workers(("free", True))) == (True, False)
    assert world.hand("canary", 9, model=NEW).ids == [client.id, stored]


def test_each_lane_is_counted_and_positions_count_both(world: LobbyWorld) -> None:
    main, canary = both(world, wants=0)
    clients = [world.enter(canary=number % 2 == 1) for number in range(5)]
    world.submit(canary=True)
    oldest = clients[1].entry.accepted_at
    assert world.depth() == Depth(6, 0, clients[0].entry.accepted_at, 648, Lane(3, 0, oldest))
    assert world.lobby.ahead_of("free", clients[4].entry.place) == 4
    canary.grant(1)
    main.grant(1)
    assert world.depth().canary == Lane(2, 1, clients[3].entry.accepted_at)
    assert (world.depth().queued, world.depth().leased) == (4, 2)


def test_a_burst_for_one_lane_is_shared_among_the_workers_of_that_lane(world: LobbyWorld) -> None:
    world.serve(OLD, NEW)
    for _ in range(4):
        world.enter(canary=True)
    hands = [world.hand(f"main-{number}", 64, model=OLD) for number in range(3)]
    first, second = world.hand("first", model=NEW), world.hand("second", model=NEW)
    assert len(first.grant(64).ids) == 2
    assert len(second.grant(64).ids) == 1
    assert not any(hand.ids for hand in hands)


def test_a_worker_whose_model_nobody_knows_works_for_the_main_model(world: LobbyWorld) -> None:
    unknown, early = world.hand("unknown", 1), world.hand("early", 1, model=OTHER)
    for _ in range(2):
        world.enter()
    assert (len(unknown.ids), len(early.ids), early.retired) == (1, 1, [])
    world.serve(OLD, NEW)
    assert (unknown.retired, early.retired) == ([], [OUTDATED])
    unknown.grant(1)
    client = world.enter()
    world.enter(canary=True)
    assert unknown.ids[1:] == [client.id]


def test_an_outdated_worker_is_told_once_finishes_what_it_holds_and_gets_nothing_more(world: LobbyWorld) -> None:
    world.serve(OLD)
    old = world.hand("old", 3, model=OLD)
    held = [world.enter(), world.enter()]
    world.serve(NEW)
    waits, stored = world.enter(), world.submit()
    world.serve(NEW, OTHER)
    world.do(world.handout.look)
    assert (old.retired, old.ids) == ([OUTDATED], [one.id for one in held])
    assert not world.handout.has_workers(("free", False))
    new = world.hand("new", 9, model=NEW)
    assert new.ids == [waits.id, stored]
    assert old.finish() == ["accepted"] * 2
    assert new.finish() == ["accepted"] * 2
    assert {one.status for one in (*held, waits)} == {Status.SUCCEEDED}


def test_what_an_outdated_worker_hands_back_waits_for_the_new_model_where_it_stood(world: LobbyWorld) -> None:
    world.serve(OLD)
    old = world.hand("old", 2, model=OLD)
    first, second = world.enter().id, world.submit()
    third = world.enter().id
    world.serve(NEW)
    old.release()
    new = world.hand("new", 9, model=NEW)
    assert new.ids == [first, second, third]
    assert new.holds[second].attempt == 1


def test_an_outdated_worker_is_told_when_it_comes_and_on_each_new_connection(world: LobbyWorld) -> None:
    world.serve(OLD)
    hand = world.hand("late", 1, model=OLD)
    client = world.enter()
    world.serve(NEW)
    again = hand.again(client.id)
    assert (again.retired, again.finish()) == ([OUTDATED], ["accepted"])
    assert world.hand("never", 5, model=OTHER).retired == [OUTDATED]


def test_a_worker_that_was_told_to_end_gets_nothing_when_its_model_is_served_again(world: LobbyWorld) -> None:
    world.serve(OLD)
    hand = world.hand("job", 5, model=OLD)
    world.serve(NEW)
    world.serve(OLD)
    client = world.enter()
    assert (hand.retired, hand.ids) == ([OUTDATED], [])
    assert world.hand("next", 5, model=OLD).ids == [client.id]


def test_work_that_was_asked_for_before_the_model_changed_goes_back_at_no_cost(world: LobbyWorld) -> None:
    world.serve(OLD)
    hand = world.hand("old", model=OLD)
    stored = world.submit()
    world.handout.look()
    with world.writer_held():
        world.do(lambda: world.handout.grant(hand, 1), calm=False)
        world.until(lambda: world.leases > 0)
        world.serve(NEW, calm=False)
    world.calm()
    assert (hand.ids, hand.retired) == ([], [OUTDATED])
    assert (world.get(stored).status, world.get(stored).attempts) == (Status.QUEUED, 0)
    new = world.hand("new", 1, model=NEW)
    assert new.ids == [stored]
    assert new.holds[stored].attempt == 1


def test_a_canary_that_is_made_the_main_model_goes_on_with_the_same_workers(world: LobbyWorld) -> None:
    main, canary = both(world, wants=2)
    held = world.enter(canary=True)
    for _ in range(2):
        world.enter()
    late = [world.enter(canary=True), world.enter(), world.enter(canary=True)]
    world.serve(NEW)
    assert (main.retired, canary.retired) == ([OUTDATED], [])
    canary.grant(9)
    assert canary.ids == [held.id, *(one.id for one in late)]
    assert len(main.ids) == 2
    assert main.finish() == ["accepted"] * 2
    assert canary.finish() == ["accepted"] * 4


@pytest.mark.parametrize("percent", [None, 0.0])
def test_what_waits_for_a_canary_that_ends_waits_for_the_main_model_where_it_stood(
    world: LobbyWorld, percent: float | None
) -> None:
    world.serve(OLD, NEW)
    ids = [world.enter(canary=number % 2 == 1).id for number in range(6)]
    main = world.hand("main", 1, model=OLD)
    if percent is None:
        world.serve(OLD)
    else:
        world.serving["free"] = replace(world.serving["free"], percent=percent)
        world.do(world.handout.served_changed)
    late = world.enter(canary=True)  # its lane was chosen a moment ago
    main.grant(9)
    assert main.ids == [*ids, late.id]
    assert world.depth() == Depth(0, 7, None, 7 * 108)


def test_what_a_canary_holds_when_it_ends_waits_for_the_main_model_when_it_comes_back(world: LobbyWorld) -> None:
    main, canary = both(world)
    held = [world.enter(canary=True), world.enter(canary=True)]
    world.serve(OLD)
    assert world.depth().canary is None
    assert canary.finish(held[0].id) == ["accepted"]
    canary.release()
    assert main.ids == [held[1].id]
    assert main.finish() == ["accepted"]
    assert canary.retired == [OUTDATED]


def test_what_could_not_be_kept_while_its_canary_ended_waits_for_the_main_model(failing_world: LobbyWorld) -> None:
    world = failing_world
    world.serve(OLD, NEW)
    client = world.enter(canary=True)
    world.blobs.released.clear()
    world.clock.advance(1)
    world.until(lambda: client.id in world.lobby.book.keeping)
    world.serve(OLD, calm=False)
    vars(world.base.database)["write_failure"] = StorageError("the disk refused")
    world.blobs.released.set()
    world.until(lambda: client.id not in world.lobby.book.keeping)
    vars(world.base.database)["write_failure"] = None
    main = world.hand("main", 1, model=OLD)
    assert main.ids == [client.id]
    assert main.finish() == ["accepted"]


def test_what_is_kept_is_of_its_lane_and_after_the_canary_of_the_main_one(world: LobbyWorld) -> None:
    world.serve(OLD, NEW)
    kept, later = world.enter(canary=True), world.enter(canary=True)
    assert kept.keep().canary
    world.serve(OLD)
    assert not later.keep().canary
    main = world.hand("main", 2, model=OLD)
    assert main.ids == [later.id]
    assert world.queue.end_canary("free").result() == 1
    world.calm()
    assert main.ids == [later.id, kept.id]


def test_a_newcomer_waits_for_no_turns_that_only_a_canary_has_done(world: LobbyWorld) -> None:
    _, canary = both(world, wants=0)
    for number in range(10):
        world.enter(canary=number % 2 == 1, caller="anna")
    canary.grant(9)
    assert len(canary.ids) == 5
    assert world.enter(caller="ben").entry.place[1] == 1


def test_a_canary_brings_its_tier_from_turn_to_turn_when_nothing_else_waits(world: LobbyWorld) -> None:
    _, canary = both(world)
    for _ in range(5):
        world.enter(canary=True, caller="anna")
    assert len(canary.ids) == 5
    assert world.enter(canary=True, caller="ben").entry.place[1] == 6


@pytest.mark.parametrize("kept", [False, True])
def test_a_result_that_names_another_model_than_its_jobs_is_invalid(world: LobbyWorld, kept: bool) -> None:
    world.serve(OLD)
    hand = world.hand("job", 1, model=OLD)
    client = world.enter()
    if kept:
        client.keep()
    wrong = [replace(completion(client.id, hand.holds[client.id].token), model=NEW)]
    right = [replace(wrong[0], model=OLD)]
    assert world.run(world.lobby.complete(hand.worker, wrong, 3, OLD)) == ["invalid"]
    world.calm()
    assert (world.get(client.id).status, world.get(client.id).attempts) == (Status.QUEUED, 1)
    assert NEW in world.get(client.id).reason
    assert world.run(world.lobby.complete(hand.worker, right, 3, OLD)) == ["accepted"]
    world.calm()
    assert world.get(client.id).model == OLD
