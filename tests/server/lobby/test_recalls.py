"""A recalled worker gets nothing more, whatever it was doing, and what it hands back waits where it stood."""

from __future__ import annotations

import pytest

from server.models import OUTDATED
from server.queue import Status
from tests.server.lobby.lobby_world import RECALLED, LobbyWorld

OLD, NEW = "flowers@11111111", "flowers@22222222"


def test_what_a_recalled_worker_has_not_begun_waits_where_it_stood_and_costs_no_attempt(world: LobbyWorld) -> None:
    ids = [world.enter().id if number % 2 else world.submit() for number in range(8)]
    hand = world.hand("lent", 8)
    assert hand.ids == ids
    last = world.enter()
    world.recall("lent")
    assert (hand.retired, world.handout.has_workers(("free", False))) == ([RECALLED], False)
    hand.release(*ids[1:])
    assert hand.finish(ids[0]) == ["accepted"]
    other = world.hand("other", 9)
    assert other.ids == [*ids[1:], last.id]
    assert {(one.attempt, one.solo) for one in other.holds.values()} == {(1, False)}
    assert other.finish() == ["accepted"] * 8
    assert (hand.ids, world.depth().queued) == (ids, 0)


def test_what_a_recalled_worker_hands_back_goes_at_once_to_one_that_waits(world: LobbyWorld) -> None:
    lent, other = world.hand("lent", 2), world.hand("other")
    first, second = world.enter(), world.enter()
    assert lent.ids == [first.id, second.id]
    other.grant(5)
    world.recall("lent")
    lent.release()
    assert other.ids == [first.id, second.id]
    later = world.enter()
    lent.grant(5)
    assert (lent.ids, other.ids[2:]) == ([first.id, second.id], [later.id])


def test_a_recalled_worker_that_has_not_asked_yet_gets_nothing(world: LobbyWorld) -> None:
    hand, client = world.hand("lent"), world.enter()
    world.recall("lent")
    assert hand.grant(5).ids == []
    assert world.hand("other", 1).ids == [client.id]


def test_what_is_being_leased_to_a_worker_while_it_is_recalled_goes_back_at_no_cost(world: LobbyWorld) -> None:
    hand, stored = world.hand("lent"), world.submit()
    world.handout.look()
    with world.writer_held():
        world.do(lambda: world.handout.grant(hand, 1), calm=False)
        world.until(lambda: world.leases > 0)
        recalled = world.queue.recall_job("lent", RECALLED)
    assert recalled.result()
    world.calm()
    given = hand.ids  # nothing, or what was leased before the recall was heard, and is handed back
    if given:
        hand.release()
    assert hand.retired == [RECALLED]
    assert (world.get(stored).status, world.get(stored).attempts) == (Status.QUEUED, 0)
    assert world.hand("other", 1).ids == [stored]


def test_a_lease_that_is_committed_after_the_recall_was_heard_goes_back_at_no_cost(world: LobbyWorld) -> None:
    hand, stored = world.hand("lent"), world.submit()
    world.handout.look()
    with world.writer_held():
        world.do(lambda: world.handout.grant(hand, 1), calm=False)
        world.until(lambda: world.leases > 0)
        world.recalls.add("lent", RECALLED)
        world.do(world.handout.recalls_changed, calm=False)
    world.calm()
    assert (hand.ids, hand.retired) == ([], [RECALLED])
    assert (world.get(stored).status, world.get(stored).attempts) == (Status.QUEUED, 0)
    assert world.hand("other", 1).ids == [stored]


@pytest.mark.parametrize("begun", [True, False])
def test_a_recalled_worker_finishes_a_prediction_that_is_alone_or_hands_it_back_as_it_was(
    world: LobbyWorld, begun: bool
) -> None:
    world.hand("crashed", 1)
    stored = world.submit()
    world.queue.end_job("crashed", "exit code 1").result()
    hand = world.hand("lent", 5)
    assert [(one.id, one.solo, one.attempt) for one in hand.holds.values()] == [(stored, True, 2)]
    world.recall("lent")
    if begun:
        assert hand.finish() == ["accepted"]
        assert (world.get(stored).status, world.get(stored).attempts) == (Status.SUCCEEDED, 2)
    else:
        hand.release()
        assert (world.get(stored).status, world.get(stored).attempts) == (Status.QUEUED, 1)
        other = world.hand("other", 5)
        assert [(one.id, one.solo, one.attempt) for one in other.holds.values()] == [(stored, True, 2)]


def test_a_worker_that_was_recalled_while_it_had_no_connection_is_told_when_it_comes_back(world: LobbyWorld) -> None:
    hand = world.hand("lent", 2)
    first, second = world.enter(), world.enter()
    hand.leave()
    world.recall("lent")
    again = hand.again(first.id)
    assert again.retired == [RECALLED]
    assert again.finish() == ["accepted"]
    assert again.grant(5).ids == []
    assert world.hand("other", 1).ids == [second.id]


def test_a_worker_is_told_within_a_second_if_the_notice_of_its_recall_was_lost(world: LobbyWorld) -> None:
    world.deaf = True
    hand = world.hand("lent")
    world.recall("lent")
    assert hand.retired == []
    world.looks_at_tiers()
    assert hand.retired == [RECALLED]
    assert world.hand("never heard of").retired == []
    hand.leave()
    assert hand.again().retired == [RECALLED]


def test_a_worker_is_told_once_to_end_whatever_it_is_told_to_end_for(world: LobbyWorld) -> None:
    world.serve(OLD)
    recalled, outdated = world.hand("recalled", 1, model=OLD), world.hand("outdated", 1, model=OLD)
    world.recall("recalled")
    world.serve(NEW)
    world.recall("outdated")
    world.looks_at_tiers()
    assert (recalled.retired, outdated.retired) == ([RECALLED], [OUTDATED])


def test_while_a_frame_is_on_its_way_to_a_recalled_worker_nothing_is_lost(world: LobbyWorld) -> None:
    hand = world.hand("lent")
    hand.slow = True
    hand.grant(2)
    first = world.enter()
    world.recall("lent")
    second = world.enter()
    hand.was_sent()
    assert (hand.ids, hand.retired) == ([first.id], [RECALLED])
    hand.release()
    assert world.hand("other", 5).ids == [first.id, second.id]


def test_what_never_reached_a_recalled_worker_waits_again_when_its_job_has_ended(world: LobbyWorld) -> None:
    hand = world.hand("lent", 2)
    client, stored = world.enter(), world.submit()
    world.recall("lent")
    hand.leave()
    world.lobby_ends()
    world.queue.end_job("lent", "", blame=False).result()
    world.calm()
    other = world.hand("other", 5)
    assert other.ids == [client.id, stored]
    assert {(one.attempt, one.solo) for one in other.holds.values()} == {(1, False)}


def test_the_leader_is_told_when_a_recalled_worker_has_left_and_not_when_another_has(world: LobbyWorld) -> None:
    told: list[str] = []
    world.handout.vacated = lambda: told.append("left")
    lent, other = world.hand("lent"), world.hand("other")
    world.recall("lent")
    assert told == []
    other.leave()
    assert told == []
    lent.leave()
    assert told == ["left"]
