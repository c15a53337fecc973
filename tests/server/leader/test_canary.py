"""A canary gets its part, and harms nobody."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from server.engines.base import Phase
from server.leader.planning import BREAKER_FIRST
from server.shipped import DEFAULT_VALUES
from tests.server.leader.leader_world import Obedient, World
from tests.server.leader.serving_world import (
    FIRST,
    NAME,
    Failing,
    canary,
    edit,
    failing,
    jobs,
    join,
    main,
    push,
    serving,
    take,
)


@pytest.fixture
def world(editable: World) -> World:
    failing(editable)
    return editable


@pytest.fixture
def engine(world: World) -> Failing:
    assert isinstance(world.engine, Failing)
    return world.engine


def test_a_canary_gets_its_part_once_a_worker_of_it_has_asked_for_work(world: World, tmp_path: Path) -> None:
    push(world, "flowers@00000001")
    canary(tmp_path, "flowers", 10)
    world.look()
    assert serving(world).canary is not None
    assert (serving(world).percent, list(jobs(world).values())) == (0.0, ["flowers@00000001"]), (
        "its first worker proves it"
    )
    assert "no worker of it has asked for work yet" in serving(world).problem
    (first,) = jobs(world)
    join(world, first)
    world.look()
    assert (serving(world).percent, serving(world).problem) == (10.0, "")
    world.submit(canary=True)
    world.submit(canary=True)
    world.submit()
    world.look()
    assert sorted(jobs(world).values()) == ["flowers@00000001", "flowers@00000001", FIRST]
    canary(tmp_path, "flowers", 30, before="name: flowers\n        percent: 10")
    world.look()
    assert serving(world).percent == 30.0
    canary(tmp_path, '""', 0, before="name: flowers\n        percent: 30")
    world.look()
    assert serving(world).canary is None
    assert len(take(world, next(name for name, model in jobs(world).items() if model == FIRST), most=5)) == 3, (
        "none is lost"
    )


def test_a_canary_that_becomes_the_main_model_keeps_its_workers(world: World, tmp_path: Path, engine: Failing) -> None:
    push(world, "flowers@00000001")
    canary(tmp_path, "flowers", 10)
    world.look()
    (worker,) = jobs(world)
    join(world, worker)
    world.look()
    waiting = world.submit(canary=True)
    canary(tmp_path, '""', 0, before="name: flowers\n        percent: 10")
    edit(tmp_path, NAME, "name: flowers ")
    world.look(0.1)
    assert main(world) == "flowers@00000001"
    assert engine.started == [worker]
    assert [one.id for one in take(world, worker)] == [waiting]


def test_a_canary_that_cannot_be_loaded_harms_nobody(world: World, tmp_path: Path, engine: Failing) -> None:
    engine.bad = ["flowers@00000001"]
    push(world, "flowers@00000001")
    canary(tmp_path, "flowers", 10)
    for _ in range(6):
        world.look()
    assert len(engine.started) == 3
    told = serving(world)
    assert told.percent == 0.0
    assert "exit code 1: it cannot be loaded" in told.problem
    world.submit()
    world.look()
    assert (engine.started[3:], list(jobs(world).values())) == ([*jobs(world)], [FIRST])
    assert world.view().healthy is True
    changes = world.queue.models_changed().result(10)
    world.look()
    assert world.queue.models_changed().result(10) == changes
    engine.bad = []
    world.look(BREAKER_FIRST)
    (worker,) = (name for name, model in jobs(world).items() if model == "flowers@00000001")
    join(world, worker)
    world.look()
    assert serving(world).percent == 10.0


def test_a_canary_whose_workers_fail_later_gives_back_what_waits_for_it(
    world: World, tmp_path: Path, engine: Failing
) -> None:
    push(world, "flowers@00000001")
    canary(tmp_path, "flowers", 10)
    world.look()
    (worker,) = jobs(world)
    join(world, worker)
    world.look()
    engine.finish(worker, Phase.FAILED, "exit code 1: it cannot be loaded")
    engine.bad = ["flowers@00000001"]
    waiting = world.submit(canary=True)
    for _ in range(5):
        world.look()
    assert serving(world).percent == 0.0
    mine = next(name for name, model in jobs(world).items() if model == FIRST)
    assert [one.id for one in take(world, mine)] == [waiting]


def test_a_canary_gets_a_place_however_busy_the_main_model_is(tmp_path: Path, worlds: list[World]) -> None:
    shutil.copy(DEFAULT_VALUES, tmp_path)
    worlds.append(world := World(tmp_path, Obedient(most=3), values=tmp_path / "values.yaml"))
    for _ in range(20):
        world.submit()
    for _ in range(3):
        world.look()
    for job in jobs(world):
        take(world, job)
    push(world, "flowers@00000001")
    canary(tmp_path, "flowers", 10)
    for _ in range(4):
        world.look()
    assert sorted(jobs(world).values()) == ["flowers@00000001", FIRST, FIRST]


def test_a_canary_without_room_leaves_its_part_to_the_main_model(tmp_path: Path, worlds: list[World]) -> None:
    shutil.copy(DEFAULT_VALUES, tmp_path)
    worlds.append(world := World(tmp_path, Obedient(most=1), values=tmp_path / "values.yaml"))
    push(world, "flowers@00000001")
    canary(tmp_path, "flowers", 10)
    world.look()
    (worker,) = jobs(world)
    join(world, worker)
    world.look()
    assert serving(world).percent == 10.0
    world.engine.finish(worker, Phase.SUCCEEDED)
    world.submit()
    world.look()
    waiting = world.submit(canary=True)
    world.look()
    assert serving(world).percent == 0.0
    assert "there is no room for a worker of it" in serving(world).problem
    (only,) = jobs(world)
    assert waiting in [one.id for one in take(world, only, most=5)]
