"""Upkeep keeps promises that no request would keep."""

from __future__ import annotations

from pathlib import Path

from server.engines.base import EngineError
from server.leader.term import Term
from server.queue import Status
from tests.server.leader.leader_world import Obedient, World


def remove_premium(folder: Path) -> None:
    text = (folder / "values.yaml").read_text()
    (folder / "values.yaml").write_text(text[: text.index("  premium:")])


def test_workers_may_renew_the_leases_that_ran_out_while_no_server_was_there(world: World) -> None:
    kept, lost = world.submit(), world.submit()
    world.look()
    world.look()
    alive, silent = world.engine.started
    (leased,), _ = world.lease(alive), world.lease(silent)
    world.clock.now += 100
    world.leader = world.another()
    world.look()
    assert world.queue.extend(alive, [(leased.id, leased.token)], 60.0).result(10) == []
    world.look(world.settings.lease.seconds)
    assert (world.get(kept).status, world.get(lost).status) == (Status.LEASED, Status.QUEUED)
    assert "stopped answering" in world.get(lost).reason


def test_a_passed_deadline_ends_what_waits(world: World) -> None:
    world.engine.most = 0
    key = world.submit(deadline=5)
    world.look(6)
    assert world.get(key).status is Status.ABORTED


def test_a_removed_tier_ends_its_jobs_and_its_predictions_with_a_reason(editable: World, tmp_path: Path) -> None:
    world, key = editable, editable.submit("premium")
    world.look()
    (name,) = world.engine.started
    world.lease(name, tier="premium")
    waiting = world.submit("premium")
    remove_premium(tmp_path)
    world.look()
    world.look()
    assert list(world.live.current.settings.tiers) == ["free"]
    assert world.engine.running == {}
    for one, status in ((key, Status.FAILED), (waiting, Status.ABORTED)):
        found = world.get(one)
        assert (found.status, (found.error or {})["code"]) == (status, "tier_removed")


def test_a_job_of_a_removed_tier_is_stopped_as_soon_as_the_engine_answers(editable: World, tmp_path: Path) -> None:
    class Deaf(Obedient):
        """Fails to stop Jobs."""

        def stop(self, name: str, *, at_once: bool = False) -> None:
            raise EngineError("no answer")

    world, waiting = editable, editable.submit("premium")
    world.look()
    (row,) = world.queue.jobs().result(10)
    remove_premium(tmp_path)
    world.look()
    obedient, world.engine = world.engine, Deaf()
    world.engine.running = obedient.running
    world.another().upkeep.step(term := world.term())
    assert world.queue.jobs().result(10) == [row]
    assert world.get(waiting).status is Status.ABORTED, "what waits does not wait for the engine"
    world.leader.upkeep.step(term)
    assert world.queue.jobs().result(10) == []
    assert obedient.running == {}


def test_leases_are_looked_for_as_often_as_the_settings_say(world: World) -> None:
    world.engine.most = 0
    every = world.settings.lease.reclaim
    term = world.term()
    world.leader.upkeep.step(term)
    late = world.submit(deadline=every / 2)
    world.clock.now += every - 0.1
    world.leader.upkeep.step(term)
    assert world.get(late).status is Status.QUEUED
    world.clock.now += 0.1
    world.leader.upkeep.step(term)
    assert world.get(late).status is Status.ABORTED


def test_a_term_that_is_over_ends_nothing_more(world: World) -> None:
    late = world.submit(deadline=1)
    world.clock.now += 2
    (term := Term(0.0)).end()
    world.leader.upkeep.step(term)
    assert world.get(late).status is Status.QUEUED
