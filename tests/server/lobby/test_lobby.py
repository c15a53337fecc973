"""What becomes of a request in the lobby: worked on, kept, settled or withdrawn. Nothing of it stays in memory."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from server.blobs import BlobError
from server.lobby.lobby import LARGEST_BYTES, LOBBY_BYTES
from server.queue import OutcomeUnknown, Prediction, QueueError, Status, StorageError, UnknownJob, new_token
from tests.server.lobby.lobby_world import LOBBY_SECONDS, LobbyWorld
from tests.server.queue.queue_world import RESULTS, completion

LEASE = 30.0


def empty(world: LobbyWorld) -> bool:
    """Whether nothing is left of any request."""
    book = world.lobby.book
    depths = [book.depth(tier) for tier in ("free", "premium")]
    counts = [(depth.queued, depth.leased, depth.oldest, depth.bytes) for depth in depths]
    return world.memory.used() == book.count == 0 and counts == [(0, 0, None, 0)] * 2


def failing(world: LobbyWorld, error: QueueError | None) -> None:
    vars(world.base.database)["write_failure"] = error


def test_a_result_is_durable_before_its_client_hears_of_it(world: LobbyWorld) -> None:
    hand, client = world.hand(wants=1), world.enter()
    assert hand.ids == [client.id]
    assert b"".join(map(bytes, hand.frames[0][0].blob or [])).endswith(bytes(100))
    with world.writer_held():
        token = hand.holds[client.id].token
        assert world.run(hand.complete([completion(client.id, token)])) == ["accepted"]
        assert (client.outcome, client.told) == (None, 0)
    world.until(lambda: client.outcome is not None)
    assert client.told == 1
    world.calm()
    prediction = world.get(client.id)
    assert prediction == client.outcome
    assert (prediction.status, prediction.results, prediction.attempts) == (Status.SUCCEEDED, RESULTS, 1)
    assert (prediction.accepted_at, prediction.job) == (client.entry.accepted_at, "job")
    assert world.ended == [("free", Status.SUCCEEDED)]
    assert world.stored() == set()
    assert empty(world)


def test_the_same_result_again_is_a_duplicate_and_other_results_are_unknown(world: LobbyWorld) -> None:
    hand, client = world.hand(wants=1), world.enter()
    done = completion(client.id, hand.holds[client.id].token)
    assert hand.hand_in([done, done, completion(client.id, new_token("job"))]) == ["accepted", "duplicate", "unknown"]
    assert hand.hand_in([done]) == ["duplicate"]


def test_results_of_lobby_and_table_come_in_one_message(world: LobbyWorld) -> None:
    old = world.submit()
    hand = world.hand(wants=3)
    first, second = world.enter(), world.enter()
    assert hand.ids == [old, first.id, second.id]
    assert hand.finish(first.id, old, second.id) == ["accepted"] * 3
    assert {world.get(one).status for one in (old, first.id, second.id)} == {Status.SUCCEEDED}


def test_nobody_finishes_with_anothers_token(small: LobbyWorld) -> None:
    hand, other = small.hand(wants=1), small.hand("other")
    client = small.enter()
    assert other.hand_in([completion(client.id, hand.holds[client.id].token)]) == ["unknown"]
    assert other.hand_in([completion(client.id, new_token("other"))]) == ["unknown"]
    assert client.outcome is None
    assert hand.finish() == ["accepted"]


def test_what_waits_too_long_is_kept_with_its_pictures(world: LobbyWorld) -> None:
    client = world.enter()
    world.passes(LOBBY_SECONDS * 0.9)
    assert not world.has(client.id)
    world.lobby_ends()
    assert (client.status, client.told) == (Status.QUEUED, 1)
    assert client.outcome == world.get(client.id)
    assert world.stored() == {client.id}
    assert empty(world)
    hand = world.hand(wants=1)
    assert hand.ids == [client.id]
    assert hand.finish() == ["accepted"]


def test_what_is_worked_on_too_long_is_kept_with_its_lease(world: LobbyWorld) -> None:
    client = world.enter()
    world.passes(LOBBY_SECONDS * 0.8)
    hand = world.hand(wants=1)
    world.passes(LOBBY_SECONDS * 0.8)
    assert not world.has(client.id)
    world.lobby_ends()
    prediction = world.get(client.id)
    assert (prediction.status, prediction.job, prediction.attempts) == (Status.LEASED, "job", 1)
    assert client.outcome == prediction
    assert world.stored() == {client.id}
    assert empty(world)
    world.clock.advance(LEASE - 1)
    assert hand.renew() == []
    world.clock.advance(LEASE - 1)
    assert world.queue.reclaim({"free": 3}).result().requeued == 0
    assert hand.finish() == ["accepted"]
    assert world.get(client.id).status is Status.SUCCEEDED


def test_a_result_that_comes_while_its_prediction_is_kept_waits_for_that(world: LobbyWorld) -> None:
    hand, client = world.hand(wants=1), world.enter()
    world.blobs.released.clear()
    world.clock.advance(LOBBY_SECONDS * 2)
    world.until(lambda: client.id in world.lobby.book.keeping)
    handing = world.loop.create_task(hand.complete([completion(client.id, hand.holds[client.id].token)]))
    renewing = world.loop.create_task(world.lobby.renew(hand.worker, hand.pairs, LEASE))
    for _ in range(5):
        world.do(lambda: None, calm=False)
    assert not handing.done()
    assert not renewing.done()
    world.blobs.released.set()
    world.calm()
    assert handing.result() == ["accepted"]
    assert renewing.result() in ([], [client.id])
    assert client.status is Status.LEASED
    assert world.get(client.id).status is Status.SUCCEEDED


def test_nothing_is_lost_if_keeping_fails_while_its_result_waits(small: LobbyWorld) -> None:
    hand, client = small.hand(wants=1), small.enter()
    small.blobs.failure = BlobError("no room")
    small.blobs.released.clear()
    small.clock.advance(LOBBY_SECONDS * 2)
    small.until(lambda: client.id in small.lobby.book.keeping)
    handing = small.loop.create_task(hand.complete([completion(client.id, hand.holds[client.id].token)]))
    small.do(lambda: None, calm=False)
    small.blobs.released.set()
    small.calm()
    assert handing.result() == ["accepted"]
    assert client.status is Status.SUCCEEDED
    assert empty(small)


def test_a_client_whose_wait_ends_has_its_prediction_kept(world: LobbyWorld) -> None:
    waits = world.enter()
    assert waits.keep() == world.get(waits.id)
    hand = world.hand(wants=2)
    worked_on = world.enter()
    prediction = worked_on.keep()
    assert (prediction.status, prediction.job) == (Status.LEASED, "job")
    assert hand.ids == [waits.id, worked_on.id]
    assert [waits.told, worked_on.told] == [1, 1]
    assert empty(world)


def test_keeping_what_is_being_kept_or_settled_answers_with_that(world: LobbyWorld) -> None:
    hand, client = world.hand(wants=1), world.enter()
    with world.writer_held():
        world.run(hand.complete([completion(client.id, hand.holds[client.id].token)]))
        asked = world.loop.create_task(world.lobby.keep(client.entry))
        world.do(lambda: None, calm=False)
    world.calm()
    assert asked.result().status is Status.SUCCEEDED
    other = world.enter()
    world.blobs.released.clear()
    both = [world.loop.create_task(world.lobby.keep(other.entry)) for _ in range(2)]
    world.until(lambda: other.id in world.lobby.book.keeping)
    world.blobs.released.set()
    world.calm()
    assert [one.result() for one in both] == [world.get(other.id)] * 2
    assert world.run(world.lobby.keep(other.entry)) == world.get(other.id)


def test_a_client_that_hangs_up_in_time_is_not_worked_for(world: LobbyWorld) -> None:
    client = world.enter()
    client.hang_up()
    assert (client.outcome, client.told) == (None, 1)
    assert world.hand(wants=1).ids == []
    world.lobby_ends()
    assert not world.has(client.id)
    assert empty(world)


def test_a_client_that_hangs_up_too_late_changes_nothing(world: LobbyWorld) -> None:
    hand, client = world.hand(wants=1), world.enter()
    client.hang_up()
    assert hand.finish() == ["accepted"]
    client.hang_up()
    assert world.get(client.id).status is Status.SUCCEEDED
    assert client.told == 1
    kept = world.enter()
    world.blobs.released.clear()
    world.clock.advance(LOBBY_SECONDS * 2)
    world.until(lambda: kept.id in world.lobby.book.keeping)
    kept.hang_up()
    world.blobs.released.set()
    world.calm()
    assert world.get(kept.id).status is Status.QUEUED
    assert empty(world)


def test_an_invalid_result_loses_the_lease(world: LobbyWorld) -> None:
    hand, client = world.hand(wants=1), world.enter()
    assert hand.lie() == ["invalid"]
    prediction = world.get(client.id)
    assert (prediction.status, prediction.attempts) == (Status.QUEUED, 1)
    assert "2 results for 1 pictures" in prediction.reason
    other = world.hand("other", wants=2)
    assert [(one.attempt, one.solo) for one in other.holds.values()] == [(2, True)]


def test_the_last_invalid_result_ends_the_prediction(world: LobbyWorld) -> None:
    tier = world.settings.tiers["free"]
    strict = replace(tier, limits=replace(tier.limits, attempts=1))
    world.settings = replace(world.settings, tiers={**world.settings.tiers, "free": strict})
    hand, client = world.hand(wants=1), world.enter()
    assert hand.lie() == ["invalid"]
    assert client.status is Status.FAILED
    assert world.get(client.id).status is Status.FAILED
    assert world.ended == [("free", Status.FAILED)]
    assert world.stored() == set()


def test_what_a_job_held_that_is_over_is_lost_when_it_is_kept(world: LobbyWorld) -> None:
    hand, client = world.hand(wants=1), world.enter()
    hand.leave()
    world.queue.end_job("job", "exit code 1").result()
    world.lobby_ends()
    prediction = world.get(client.id)
    assert (prediction.status, prediction.attempts, prediction.reason) == (Status.QUEUED, 1, "its worker's Job is over")


def test_what_is_handed_back_waits_where_it_stood(world: LobbyWorld) -> None:
    hand = world.hand(wants=1)
    first = world.enter()
    second, third = world.enter(), world.enter()
    hand.release()
    assert [first.told, world.lobby.book.depth("free").queued] == [0, 3]
    hand.leave()
    other = world.hand("other", wants=3)
    assert other.ids == [first.id, second.id, third.id]
    assert {one.attempt for one in other.holds.values()} == {1}
    assert other.finish() == ["accepted"] * 3


def test_a_result_after_it_was_handed_back_is_unknown(small: LobbyWorld) -> None:
    hand, client = small.hand(wants=1), small.enter()
    token = hand.holds[client.id].token
    hand.release()
    assert hand.hand_in([completion(client.id, token)]) == ["unknown"]
    assert small.hand("other", wants=1).finish() == ["accepted"]


def test_a_worker_that_comes_back_hands_back_what_never_reached_it(world: LobbyWorld) -> None:
    old = world.submit()
    hand = world.hand(wants=4)
    first, second = world.enter(), world.enter()
    assert hand.ids == [old, first.id, second.id]
    again = hand.again(first.id)
    assert hand.dismissed is not None
    assert hand.dismissed[0] == 4409
    hand.leave()  # when its connection has ended; the new one stays
    assert again.grant(4).ids == [old, second.id]
    assert {one.attempt for one in again.holds.values()} == {1}
    assert again.finish() == ["accepted"] * 3


def test_what_is_being_kept_while_its_worker_comes_back_is_handed_back_too(world: LobbyWorld) -> None:
    hand, client = world.hand(wants=1), world.enter()
    world.blobs.released.clear()
    world.clock.advance(LOBBY_SECONDS * 2)
    world.until(lambda: client.id in world.lobby.book.keeping)
    coming = world.loop.create_task(world.lobby.take_up(hand.worker, [], LEASE))
    for _ in range(5):
        world.do(lambda: None, calm=False)
    world.blobs.released.set()
    world.calm()
    assert coming.result() == []
    assert (world.get(client.id).status, world.get(client.id).attempts) == (Status.QUEUED, 0)


def test_a_job_that_is_over_is_not_taken_up_and_loses_nothing_of_others(small: LobbyWorld) -> None:
    hand, client = small.hand(wants=1), small.enter()
    small.base.job("over")
    small.queue.end_job("over", "exit code 1").result()
    with pytest.raises(UnknownJob):
        small.run(small.lobby.take_up(replace(hand.worker, job="over"), [], LEASE))
    assert hand.renew() == []
    assert hand.finish() == ["accepted"]
    assert client.status is Status.SUCCEEDED


def test_renewing_tells_what_is_lost_in_lobby_and_table(world: LobbyWorld) -> None:
    old = world.submit()
    hand = world.hand(wants=2)
    client = world.enter()
    world.queue.cancel(old).result()
    stale = (client.id, new_token("job"))
    assert world.run(world.lobby.renew(hand.worker, [*hand.pairs, stale], LEASE)) == [old, client.id]
    assert world.run(world.lobby.renew(hand.worker, [(client.id, hand.holds[client.id].token)], LEASE)) == []


def test_a_renewal_waits_for_all_that_is_being_kept(world: LobbyWorld) -> None:
    hand = world.hand(wants=2)
    first = world.enter()
    world.clock.advance(LOBBY_SECONDS / 2)
    second = world.enter()
    gates = world.blobs.gates = {one.id: threading.Event() for one in (first, second)}
    world.clock.advance(LOBBY_SECONDS * 0.6)
    world.until(lambda: first.id in world.lobby.book.keeping)
    assert second.id not in world.lobby.book.keeping
    renewing = world.loop.create_task(world.lobby.renew(hand.worker, list(reversed(hand.pairs)), LEASE))
    world.do(lambda: None, calm=False)
    world.clock.advance(LOBBY_SECONDS)
    world.until(lambda: second.id in world.lobby.book.keeping)
    gates[first.id].set()
    world.until(lambda: first.outcome is not None)
    for _ in range(5):
        world.do(lambda: None, calm=False)
    gates[second.id].set()
    world.calm()
    assert renewing.result() == []
    assert hand.finish() == ["accepted"] * 2


def test_a_commit_that_fails_is_told_and_keeps_nothing(failing_world: LobbyWorld) -> None:
    world = failing_world
    hand = world.hand(wants=2)
    clients = [world.enter(), world.enter()]
    error = StorageError("the disk refused")
    failing(world, error)
    outcomes = world.run(hand.complete([completion(*pair) for pair in hand.pairs]))
    assert outcomes == ["accepted"] * 2
    world.calm()
    assert [client.outcome for client in clients] == [error] * 2
    failing(world, None)
    assert not any(world.has(client.id) for client in clients)
    assert world.ended == []
    assert empty(world)
    later = world.enter()
    assert hand.grant(1).ids[-1] == later.id
    assert hand.finish() == ["accepted"]


def test_results_are_taken_anew_if_the_table_cannot_be_asked(failing_world: LobbyWorld) -> None:
    world = failing_world
    old = world.submit()
    hand = world.hand(wants=2)
    client = world.enter()
    done = [completion(*pair) for pair in hand.pairs]
    with world.writer_held():
        settled = world.run(hand.complete(done[1:]))
        failing(world, StorageError("the disk refused"))
        with pytest.raises(StorageError):
            world.run(world.lobby.complete(hand.worker, done, 3))
    failing(world, None)
    world.calm()
    assert (settled, client.status) == (["accepted"], Status.SUCCEEDED)
    assert hand.hand_in(done) == ["accepted", "duplicate"]
    assert world.get(old).status is Status.SUCCEEDED


def test_what_cannot_be_kept_stays_and_is_tried_again(failing_world: LobbyWorld) -> None:
    world = failing_world
    hand = world.hand(wants=1)
    worked_on, waits = world.enter(), world.enter()
    for part in ("queue", "blobs"):
        if part == "queue":
            failing(world, StorageError("the disk refused"))
        else:
            world.blobs.failure = BlobError("no room")
        for _ in range(3):
            world.lobby_ends()
        failing(world, None)
        world.blobs.failure = None
        assert (worked_on.told, waits.told, world.lobby.book.count) == (0, 0, 2)
        assert not world.has(waits.id)
        assert world.stored() == set()
    world.lobby_ends()
    world.lobby_ends()
    assert [worked_on.status, waits.status] == [Status.LEASED, Status.QUEUED]
    assert hand.finish() == ["accepted"]
    assert empty(world)


def test_a_worker_gets_at_once_what_could_not_be_kept(failing_world: LobbyWorld) -> None:
    world = failing_world
    hand = world.hand(wants=1)  # it has asked the table, and knows that nothing waits there
    world.enter()
    assert hand.finish() == ["accepted"]
    client = world.enter()
    world.blobs.failure = BlobError("no room")
    world.blobs.released.clear()
    world.clock.advance(LOBBY_SECONDS * 2)
    world.until(lambda: client.id in world.lobby.book.keeping)
    world.do(lambda: world.handout.grant(hand, 1), calm=False)
    assert client.id not in hand.ids
    world.blobs.released.set()
    world.calm()
    assert hand.ids[-1] == client.id


def test_a_lost_lease_that_could_not_be_kept_is_lost_when_it_is(failing_world: LobbyWorld) -> None:
    world = failing_world
    hand, client = world.hand(wants=1), world.enter()
    world.blobs.failure = BlobError("no room")
    assert hand.lie() == ["invalid"]
    assert client.told == 0
    world.blobs.failure = None
    world.lobby_ends()
    prediction = world.get(client.id)
    assert (prediction.status, prediction.attempts) == (Status.QUEUED, 1)
    assert "2 results for 1 pictures" in prediction.reason


def test_a_client_whose_wait_ends_hears_that_nothing_could_be_kept(failing_world: LobbyWorld) -> None:
    world = failing_world
    hand, client, other = world.hand(wants=1), world.enter(), world.enter()
    failing(world, StorageError("the disk refused"))
    for one in (client, other):
        with pytest.raises(StorageError):
            one.keep()
    failing(world, None)
    assert (client.told, other.told) == (1, 1)
    assert not world.has(client.id)
    assert world.stored() == set()
    assert hand.finish() == ["unknown"]
    assert empty(world)


def test_the_pictures_stay_if_nobody_knows_whether_the_row_is_there(failing_world: LobbyWorld) -> None:
    world = failing_world
    client = world.enter()
    failing(world, OutcomeUnknown("the connection broke"))
    world.lobby_ends()
    assert isinstance(client.outcome, OutcomeUnknown)
    failing(world, None)
    assert world.stored() == {client.id}
    assert empty(world)


def has_place(world: LobbyWorld, size: int = 108, *, stored: int = 0, **changes: Any) -> bool:
    submission = world.base.submission(**{"size": size, **changes})
    return world.do(lambda: world.lobby.has_place(submission, stored))


def test_each_tier_has_its_share_of_the_lobbys_memory(small: LobbyWorld) -> None:
    share = LOBBY_BYTES // len(small.settings.tiers)
    assert has_place(small, LARGEST_BYTES)
    assert not has_place(small, LARGEST_BYTES + 1)
    clients = [small.enter(size=share // 4, calm=False) for _ in range(4)]
    assert not has_place(small, 1)
    assert has_place(small, LARGEST_BYTES, tier="premium")
    clients[0].hang_up()
    assert has_place(small, share // 4)
    assert not has_place(small, share // 4 + 1)


def test_without_lobby_seconds_there_is_no_place(small: LobbyWorld) -> None:
    client = small.enter()
    small.settings = replace(small.settings, lobby_seconds=0.0)
    assert not has_place(small)
    small.passes(LOBBY_SECONDS)  # until it looks once more
    assert client.status is Status.QUEUED


def test_what_is_worked_on_is_settled_though_its_tier_is_gone(small: LobbyWorld) -> None:
    hand, client, kept = small.hand(wants=1), small.enter(), small.enter()
    tiers = {name: tier for name, tier in small.settings.tiers.items() if name != "free"}
    small.settings = replace(small.settings, tiers=tiers)
    assert hand.finish() == ["accepted"]
    small.lobby_ends()
    assert [client.status, kept.status] == [Status.SUCCEEDED, Status.QUEUED]


def test_many_results_at_once_are_all_settled(world: LobbyWorld) -> None:
    hands = [world.hand(f"job-{number}", wants=64) for number in range(3)]
    clients = [world.enter(calm=False) for _ in range(150)]
    world.calm()
    with world.writer_held():
        for hand in hands:
            for pair in list(hand.pairs):
                assert world.run(hand.complete([completion(*pair)])) == ["accepted"]
    world.calm()
    assert {client.status for client in clients} == {Status.SUCCEEDED}
    assert all(isinstance(one.outcome, Prediction) and one.outcome.id == one.id for one in clients)
    assert empty(world)


def test_lobby_and_table_are_counted_together(world: LobbyWorld) -> None:
    old = world.submit()
    clients = [world.enter(size=208), world.enter(size=308, tier="premium")]
    depth = world.depth()
    assert (depth.queued, depth.leased, depth.bytes) == (2, 0, 316)
    assert depth.oldest == world.get(old).accepted_at
    hand = world.hand(wants=2)
    assert hand.ids == [old, clients[0].id]
    depth = world.depth()
    assert (depth.queued, depth.leased, depth.oldest, depth.bytes) == (0, 2, None, 316)
    assert world.depth("premium").queued == 1
    assert world.depth("premium").oldest == clients[1].entry.accepted_at
