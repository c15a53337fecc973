"""What the queue promises when workers die, deadlines pass and tiers are removed, on every database."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from server.queue import Available, Breaker, Depth, Lending, Pace, Reclaimed, Status, Strikes, TierView
from server.queue.operations.upkeep import PAGE
from server.queue.store.tables import jobs
from server.settings.quantity import Usage
from tests.server.queue.queue_world import World, pairs

BREAKER = Breaker(3, 1_800_000_000.5)
LENDING = Lending(share=0.5, used=0.9, borrowed=0.4, lent=0.0, recalled=1)
TIERS = {"free": 3, "premium": 3}


@pytest.fixture
def world(world: World) -> World:
    world.job()
    return world


def test_a_lease_nobody_extends_is_taken_back(world: World) -> None:
    one = world.submit()
    world.lease(seconds=30)
    world.clock.advance(29.9)
    assert world.queue.reclaim(TIERS).result() == Reclaimed()
    world.clock.advance(0.1)
    assert world.queue.reclaim(TIERS).result() == Reclaimed(requeued=1)
    assert Available("free") in world.heard()
    seen = world.get(one)
    assert (seen.status, seen.attempts, seen.job) == (Status.QUEUED, 1, None)
    assert "worker" in seen.reason
    world.lease()
    assert world.get(one).started_at == seen.accepted_at  # the time of the first start stays


def test_a_prediction_that_kills_its_workers_fails_after_its_attempts(world: World) -> None:
    one = world.submit()
    for attempt in (1, 2, 3):
        (leased,) = world.lease()
        assert leased.attempt == attempt
        world.clock.advance(31)
        world.queue.reclaim(TIERS).result()
    done = world.get(one)
    assert done.status is Status.FAILED
    assert done.error is not None
    assert done.error["code"] == "attempts_exhausted"
    assert "worker" in done.error["detail"]
    assert world.complete(leased) == "final"


def test_the_job_that_ended_gives_its_reason_at_once(world: World) -> None:
    one = world.submit()
    for crash in (1, 2, 3):
        world.lease(world.job(f"job-{crash}"))
        ended = world.queue.end_job(f"job-{crash}", "OOMKilled", attempts=3).result()
        assert ended == (Reclaimed(failed=1) if crash == 3 else Reclaimed(requeued=1))
    done = world.get(one)
    assert done.status is Status.FAILED
    assert done.error is not None
    assert "OOMKilled" in done.error["detail"]


def test_a_job_ended_without_blame_costs_no_attempt(world: World) -> None:
    ids = [world.submit() for _ in range(2)]
    for drain in range(5):
        job = world.job(f"job-{drain}")
        leased = world.lease(job)
        assert [(one.id, one.attempt, one.solo) for one in leased] == [(one, 1, False) for one in ids]
        assert world.queue.end_job(job, "drained", blame=False).result() == Reclaimed(requeued=2)
    assert world.complete(leased[0], job) == "accepted"  # a result counts even if it comes after the Job's end


def test_ending_a_job_twice_changes_nothing(world: World) -> None:
    world.submit()
    world.lease()
    world.queue.end_job("job", "crashed").result()
    world.lease(world.job("next"))
    assert world.queue.end_job("job", "again").result() == Reclaimed()
    assert world.queue.end_job("stranger", "?").result() == Reclaimed()
    ended = world.clock.now
    world.queue.end_job(world.job("idle", "premium"), "no such picture").result()
    world.clock.advance(1)
    world.queue.end_job("idle", "again").result()
    assert world.queue.strikes("premium").result() == Strikes(1, "no such picture", ended)


def test_a_deadline_that_passes_aborts_what_never_started(world: World) -> None:
    one = world.submit(deadline=10)
    world.clock.advance(10)
    assert world.queue.reclaim(TIERS).result() == Reclaimed(aborted=1)
    done = world.get(one)
    assert done.status is Status.ABORTED
    assert done.error is not None
    assert done.error["code"] == "deadline_passed"


def test_a_deadline_that_passes_expires_what_had_started(world: World) -> None:
    world.submit(deadline=10)
    world.submit(deadline=10)
    leased = world.lease()
    world.queue.release("job", pairs(leased[:1])).result()
    world.clock.advance(10)
    assert world.queue.reclaim(TIERS).result() == Reclaimed(expired=2)


def test_tiers_not_named_are_never_touched(world: World) -> None:
    stranger = world.submit(tier="gone", deadline=1)
    world.lease(world.job("gone", "gone"), tier="gone", seconds=1)
    waiting = world.submit(tier="gone", deadline=1)
    world.clock.advance(5)
    assert world.queue.reclaim(TIERS).result() == Reclaimed()
    assert (world.status(stranger), world.status(waiting)) == (Status.LEASED, Status.QUEUED)


def test_a_job_is_given_up_unless_it_was_heard_of_after_all(world: World) -> None:
    one = world.submit()
    (leased,) = world.lease()
    world.clock.advance(30)
    world.queue.extend("job", [(leased.id, leased.token)], 30).result()
    world.clock.advance(29)
    assert not world.queue.give_up_job("job", 30, "silent").result()
    assert world.status(one) is Status.LEASED
    world.clock.advance(1)
    assert world.queue.give_up_job("job", 30, "silent").result()
    assert (world.status(one), world.get(one).reason) == (Status.QUEUED, "silent")
    assert not world.queue.give_up_job("job", 30, "silent").result()


def test_a_job_that_never_asked_is_given_up(world: World) -> None:
    world.job("mute")
    assert world.queue.give_up_job("mute", 60, "it asked for no work").result()
    assert world.queue.strikes("free").result().count == 1


def test_last_words_may_hold_any_byte(world: World) -> None:
    one = world.submit()
    world.lease()
    world.queue.end_job("job", "exit code 1: \0 \N{GRINNING FACE}").result()
    assert world.get(one).reason == "exit code 1: \N{REPLACEMENT CHARACTER} \N{GRINNING FACE}"


def test_many_rows_of_one_tier_strand_no_other(world: World) -> None:
    for tier, count in (("gone", 700), ("premium", 700), ("free", 3)):
        futures = [world.queue.submit(world.submission(tier=tier, deadline=1), 9999) for _ in range(count)]
        for future in futures:
            future.result()
    world.clock.advance(5)
    first = world.queue.reclaim(TIERS).result()
    assert first.more
    assert first.aborted <= PAGE
    depths = world.queue.depths().result()
    assert depths["free"].queued == 0
    while world.queue.reclaim(TIERS).result().more:
        pass
    depths = world.queue.depths().result()
    assert (depths["premium"].queued, depths["gone"].queued) == (0, 700)


def test_a_removed_tier_ends_what_waits_and_what_is_lost(world: World) -> None:
    waiting, held, started = world.submit(priority=2), world.submit(), world.submit(priority=1)
    kept, released = world.lease(most=2)
    world.queue.release("job", pairs([released])).result()
    done = world.queue.abort_tier("free", "tier_removed", "free is no more").result()
    assert done == Reclaimed(aborted=1, failed=1)
    assert (world.status(waiting), world.status(started)) == (Status.ABORTED, Status.FAILED)
    assert world.get(waiting).error == {"code": "tier_removed", "detail": "free is no more"}
    assert world.status(held) is Status.LEASED
    world.clock.advance(31)
    assert world.queue.abort_tier("free", "tier_removed", "free is no more").result() == Reclaimed(failed=1)
    assert world.complete(kept) == "final"


def test_results_are_kept_as_long_as_their_tier_says(world: World) -> None:
    free, premium = world.submit(), world.submit(tier="premium")
    gone, alive = world.submit(tier="gone"), world.submit()
    for one in (free, premium, gone):
        world.queue.cancel(one).result()
    world.clock.advance(100)
    assert world.queue.purge({"free": 101, "premium": 100}, others=1000).result() == [premium]
    world.clock.advance(900)
    assert sorted(world.queue.purge({"free": 101, "premium": 100}, others=1000).result()) == sorted([free, gone])
    assert world.queue.purge({}, others=0).result() == []
    assert world.queue.alive([free, premium, gone, alive]).result() == {alive}


def test_purging_goes_page_by_page(world: World) -> None:
    ids = [world.queue.submit(world.submission(), 9999).result().prediction.id for _ in range(3)]
    many = [world.queue.submit(world.submission(tier="premium"), 9999) for _ in range(PAGE + 20)]
    canceled = [world.queue.cancel(one) for one in ids + [future.result().prediction.id for future in many]]
    for future in canceled:
        future.result()
    world.clock.advance(10)
    pages = []
    while page := world.queue.purge({"free": 5, "premium": 5}).result():
        pages.append(len(page))
    assert pages == [PAGE, 23]


def test_jobs_of_long_ago_are_forgotten_page_by_page(world: World) -> None:
    names = [f"job-{number}" for number in range(PAGE + 3)]
    for future in [world.queue.open_job(name, "free", "run") for name in names]:
        future.result()
    for ended in [world.queue.end_job(name, "bad") for name in names]:
        ended.result()

    def known() -> int:
        return int(world.database.read(lambda tx: tx.rows(sa.select(sa.func.count()).select_from(jobs))[0][0]).result())

    assert not world.queue.forget_jobs().result()
    assert known() == PAGE + 4
    world.clock.advance(86400)
    assert world.queue.forget_jobs().result(), "there are others"
    assert not world.queue.forget_jobs().result()
    assert known() == 1, "one is alive"


def test_strikes_count_the_latest_failures_in_a_row(world: World) -> None:
    world.submit()
    world.lease()
    world.queue.end_job("job", "it had leased").result()
    for number in range(4):
        world.clock.advance(1)
        world.queue.end_job(world.job(f"bad-{number}"), f"bad {number}").result()
    world.queue.end_job(world.job("drained"), "drained", blame=False).result()
    world.queue.end_job(world.job("elsewhere", "premium"), "premium's own").result()
    assert world.queue.strikes("free").result() == Strikes(4, "bad 3", world.clock.now)


@pytest.mark.parametrize("end", [False, True])
def test_a_lease_ends_the_row_of_strikes(world: World, end: bool) -> None:
    world.queue.end_job(world.job("bad"), "bad").result()
    world.clock.advance(1)
    world.submit()
    world.lease()
    if end:
        world.queue.end_job("job", "crashed").result()
    assert world.queue.strikes("free").result().count == 0


def test_depths_count_what_is_alive(world: World) -> None:
    first = world.clock.now
    held = world.submit(priority=-1)
    world.submit(priority=5)
    world.clock.advance(1)
    world.submit()
    world.submit(tier="premium")
    world.lease(most=1)
    expected = {"free": Depth(2, 1, first, 3000), "premium": Depth(1, 0, first + 1, 1000)}
    assert world.queue.depths().result() == expected
    world.restart()
    assert world.queue.depths().result() == expected
    world.queue.cancel(held).result()
    assert world.queue.depths().result()["free"] == Depth(2, 0, first, 2000)


def test_pace_is_that_of_the_last_successes_within_the_hour(world: World) -> None:
    assert world.queue.pace("free").result() == Pace(0, None)
    world.submit()
    world.complete(world.lease()[0])
    world.clock.advance(4000)
    for _ in range(100):
        world.submit(deadline=5000)
    world.submit(tier="premium")
    for _ in range(100):
        world.complete(world.lease(most=1)[0])
    world.submit()
    world.complete(world.lease()[0], error={"code": "bad", "detail": "bad"})
    assert world.queue.pace("free").result() == Pace(100, 0.008)


def test_what_the_leader_saw_can_be_read_after_a_restart(world: World) -> None:
    world.queue.report("free", TierView(room=1)).result()
    world.clock.advance(1)
    world.queue.report(
        "free", TierView(room=2, quota={"cpu": Usage(2.0, 0.9)}, breaker=BREAKER, lending=LENDING)
    ).result()
    world.queue.report("premium", TierView()).result()
    world.restart()
    assert world.queue.views().result() == {
        "free": TierView(
            room=2, quota={"cpu": Usage(2.0, 0.9)}, breaker=BREAKER, lending=LENDING, seen_at=world.clock.now
        ),
        "premium": TierView(seen_at=world.clock.now),
    }
