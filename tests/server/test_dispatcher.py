"""The dispatcher: whatever the engine does, promises are kept and nothing is started for nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from server.blobs import DirectoryBlobs
from server.config import TEMPLATES
from server.dispatcher import BREAKER_FIRST, Dispatcher, breaker_seconds, plan
from server.engines.base import EngineError, Job, Phase, Room
from server.queue.records import Completion, Depth
from server.queue.states import Status
from server.render import Renderer
from tests.server.dispatcher_world import Obedient, Refusing, Stillborn, Unreachable, World


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[list[World]]:
    made: list[World] = []
    yield made
    for world in made:
        world.database.close()


@pytest.fixture
def world(tmp_path: Path, worlds: list[World]) -> World:
    worlds.append(World(tmp_path, Obedient()))
    return worlds[0]


def room(jobs: int) -> Room:
    return Room(jobs, "quota cpu: 2 of 2 used, a worker takes 1", {})


@pytest.mark.parametrize(
    ("queued", "leased", "waited", "starting", "running", "jobs", "pace", "starts"),
    [
        (0, 0, 0, 0, 0, 5, 1, 0),  # nothing to do
        (1, 0, 0, 0, 0, 5, 1, 1),
        (9, 0, 0, 0, 0, 5, 1, 1),  # slow start
        (9, 0, 0, 1, 1, 5, 2, 2),
        (9, 0, 0, 3, 3, 2, 4, 2),  # room bounds it
        (9, 0, 0, 0, 5, 0, 4, 0),  # no room
        (1, 0, 0, 1, 1, 5, 1, 0),  # the starting one will take it
        (2, 0, 0, 1, 1, 5, 1, 1),
        (1, 0, 0, 0, 1, 5, 1, 0),  # the idle one will take it
        (1, 0, 2, 0, 1, 5, 1, 1),  # it did not: it has hung
        (1, 1, 0, 0, 1, 5, 1, 1),  # the only one is busy
        (1, 4, 0, 0, 2, 5, 1, 1),  # both hold more than one
    ],
)
def test_plan(
    queued: int, leased: int, waited: float, starting: int, running: int, jobs: int, pace: int, starts: int
) -> None:
    depth = Depth(queued, leased, 100.0 - waited if queued else None)
    assert plan(depth, 100.0, starting, running, room(jobs), pace).starts == starts


def test_plan_says_why_it_waits() -> None:
    assert (
        plan(Depth(3, 2, 0), 0, 0, 2, room(0), 1).reason == "2 workers busy; quota cpu: 2 of 2 used, a worker takes 1"
    )
    assert plan(Depth(1, 0, 0), 0, 0, 0, room(0), 1).reason.startswith("no worker runs; quota")
    assert plan(Depth(1, 0, 0), 0, 0, 0, room(1), 1).reason == "a worker is starting"
    assert plan(Depth(0, 0, None), 0, 0, 0, room(1), 1).reason == ""


def test_jobs_start_one_two_four_until_the_room_is_taken(tmp_path: Path, worlds: list[World]) -> None:
    worlds.append(world := World(tmp_path, Obedient(most=6)))
    for _ in range(20):
        world.submit()
    counts = []
    for _ in range(5):
        world.look()
        counts.append(len(world.engine.started))
    assert counts == [1, 3, 6, 6, 6]
    assert world.view()["reason"] == "6 workers busy; 6 of 6 taken"
    assert world.queue.jobs().result(10)[0].tier == "free"


def test_a_refusal_ends_the_round_and_starts_slowly_again(tmp_path: Path, worlds: list[World]) -> None:
    worlds.append(world := World(tmp_path, Refusing()))
    for _ in range(9):
        world.submit()
    world.look()
    world.look()
    assert len(world.engine.started) == 1
    assert world.view()["reason"] == "somebody else took the quota"
    assert world.queue.strikes("free").result(10).count == 0
    assert [row.name for row in world.queue.jobs().result(10)] == world.engine.started


def test_a_dead_worker_gives_back_what_it_held_and_a_finished_one_is_forgotten(world: World) -> None:
    key = world.submit()
    world.look()
    (name,) = world.engine.started
    world.lease(name)
    world.engine.finish(name, Phase.FAILED, "signal SIGKILL")
    world.look()
    assert name not in world.engine.running
    assert world.get(key).reason == "signal SIGKILL"
    (second,) = world.engine.started[1:]
    (leased,) = world.lease(second)
    assert (leased.id, leased.solo, leased.attempt) == (key, True, 2)


def test_a_job_that_vanished_costs_no_attempt(world: World) -> None:
    key = world.submit()
    world.look()
    (name,) = world.engine.started
    world.lease(name)
    world.engine.running.clear()
    world.look()
    assert (world.get(key).status, world.get(key).attempts) == (Status.QUEUED, 0)


def test_a_job_nobody_knows_is_stopped(world: World) -> None:
    world.engine.running["tierserve-free-stranger"] = Job("tierserve-free-stranger", "free", Phase.RUNNING)
    world.look()
    assert world.engine.running == {}


def test_a_job_that_asks_for_no_work_is_replaced(world: World) -> None:
    world.submit()
    world.look()
    (name,) = world.engine.started
    world.look(world.settings.tiers["free"].waits.start + 1)
    assert name not in world.engine.running
    assert "asked for no work within 60 s" in world.queue.strikes("free").result(10).last_reason


def test_a_tier_whose_jobs_all_fail_rests_longer_each_time_and_the_other_works(
    tmp_path: Path, worlds: list[World]
) -> None:
    worlds.append(world := World(tmp_path, Stillborn()))
    world.submit()
    for _ in range(8):
        world.look()
    assert len(world.engine.started) == 3
    assert world.view()["healthy"] is False
    assert "exit code 1: no model here" in str(world.view()["reason"])
    world.look(BREAKER_FIRST)
    assert len(world.engine.started) == 4
    world.look()
    world.look(BREAKER_FIRST)
    assert len(world.engine.started) == 4
    world.look(BREAKER_FIRST)
    assert len(world.engine.started) == 5
    world.submit("premium")
    world.look()
    assert world.view("premium")["healthy"] is True
    assert "premium" in world.engine.started[-1]


def test_breaker_seconds_are_bounded() -> None:
    assert [breaker_seconds(strikes) for strikes in (0, 2, 3, 4, 50)] == [0, 0, 10, 20, 300]


def test_an_engine_that_cannot_be_asked_stops_nothing_else(tmp_path: Path, worlds: list[World]) -> None:
    worlds.append(world := World(tmp_path, Unreachable()))
    key = world.submit(deadline=5)
    with pytest.raises(EngineError):
        world.look()
    world.submit()
    with pytest.raises(EngineError):
        world.look(6)
    assert world.get(key).status is Status.ABORTED
    assert world.view() == {"healthy": False, "reason": "no answer"}


def test_a_passed_deadline_ends_what_waits(world: World) -> None:
    world.engine.most = 0
    key = world.submit(deadline=5)
    world.look(6)
    assert world.get(key).status is Status.ABORTED


def test_a_removed_tier_ends_its_predictions_with_a_reason(tmp_path: Path, world: World) -> None:
    key = world.submit("premium")
    tiers = {"free": world.settings.tiers["free"]}
    other = replace(world.settings, tiers=tiers)
    Dispatcher(other, world.queue, world.blobs, world.engine, Renderer(), "http://x", world.clock).tick()
    found = world.get(key)
    assert (found.status, (found.error or {})["code"]) == (Status.ABORTED, "tier_removed")


def test_a_template_that_breaks_between_two_looks_stops_only_its_tier(world: World, tmp_path: Path) -> None:
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    world.dispatcher._renderer = Renderer(tmp_path / "templates")
    world.look()
    (tmp_path / "templates" / "free.yaml.j2").write_text("{{ nothing | tojson }}")
    world.submit("free")
    world.submit("premium")
    world.look()
    assert ["premium" in name for name in world.engine.started] == [True]
    assert "free.yaml.j2" in str(world.view()["reason"])


def test_old_results_go_with_their_blobs_and_orphans_too(world: World) -> None:
    key = world.submit()
    world.look()
    (leased,) = world.lease(world.engine.started[0])
    world.queue.complete(world.engine.started[0], [Completion(key, leased.token, [{}], None, 1.0)]).result(10)
    world.blobs.put("porphan", [[b"x"]])
    aged = DirectoryBlobs(tmp := world.blobs._root, lambda: time.time() + 3 * 86400)
    world.dispatcher._blobs = aged
    waiting = world.submit("premium", deadline=10 * 86400)
    world.look(86400 + 61)
    assert world.queue.get(key).result(10) is None
    assert [path.name for path in tmp.iterdir()] == [waiting]


def test_run_goes_on_after_a_stumble_and_closes_the_engine(world: World) -> None:
    calls = []

    class Once(Obedient):
        def jobs(self) -> Sequence[Job]:
            calls.append(1)
            if len(calls) == 1:
                raise EngineError("once")
            dispatcher.stop()
            return super().jobs()

    engine = Once()
    engine.running["x"] = Job("x", "free", Phase.RUNNING)
    dispatcher = Dispatcher(world.settings, world.queue, world.blobs, engine, Renderer(), "http://x", world.clock)
    dispatcher.run()
    assert len(calls) == 2
    assert engine.running == {}
