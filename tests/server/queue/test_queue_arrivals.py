"""What the queue promises a lobby: predictions that come into the table late, and workers that hold some beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.queue import Arrival, Available, Beside, Completion, Hold, Place, Prediction, Status, UnknownJob, new_token
from tests.server.queue.queue_world import MANY, RESULTS, TwoServersWorld, World, completion, pairs

TIERS = {"free": 3, "premium": 3}
FULL = Beside(64, 0)


@pytest.fixture
def world(world: World) -> World:
    world.job()
    world.job("other")
    return world


def held(world: World, job: str = "job", **changes: Any) -> Arrival:
    """A prediction that was accepted two seconds ago, and that a worker has had for one."""
    hold = Hold(job, new_token(job), world.clock.now - 1)
    return Arrival(world.submission(**changes), world.clock.now - 2, 0.0, hold)


def token_of(arrival: Arrival) -> str:
    assert arrival.hold is not None
    return arrival.hold.token


def kept(world: World, arrival: Arrival, *, attempts: int = 3, seconds: float = 30.0, lost: str = "") -> Prediction:
    """Keep it; what the queue answers must be what readers see."""
    prediction = world.queue.keep(arrival, attempts, seconds, lost).result().prediction
    assert prediction == world.get(arrival.submission.id)
    return prediction


def done(arrival: Arrival, error: dict[str, Any] | None = None, model: str | None = None) -> Completion:
    plain = completion(arrival.submission.id, token_of(arrival), error)
    return replace(plain, model=model, results=RESULTS if error is None else None)


def places(world: World, until: Place | None = None, beside: Beside | None = None, most: int = 1) -> tuple[int, Any]:
    given: dict[str, Any] = {} if beside is None else {"beside": beside}
    granted = world.queue.lease("free", "job", most, MANY, 30.0, until=until, **given).result()
    return len(granted.leased), granted.next


def test_what_is_settled_is_there_as_if_the_table_had_always_had_it(world: World) -> None:
    good, bad = held(world), held(world, tier="premium")
    error = {"code": "bad_image", "detail": "no picture"}
    answers = world.queue.settle([(good, done(good, model="lite0@7")), (bad, done(bad, error))]).result()
    assert answers == [world.get(good.submission.id), world.get(bad.submission.id)]
    first, second = answers
    assert (first.status, first.results, first.model) == (Status.SUCCEEDED, RESULTS, "lite0@7")
    assert (second.status, second.results, second.error, second.model) == (Status.FAILED, None, error, "lite0")
    now = world.clock.now
    assert (first.accepted_at, first.started_at, first.completed_at) == (now - 2, now - 1, now)
    assert (first.deadline_at, first.attempts, first.job, first.predict_ms) == (now - 2 + 600, 1, "job", 8.0)
    assert not any(depth.queued or depth.leased or depth.bytes for depth in world.queue.depths().result().values())


def test_what_is_settled_is_there_after_a_restart_and_for_the_pace(world: World) -> None:
    arrival = held(world)
    world.queue.settle([(arrival, done(arrival))]).result()
    world.restart()
    assert world.get(arrival.submission.id).results == RESULTS
    assert world.queue.pace("free").result().sample == 1


def test_a_result_that_was_settled_is_a_duplicate_afterwards(world: World) -> None:
    arrival = held(world)
    world.queue.settle([(arrival, done(arrival))]).result()
    other = completion(arrival.submission.id, new_token("job"))
    assert world.queue.complete("job", [done(arrival), other]).result() == ["duplicate", "unknown"]


def test_what_waits_is_kept_where_it_stood(world: World) -> None:
    world.clock.advance(10)
    later = world.submit()
    arrival = Arrival(world.submission(), world.clock.now - 1, 1.0)
    prediction = kept(world, arrival)
    assert (prediction.status, prediction.attempts, prediction.started_at) == (Status.QUEUED, 0, None)
    assert prediction.deadline_at == world.clock.now - 1 + 600
    assert [one.id for one in world.lease()] == [arrival.submission.id, later]


def test_of_one_moment_what_came_into_the_table_first_goes_first(world: World) -> None:
    ids = [world.submit()]
    for _ in range(3):
        arrival = Arrival(world.submission(), world.clock.now, 1.0)
        ids.append(kept(world, arrival).id)
    ids.append(world.submit())
    positions = [world.queue.position(one).result() for one in ids]
    assert [one and one.position for one in positions] == [1, 2, 3, 4, 5]
    assert [one.id for _ in ids for one in world.lease(most=1)] == ids


def test_workers_hear_of_what_is_kept_waiting_only(world: World) -> None:
    world.heard()
    kept(world, held(world))
    assert Available("free") not in world.heard()
    kept(world, Arrival(world.submission(tier="premium"), world.clock.now, 0.0))
    assert Available("premium") in world.heard()
    kept(world, held(world), lost="its worker handed in nonsense")
    assert Available("free") in world.heard()


def test_what_is_worked_on_is_kept_with_its_workers_lease(world: World) -> None:
    arrival = held(world)
    prediction = kept(world, arrival, seconds=30)
    assert (prediction.status, prediction.attempts, prediction.job) == (Status.LEASED, 1, "job")
    assert prediction.started_at == world.clock.now - 1
    assert world.lease("other") == []
    lease = (arrival.submission.id, token_of(arrival))
    world.clock.advance(29)
    assert world.queue.extend("job", [lease], 30).result() == []
    world.clock.advance(29)
    assert world.queue.reclaim(TIERS).result().requeued == 0
    assert world.queue.complete("job", [done(arrival)]).result() == ["accepted"]
    assert world.status(arrival.submission.id) is Status.SUCCEEDED


def test_a_lease_that_is_kept_runs_out_like_any_other(world: World) -> None:
    arrival = held(world)
    kept(world, arrival, seconds=30)
    world.clock.advance(30)
    assert world.queue.reclaim(TIERS).result().requeued == 1
    (leased,) = world.lease("other")
    assert (leased.id, leased.attempt, leased.solo) == (arrival.submission.id, 2, True)


def test_a_lease_that_is_kept_reaches_not_past_its_deadline(world: World) -> None:
    kept(world, held(world, deadline=10.0), seconds=30)
    world.clock.advance(8)
    assert world.queue.reclaim(TIERS).result().expired == 1


def test_a_lease_that_is_kept_ends_with_its_job(world: World) -> None:
    arrival = held(world)
    kept(world, arrival)
    assert world.queue.end_job("job", "exit code 1").result().requeued == 1
    assert world.get(arrival.submission.id).reason == "exit code 1"


@pytest.mark.parametrize("job", ["over", "never"])
def test_what_a_job_held_that_is_over_is_kept_as_lost(world: World, job: str) -> None:
    world.job("over")
    world.queue.end_job("over", "exit code 1").result()
    arrival = held(world, job)
    prediction = kept(world, arrival)
    assert (prediction.status, prediction.attempts, prediction.job) == (Status.QUEUED, 1, None)
    assert prediction.reason == "its worker's Job is over"
    (leased,) = world.lease()
    assert (leased.id, leased.attempt, leased.solo) == (arrival.submission.id, 2, True)


def test_a_late_result_of_a_lease_that_was_kept_as_lost_is_accepted(world: World) -> None:
    arrival = held(world)
    kept(world, arrival, lost="its worker handed in nonsense")
    assert world.queue.complete("other", [done(arrival)]).result() == ["unknown"]
    assert world.queue.complete("job", [done(arrival)]).result() == ["accepted"]
    assert world.status(arrival.submission.id) is Status.SUCCEEDED


def test_the_last_attempt_that_is_lost_ends_the_prediction(world: World) -> None:
    world.heard()
    prediction = kept(world, held(world), attempts=1, lost="its worker died")
    assert (prediction.status, prediction.completed_at, prediction.reason) == (Status.FAILED, world.clock.now, "")
    assert prediction.error is not None
    assert prediction.error["code"] == "attempts_exhausted"
    assert "its worker died" in prediction.error["detail"]
    assert Available("free") not in world.heard()
    assert world.lease() == []


def test_a_lease_that_is_lost_past_the_deadline_ends_the_prediction(world: World) -> None:
    prediction = kept(world, held(world, deadline=1.5), lost="its worker died")
    assert (prediction.status, prediction.error and prediction.error["code"]) == (Status.EXPIRED, "deadline_passed")


def test_what_is_kept_counts_for_the_limits_and_for_what_its_job_holds(world: World) -> None:
    for _ in range(64):
        kept(world, held(world, size=10))
    world.submit()
    assert world.lease() == []
    depth = world.queue.depths().result()["free"]
    assert (depth.queued, depth.leased, depth.bytes) == (1, 64, 1640)


def test_nothing_is_leased_that_stands_after_until(world: World) -> None:
    first = world.clock.now
    for _ in range(3):
        world.submit()
        world.clock.advance(1)
    world.submit(priority=-1)
    assert places(world, until=(-1, 4, first + 2), most=9) == (0, (-1, 4, first + 3))
    assert places(world, until=(-1, 4, first + 3), most=9) == (1, (0, 1, first))
    assert places(world, until=(0, 2, first + 1), most=9) == (2, (0, 3, first + 2))
    assert places(world, until=(-5, 9, first + 9), most=9) == (0, (0, 3, first + 2))
    assert places(world, until=(5, 0, 0.0), most=9) == (1, None)


def test_a_lease_tells_what_is_left_also_if_it_may_take_nothing(world: World) -> None:
    start = world.clock.now
    assert places(world) == (0, None)
    world.submit()
    world.clock.advance(1)
    world.submit()
    assert places(world, most=0) == (0, (0, 1, start))
    assert places(world, beside=FULL) == (0, (0, 1, start))
    assert places(world, most=1) == (1, (0, 2, start + 1))
    assert places(world, most=1) == (1, None)


def test_what_is_past_its_deadline_is_not_what_is_left(world: World) -> None:
    world.submit(deadline=5.0)
    world.clock.advance(5)
    assert places(world) == (0, None)


def test_what_one_server_only_looks_at_is_seen_by_another(tmp_path: Path) -> None:
    with TwoServersWorld(tmp_path) as world:
        for job in ("job", "other"):
            world.job(job)
        world.submit()
        place = (0, 1, world.clock.now)
        asked = [world.queue.lease("free", job, 1, MANY, 30.0, until=(-1, 0, 0.0)) for job in ("job", "other") * 100]
        assert {future.result().next for future in asked} == {place}


def test_a_solo_prediction_goes_to_no_job_that_holds_something_beside_the_table(world: World) -> None:
    solo = kept(world, held(world), lost="its worker died").id
    world.submit()
    assert places(world, beside=Beside(1, 10)) == (0, (0, 0, world.clock.now - 2))
    (leased,) = world.lease()
    assert leased.id == solo


def test_what_a_job_holds_beside_the_table_counts_for_its_limits(world: World) -> None:
    for _ in range(4):
        world.submit(size=1000)
    assert places(world, beside=Beside(63, 10), most=9)[0] == 1
    assert places(world, beside=Beside(0, 64 * 1024 * 1024), most=9)[0] == 1  # two always fit
    assert places(world, beside=Beside(1, 64 * 1024 * 1024), most=9)[0] == 0
    assert places(world, beside=Beside(1, 64 * 1024 * 1024 - 4000), most=9)[0] == 2


def test_a_job_that_got_work_of_a_lobby_is_no_strike(world: World) -> None:
    world.clock.advance(5)
    world.queue.got_work("job", "free", 0).result()
    (row, _) = world.queue.jobs().result()
    assert (row.asked_at, row.leased_at, row.heard_at) == (world.clock.now,) * 3
    world.queue.end_job("job", "exit code 1").result()
    world.clock.advance(1)
    world.queue.end_job("other", "exit code 1").result()
    assert world.queue.strikes("free").result().count == 1


def test_to_get_work_of_a_lobby_harms_no_job_that_is_not_there(world: World) -> None:
    world.queue.got_work("never", "free", 0).result()
    assert [row.name for row in world.queue.jobs().result()] == ["job", "other"]


def test_a_worker_that_is_taken_up_keeps_its_solo_prediction_and_names_no_others(world: World) -> None:
    kept(world, held(world, "other"), lost="its worker died")
    (solo,) = world.lease()
    named = [*pairs([solo]), (solo.id, new_token("job")), (world.submission().id, new_token("job"))]
    assert world.queue.take_up("free", "other", named, 30).result() == []
    assert world.queue.take_up("free", "job", list(reversed(named)), 30).result() == [solo]
    assert world.queue.take_up("free", "job", named, 30).result() == [solo]
    assert world.status(solo.id) is Status.LEASED


def test_a_worker_that_comes_back_with_nothing_gives_back_all(world: World) -> None:
    world.job("third")
    arrival = held(world)
    kept(world, arrival)
    mine = world.submit()
    (theirs,) = world.lease("other")
    world.heard()
    assert world.queue.take_up("free", "job", [], 30).result() == []
    assert Available("free") in world.heard()
    assert world.status(theirs.id) is Status.LEASED
    assert theirs.id == mine
    (again,) = world.lease("third")
    assert (again.id, again.attempt, again.solo) == (arrival.submission.id, 1, False)


def test_a_job_that_is_over_is_not_taken_up(world: World) -> None:
    world.queue.end_job("job", "exit code 1").result()
    for tier, job in (("free", "job"), ("free", "never"), ("premium", "other")):
        with pytest.raises(UnknownJob):
            world.queue.take_up(tier, job, [], 30).result()
