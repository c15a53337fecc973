"""After any mix of operations, crashes of workers, jumps of time and restarts, the queue is as its model says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.queue import FINAL, Depth, Lane, Prediction, QueueFull, Status, UnknownJob
from tests.server.queue.queue_model import Model
from tests.server.queue.queue_world import RESULTS, TwoServersWorld, World, completion, invalid

pytestmark = pytest.mark.timeout(400)  # there are sixty runs of fifty steps on real files

MEMORY = Path("/dev/shm")
TIERS = st.sampled_from(["free", "premium"])
ATTEMPTS = st.integers(1, 3)
NOTHING = Depth(0, 0, None)


class QueueMachine(RuleBasedStateMachine):
    """Does each step with the real queue and with its model, and compares them."""

    kind: type[World] = World

    @initialize()
    def start(self) -> None:
        self.home = TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.world = self.kind(Path(self.home.name))
        self.model = Model()
        self.model.now = self.world.clock.now
        self.leases: list[tuple[str, str, str]] = []  # every (job, prediction, token) that was ever leased
        self.recalled: set[str] = set()  # every Job that was ever recalled
        self.finals: dict[str, Prediction] = {}
        self.names = 1
        self.model.jobs[self.world.job("job-1")] = "free"

    def teardown(self) -> None:
        if hasattr(self, "home"):
            self.world.close()
            self.home.cleanup()

    @rule(
        tier=TIERS,
        priority=st.integers(-1, 1),
        size=st.sampled_from([10, 40, 90]),
        deadline=st.sampled_from([5.0, 60.0, 1000.0]),
        key=st.sampled_from([None, None, "a", "b"]),
        fingerprint=st.sampled_from(["x", "y"]),
        limit=st.sampled_from([2, 1000, 1000]),
        images=st.sampled_from([1, 1, 3]),
        canary=st.booleans(),
        weight=st.sampled_from([0.5, 1.0, 1.0, 4.0]),
        callers=st.lists(st.sampled_from(["owner:anna", "owner:ben", "address:127.0.0.1/32"]), min_size=1, max_size=5),
    )
    def submit(self, callers: list[str], **given: Any) -> None:
        for caller in callers:
            self.submit_one(caller=caller, **given)

    def submit_one(self, tier: str, key: str | None, fingerprint: str, limit: int, **given: Any) -> None:
        submission = self.world.submission(tier=tier, idempotency_key=key, fingerprint=fingerprint, **given)
        known, waiting = self.model.with_key(submission), self.model.waiting(tier)
        future = self.world.queue.submit(submission, limit)
        if known is not None:
            assert (future.result().prediction.id, future.result().new) == (known.submission.id, False)
        elif len(waiting) >= limit:
            assert isinstance(future.exception(), QueueFull)
        else:
            submitted = future.result()
            assert submitted.new
            self.model.submit(submission)
            assert submitted.finish == self.model.finish[tier, submission.caller][0]

    @rule(tier=TIERS)
    def open_job(self, tier: str) -> None:
        self.names += 1
        self.model.jobs[self.world.job(f"job-{self.names}", tier)] = tier

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def recall_job(self, data: st.DataObject) -> None:
        """What it holds, and may lease as long as its server has not heard of it, stays as it was."""
        job = self.any_job(data)
        recalled = self.world.queue.recall_job(job, "lent").result()
        assert recalled == (job in self.model.jobs and job not in self.recalled)
        self.recalled |= {job} if recalled else set()
        assert self.world.queue.recalled().result().keys() == self.recalled & self.model.jobs.keys()

    @precondition(lambda self: self.names)
    @rule(
        data=st.data(),
        most=st.integers(0, 4),
        most_bytes=st.sampled_from([50, 1000]),
        seconds=st.sampled_from([10, 30]),
        canary=st.booleans(),
    )
    def lease(self, data: st.DataObject, most: int, most_bytes: int, seconds: float, canary: bool) -> None:
        job = self.any_job(data)
        tier = self.model.jobs.get(job, "free")
        future = self.world.queue.lease(tier, job, most, most_bytes, seconds, canary=canary)
        if job not in self.model.jobs:
            assert isinstance(future.exception(), UnknownJob)
            return
        expected = self.model.choose(tier, job, most, most_bytes, canary=canary)
        left = [one for one in self.model.leasable(tier, canary=canary) if one not in expected]
        granted = future.result()
        leased = granted.leased
        assert [(one.id, one.attempt, one.solo) for one in leased] == [
            (entry.submission.id, entry.attempts + 1, entry.solo) for entry in expected
        ]
        assert granted.turn == self.model.reached_with(tier, expected, canary=canary)
        first = (left[0].submission.priority, left[0].turn, left[0].accepted_at) if left else None
        assert granted.next == first
        for one, entry in zip(leased, expected, strict=True):
            self.model.lease(entry, job, one.token, seconds)
            self.leases.append((job, one.id, one.token))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), failing=st.booleans())
    def complete(self, data: st.DataObject, failing: bool) -> None:
        job, chosen = self.some_leases(data)
        error = {"code": "bad_image", "detail": "no picture"} if failing else None
        entries = [self.model.entries.get(name) for name, _ in chosen]
        images = [entry.submission.images if entry else 1 for entry in entries]
        handed_in = [
            replace(completion(*one, error), results=RESULTS * many) for one, many in zip(chosen, images, strict=True)
        ]
        outcomes = self.world.queue.complete(job, handed_in)
        target = Status.FAILED if failing else Status.SUCCEEDED
        assert outcomes.result() == [self.model.complete(name, token, job, target) for name, token in chosen]

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), attempts=ATTEMPTS)
    def complete_invalid(self, data: st.DataObject, attempts: int) -> None:
        job, ((name, token), *_) = self.some_leases(data)
        outcome = self.model.complete_invalid(name, token, attempts)
        assert self.world.queue.complete(job, [invalid(name, token)], attempts).result() == [outcome]

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), seconds=st.sampled_from([10, 30]))
    def extend(self, data: st.DataObject, seconds: float) -> None:
        job, chosen = self.some_leases(data)
        lost = self.world.queue.extend(job, chosen, seconds).result()
        kept = [pair for pair in chosen if self.holds(*pair)]
        assert lost == [name for name, token in chosen if (name, token) not in kept]
        for name, _ in kept:
            entry = self.model.entries[name]
            entry.lease_until = min(self.model.now + seconds, entry.deadline_at)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        job, chosen = self.some_leases(data)
        kept = {name for name, token in chosen if self.holds(name, token)}
        assert self.world.queue.release(job, chosen).result() == len(kept)
        for name in kept:
            self.model.requeue(self.model.entries[name], blame=False)

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(self.model.entries)))
        entry = self.model.entries[name]
        if entry.live:
            self.model.end(entry, Status.CANCELED)
        canceled = self.world.queue.cancel(name).result()
        assert canceled is not None
        assert canceled.status is entry.status

    @rule(tier=TIERS, turn=st.integers(0, 20))
    def got_work(self, tier: str, turn: int) -> None:
        assert self.world.queue.got_work("nobody", tier, turn).result() == self.model.reach(tier, turn)

    @rule()
    def forget(self) -> None:
        assert self.world.queue.forget_counts().result() is None
        assert self.world.queue.forget_shares().result() is None
        self.model.forget_shares()

    @rule(tier=TIERS)
    def end_canary(self, tier: str) -> None:
        assert self.world.queue.end_canary(tier).result() == self.model.end_canary(tier)

    @rule(seconds=st.sampled_from([1, 9, 11, 31, 70, 400]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.model.now = self.world.clock.now

    @rule(tiers=st.dictionaries(TIERS, ATTEMPTS))
    def reclaim(self, tiers: dict[str, int]) -> None:
        self.model.reclaim(tiers)
        assert not self.world.queue.reclaim(tiers).result().more

    @precondition(lambda self: self.names)
    @rule(data=st.data(), blame=st.booleans(), attempts=ATTEMPTS)
    def end_job(self, data: st.DataObject, blame: bool, attempts: int) -> None:
        job = self.any_job(data)
        self.model.end_job(job, attempts, blame=blame)
        self.world.queue.end_job(job, "it ended", blame=blame, attempts=attempts).result()

    @rule(tier=TIERS)
    def abort_tier(self, tier: str) -> None:
        self.model.abort_tier(tier)
        self.world.queue.abort_tier(tier, "tier_removed", "gone").result()

    @rule(seconds=st.dictionaries(TIERS, st.sampled_from([0.0, 20.0])), others=st.sampled_from([5.0, 100.0]))
    def purge(self, seconds: dict[str, float], others: float) -> None:
        gone = set(self.world.queue.purge(seconds, others).result())
        assert gone == self.model.purge(seconds, others)
        for name in gone:
            del self.finals[name]
            assert self.world.queue.get(name).result() is None

    @rule()
    def restart(self) -> None:
        self.world.restart()
        self.queue = self.world.queue

    @invariant()
    def every_prediction_is_as_the_model_says(self) -> None:
        names = sorted(self.model.entries)
        for name, future in [(name, self.world.queue.get(name)) for name in names]:
            entry, seen = self.model.entries[name], future.result()
            assert seen is not None
            assert (seen.status, seen.attempts, seen.completed_at) == (entry.status, entry.attempts, entry.completed_at)
            assert (seen.job, seen.started_at is not None) == (entry.job, entry.started)
            assert (seen.turn, seen.canary) == (entry.turn, entry.canary)
            if seen.status in FINAL:
                assert self.finals.setdefault(name, seen) == seen
            else:
                assert name not in self.finals

    @invariant()
    def what_waits_is_counted_and_in_order(self) -> None:
        depths = self.world.queue.depths().result()
        for tier in ("free", "premium"):
            waiting = self.model.waiting(tier)
            assert depths.get(tier, NOTHING) == self.depth(tier)
            positions = [self.world.queue.position(one.submission.id) for one in waiting]
            assert [position.result().position for position in positions] == list(range(1, len(waiting) + 1))  # type: ignore[union-attr]

    @invariant()
    def live_jobs_are_known(self) -> None:
        assert {row.name: row.tier for row in self.world.queue.jobs().result()} == self.model.jobs

    def depth(self, tier: str) -> Depth:
        lanes = []
        for canary in (None, True):
            queued, leased = (self.model.alive(tier, of, canary=canary) for of in (Status.QUEUED, Status.LEASED))
            oldest = min((one.accepted_at for one in queued), default=None)
            lanes.append((queued, leased, oldest))
        (queued, leased, oldest), (waits, held, first) = lanes
        size = sum(one.submission.size for one in (*queued, *leased))
        canary_lane = Lane(len(waits), len(held), first) if waits or held else None
        return Depth(len(queued), len(leased), oldest, size, canary_lane)

    def any_job(self, data: st.DataObject) -> str:
        return f"job-{data.draw(st.integers(1, self.names))}"

    def some_leases(self, data: st.DataObject) -> tuple[str, list[tuple[str, str]]]:
        """Some leases of one Job. They may be lost or finished already, and one may come twice."""
        job, *_ = data.draw(st.sampled_from(self.leases))
        mine = [(name, token) for holder, name, token in self.leases if holder == job]
        return job, data.draw(st.lists(st.sampled_from(mine), min_size=1, max_size=4))

    def holds(self, name: str, token: str) -> bool:
        entry = self.model.entries.get(name)
        return entry is not None and entry.status is Status.LEASED and entry.token == token


class TwoServersMachine(QueueMachine):
    """The same machine on PostgreSQL, with two servers that take turns."""

    kind = TwoServersWorld


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=50, suppress_health_check=list(HealthCheck))

TestTwoServersMachine = TwoServersMachine.TestCase
TestTwoServersMachine.settings = settings(TestQueueMachine.settings, max_examples=12)
