"""What the queue promises its workers. Each test is about one promise, on every database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.queue import Arrival, Available, Ended, Status, UnknownJob
from tests.server.queue.queue_world import MANY, RESULTS, World, completion, pairs

TIERS = {"free": 3, "premium": 3}


@pytest.fixture
def world(world: World) -> World:
    world.job()
    world.job("other")
    return world


def test_first_come_first_served_within_a_priority(world: World) -> None:
    ids = [world.submit(priority=priority) for priority in (1, 0, 1, 0, -1)]
    assert [leased.id for leased in world.lease()] == [ids[4], ids[1], ids[3], ids[0], ids[2]]


def test_a_lease_says_what_the_worker_needs(world: World) -> None:
    one = world.submit(images=2, size=77, top_k=3, function="sigmoid", trace="t", request_id="r")
    (leased,) = world.lease()
    assert (leased.id, leased.images, leased.size, leased.top_k) == (one, 2, 77, 3)
    assert (leased.function, leased.trace, leased.request_id) == ("sigmoid", "t", "r")
    assert (leased.attempt, leased.solo) == (1, False)
    seen = world.get(one)
    assert (seen.status, seen.job, seen.started_at) == (Status.LEASED, "job", world.clock.now)


def test_nothing_is_leased_twice(world: World) -> None:
    ids = [world.submit() for _ in range(5)]
    taken = world.lease(most=3) + world.lease("other", most=3) + world.lease()
    assert [leased.id for leased in taken] == ids
    assert len({leased.token for leased in taken}) == 5


def test_others_hear_of_what_a_lease_leaves_waiting(world: World) -> None:
    for size in (900, 50, 60):
        world.submit(size=size)
    for most, left in ((1, True), (2, True), (1, False)):
        world.heard()
        assert len(world.lease(most=most, most_bytes=100)) == 1
        assert (Available("free") in world.heard()) is left


def test_a_tier_is_leased_by_its_own_jobs_only(world: World) -> None:
    world.submit(tier="premium")
    assert world.lease() == []
    with pytest.raises(UnknownJob):
        world.lease(tier="premium")


@pytest.mark.parametrize("name", ["stranger", "ended"])
def test_a_job_that_is_not_live_gets_nothing(world: World, name: str) -> None:
    world.submit()
    world.job("ended")
    world.queue.end_job("ended", "over").result()
    with pytest.raises(UnknownJob):
        world.lease(name)


def test_the_bytes_of_a_lease_are_bounded_but_one_always_fits(world: World) -> None:
    for size in (900, 50, 60, 10):
        world.submit(size=size)
    assert [leased.size for leased in world.lease(most_bytes=100)] == [900]
    assert [leased.size for leased in world.lease(most_bytes=100)] == [50]
    assert [leased.size for leased in world.lease(most_bytes=100)] == [60, 10]


def test_asking_for_none_gives_none(world: World) -> None:
    world.submit()
    assert world.lease(most=0) == []


def test_a_completed_prediction_has_its_result(world: World) -> None:
    one = world.submit()
    world.clock.advance(3)
    (leased,) = world.lease()
    world.clock.advance(2)
    assert world.complete(leased) == "accepted"
    done = world.get(one)
    assert (done.status, done.results, done.error, done.predict_ms) == (Status.SUCCEEDED, RESULTS, None, 8.0)
    assert (done.accepted_at + 3, done.accepted_at + 5) == (done.started_at, done.completed_at)
    assert (done.job, done.attempts) == ("job", 1)


def test_a_completed_prediction_has_the_model_that_answered(world: World) -> None:
    one, other = world.submit(), world.submit()
    first, second = world.lease()
    named = world.get(one).model
    done = replace(completion(first.id, first.token), model="flowers@3f9a2c81")
    world.queue.complete("job", [done, completion(second.id, second.token)]).result()
    assert (world.get(one).model, world.get(other).model) == ("flowers@3f9a2c81", named)
    told = {news.prediction.id: news.prediction.model for news in world.heard() if isinstance(news, Ended)}
    assert told == {one: "flowers@3f9a2c81", other: named}


def test_a_workers_error_fails_the_prediction(world: World) -> None:
    one = world.submit()
    error = {"code": "bad_image", "detail": "no picture"}
    assert world.complete(world.lease()[0], error=error) == "accepted"
    done = world.get(one)
    assert (done.status, done.error, done.results) == (Status.FAILED, error, RESULTS)


def test_the_same_result_twice_changes_nothing(world: World) -> None:
    one = world.submit()
    (leased,) = world.lease()
    world.complete(leased)
    before = world.get(one)
    world.clock.advance(5)
    assert world.complete(leased, error={"code": "x", "detail": "y"}) == "duplicate"
    assert world.get(one) == before


def test_completions_are_judged_one_by_one(world: World) -> None:
    first, second, third = world.submit(), world.submit(), world.submit()
    leased = {one.id: one for one in world.lease()}
    world.queue.cancel(second).result()
    outcomes = world.queue.complete(
        "job",
        [
            completion(first, leased[first].token),
            completion(first, leased[first].token),
            completion(second, leased[second].token),
            completion(third, "0" * 32),
            completion("p0", leased[first].token),
            completion(third, leased[second].token),
        ],
    ).result()
    assert outcomes == ["accepted", "duplicate", "final", "unknown", "unknown", "unknown"]
    assert world.status(third) is Status.LEASED


@pytest.mark.parametrize("token", ["", " ", "0" * 32])
def test_a_token_made_up_completes_nothing(world: World, token: str) -> None:
    one = world.submit()
    assert world.queue.complete("job", [completion(one, token)]).result() == ["unknown"]
    world.lease()
    assert world.queue.complete("job", [completion(one, token)]).result() == ["unknown"]
    assert world.queue.extend("job", [(one, token)], 30).result() == [one]
    assert world.queue.release("job", [(one, token)]).result() == 0


def test_a_lease_that_is_extended_is_kept(world: World) -> None:
    one = world.submit()
    leased = world.lease(seconds=30)
    for _ in range(5):
        world.clock.advance(29)
        assert world.queue.extend("job", pairs(leased), 30).result() == []
        world.queue.reclaim(TIERS).result()
    assert world.status(one) is Status.LEASED


def test_extending_tells_which_leases_are_lost(world: World) -> None:
    ids = [world.submit() for _ in range(4)]
    leased = world.lease()
    world.queue.cancel(ids[0]).result()
    world.complete(leased[1])
    assert world.queue.extend("job", pairs(leased), 30).result() == ids[:2]
    world.clock.advance(31)
    world.queue.reclaim(TIERS).result()
    assert world.queue.extend("job", pairs(leased), 30).result() == ids


def test_another_job_can_neither_extend_nor_release(world: World) -> None:
    one = world.submit()
    leased = world.lease()
    assert world.queue.extend("other", pairs(leased), 30).result() == [one]
    assert world.queue.release("other", pairs(leased)).result() == 0
    assert world.status(one) is Status.LEASED


def test_no_lease_reaches_past_its_deadline(world: World) -> None:
    one = world.submit(deadline=40)
    leased = world.lease(seconds=1000)
    world.queue.extend("job", pairs(leased), 1000).result()
    world.clock.advance(40)
    world.queue.reclaim(TIERS).result()
    assert world.status(one) is Status.EXPIRED


def test_what_is_past_its_deadline_is_not_leased(world: World) -> None:
    world.submit(deadline=10)
    later = world.submit(deadline=20)
    world.clock.advance(10)
    assert [leased.id for leased in world.lease()] == [later]


def test_released_predictions_wait_in_their_old_places_and_count_no_attempt(world: World) -> None:
    ids = [world.submit() for _ in range(4)]
    leased = world.lease(most=3)
    assert world.queue.release("job", pairs(leased[:2]) * 2).result() == 2
    again = world.lease()
    assert [one.id for one in again] == [ids[0], ids[1], ids[3]]
    assert [(one.attempt, one.solo) for one in again] == [(1, False)] * 3


def test_a_late_result_is_accepted_while_the_prediction_waits_again(world: World) -> None:
    one = world.submit()
    (leased,) = world.lease()
    world.clock.advance(31)
    assert world.queue.reclaim(TIERS).result().requeued == 1
    assert world.complete(leased) == "accepted"
    assert world.complete(leased) == "duplicate"
    assert world.status(one) is Status.SUCCEEDED
    assert world.lease("other") == []


def test_a_result_that_comes_after_its_lease_was_handed_back_counts_as_an_attempt(world: World) -> None:
    one = world.submit()
    (leased,) = world.lease()
    world.queue.end_job("job", "it is no longer there", blame=False).result()
    assert world.get(one).attempts == 0
    assert world.complete(leased) == "accepted"
    assert (world.status(one), world.get(one).attempts) == (Status.SUCCEEDED, 1)


def test_another_jobs_lease_completes_nothing_even_by_its_token(world: World) -> None:
    one = world.submit()
    (old,) = world.lease()
    world.clock.advance(31)
    world.queue.reclaim(TIERS).result()
    (new,) = world.lease("other")
    assert [world.complete(old, "other"), world.complete(new)] == ["unknown", "unknown"]
    assert world.status(one) is Status.LEASED


def test_a_late_result_beats_the_worker_that_has_it_now(world: World) -> None:
    one = world.submit()
    (old,) = world.lease()
    world.clock.advance(31)
    world.queue.reclaim(TIERS).result()
    (new,) = world.lease("other")
    assert world.complete(old) == "accepted"
    assert world.complete(new, "other") == "final"
    assert world.queue.extend("other", pairs([new]), 30).result() == [one]
    assert world.get(one).job == "job"


def test_a_lease_that_finds_nothing_writes_nothing(world: World) -> None:
    before = world.queue.jobs().result()
    world.clock.advance(10)
    assert world.lease() == []
    assert world.queue.jobs().result() == before
    assert world.queue.extend("job", [], 30).result() == []
    heard = {row.name: row.heard_at for row in world.queue.jobs().result()}
    assert heard == {"job": world.clock.now, "other": None}


def test_a_worker_that_is_taken_up_keeps_what_it_names_and_hands_back_the_rest(world: World) -> None:
    one, two = world.submit(), world.submit()
    kept, lost = world.lease(most=2)
    world.clock.advance(5)
    assert world.queue.take_up("free", "job", pairs([kept]), 30).result() == [kept]
    assert (world.get(one).status, world.get(two).status) == (Status.LEASED, Status.QUEUED)
    assert world.get(two).attempts == 0
    world.clock.advance(26)  # the first lease would be over; it was prolonged
    assert world.queue.reclaim(TIERS).result().requeued == 0
    assert world.complete(kept) == "accepted"
    assert world.complete(lost) == "accepted"
    with pytest.raises(UnknownJob):
        world.queue.take_up("premium", "job", [], 30).result()


def test_the_order_within_a_turn_is_that_of_acceptance_not_of_insertion(world: World) -> None:
    later = world.submit()
    earlier = world.submission()
    arrival = Arrival(earlier, world.clock.now - 1, 1.0)
    world.queue.keep(arrival, 3, 30.0).result()
    place = (0, 1, world.clock.now)
    granted = world.queue.lease("free", "job", 1, MANY, 30.0).result()
    assert ([one.id for one in granted.leased], granted.next) == ([earlier.id], place)
    until = (0, 1, world.clock.now - 1)
    granted = world.queue.lease("free", "job", 1, MANY, 30.0, until=until).result()
    assert (granted.leased, granted.next) == ([], place)
    assert [one.id for one in world.lease()] == [later]
    assert world.queue.lease("free", "job", 1, MANY, 30.0).result().next is None


def test_a_late_result_is_refused_once_another_worker_finished(world: World) -> None:
    world.submit()
    (old,) = world.lease()
    world.clock.advance(31)
    world.queue.reclaim(TIERS).result()
    (new,) = world.lease("other")
    assert world.complete(new, "other") == "accepted"
    assert world.complete(old) == "final"
    assert world.complete(new, "other") == "duplicate"


def test_both_leases_of_one_prediction_in_one_call_finish_it_once(world: World) -> None:
    one = world.submit()
    (old,) = world.lease()
    world.queue.release("job", pairs([old])).result()
    (new,) = world.lease()
    done = [completion(one, token) for token in (old.token, new.token, old.token)]
    assert world.queue.complete("job", done).result() == ["accepted", "final", "duplicate"]
