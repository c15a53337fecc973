"""What the leader has the tiers serve, and with which models it starts their Jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.engines.base import Phase
from server.settings.live import AGAIN_SECONDS
from tests.server.leader.leader_world import Obedient, World
from tests.server.leader.serving_world import (
    FIRST,
    NAME,
    Failing,
    canary,
    edit,
    failing,
    finish,
    jobs,
    main,
    push,
    rolled_back,
    serving,
    take,
)
from tests.server.models.model_folder import write


@pytest.fixture
def world(editable: World) -> World:
    failing(editable)
    return editable


@pytest.fixture
def engine(world: World) -> Failing:
    assert isinstance(world.engine, Failing)
    return world.engine


def test_a_tier_serves_what_its_settings_name_and_jobs_start_with_it(world: World) -> None:
    world.submit()
    world.look()
    assert main(world) == FIRST
    assert list(jobs(world).values()) == [FIRST]
    changes = world.queue.models_changed().result(10)
    for _ in range(5):
        world.look()
    assert world.queue.models_changed().result(10) == changes, "nothing is written while nothing changes"


def test_after_a_push_new_workers_have_the_new_version_and_old_ones_get_nothing_more(
    world: World, engine: Failing
) -> None:
    for _ in range(3):
        world.submit()
    world.look()
    world.look()
    busy, starting, other = jobs(world)
    (held,) = take(world, busy)
    push(world, "tf_efficientnet_lite0@00000002")
    world.look()
    assert main(world) == "tf_efficientnet_lite0@00000002"
    assert [one.reference for one in serving(world).previous] == [FIRST]
    assert {starting, other} & engine.running.keys() == set(), "what had not begun makes room at once"
    assert busy in engine.running, "what works finishes"
    new = [name for name, model in jobs(world).items() if model == "tf_efficientnet_lite0@00000002"]
    assert len(new) == 1
    finish(world, busy, [held])
    engine.finish(busy, Phase.SUCCEEDED)
    world.look()
    assert set(jobs(world).values()) == {"tf_efficientnet_lite0@00000002"}
    assert world.view().running == len(jobs(world))


def test_what_finishes_with_an_earlier_model_is_told_to_those_who_wait(tmp_path: Path, worlds: list[World]) -> None:
    worlds.append(world := World(tmp_path, Obedient(most=1)))
    for _ in range(2):
        world.submit()
    world.look()
    take(world, *jobs(world))
    push(world, "tf_efficientnet_lite0@00000002")
    world.look()
    assert world.view().reason == "no worker runs; 1 of 1 taken; 1 with an earlier model finish what they hold"


def test_a_changed_name_is_served_without_a_restart(world: World, tmp_path: Path) -> None:
    world.look()
    push(world, "flowers@00000001", ["best"])
    edit(tmp_path, NAME, "name: flowers@best ")
    world.look()
    assert (main(world), world.live.problem) == ("flowers@00000001", "")
    push(world, "flowers@00000002", ["best"])
    world.look()
    assert main(world) == "flowers@00000002", "the tag has moved"


@pytest.mark.parametrize(
    ("pushed", "said"),
    [
        ({}, "tier free cannot serve flowers: "),
        (
            {"variants": ["onnx/fp32"]},
            "has no int8 for the runtime onnx, only fp32: --set tiers.free.model.variant=fp32",
        ),
    ],
)
def test_a_name_that_cannot_be_served_is_refused_until_it_can(
    world: World, tmp_path: Path, pushed: dict[str, Any], said: str
) -> None:
    world.submit()
    world.look()
    if pushed:
        push(world, "flowers@00000001", **pushed)
    edit(tmp_path, NAME, "name: flowers ")
    edit(tmp_path, "queue: ", "queue: 7 # ")
    world.look()
    assert said in world.live.problem
    assert world.live.current.settings.tiers["free"].limits.queue != 7, "settings are in force whole or not at all"
    assert main(world) == FIRST
    push(world, "flowers@00000002")
    world.look(AGAIN_SECONDS)
    assert (world.live.problem, main(world)) == ("", "flowers@00000002")


def test_a_canary_that_cannot_be_served_is_refused(world: World, tmp_path: Path) -> None:
    canary(tmp_path, "flowers", 10)
    world.look()
    assert "tier free cannot serve flowers" in world.live.problem


def test_a_tag_that_moves_to_what_cannot_be_served_changes_nothing_else(world: World, tmp_path: Path) -> None:
    push(world, "flowers@00000001", ["best"])
    edit(tmp_path, NAME, "name: flowers@best ")
    world.look()
    push(world, "flowers@00000002", ["best"], variants=["timm/fp32"])
    world.submit()
    world.look()
    assert main(world) == "flowers@00000001"
    assert "flowers@00000002 has no int8" in serving(world).problem
    assert list(jobs(world).values()) == ["flowers@00000001"]
    edit(tmp_path, "queue: ", "queue: 7 # ")
    world.look()
    assert world.live.current.settings.tiers["free"].limits.queue == 7, "it does not stand in the way of other changes"
    world.queue.tag_model("flowers", "best", "00000001").result(10)
    world.look()
    assert serving(world).problem == ""


def test_a_tier_without_a_model_starts_nothing_and_the_other_works(tmp_path: Path, worlds: list[World]) -> None:
    worlds.append(world := World(tmp_path, Obedient()))
    (world.models / "tf_efficientnet_lite0").unlink()
    world.submit()
    world.submit("premium")
    world.look()
    assert jobs(world) == {}
    assert world.view().healthy is False
    assert "has no tf_efficientnet_lite0" in world.view().reason
    assert len(jobs(world, "premium")) == 1
    write(world.models, FIRST, link="tf_efficientnet_lite0", variants=["onnx/int8"])
    world.look()
    assert list(jobs(world).values()) == [FIRST]
    assert world.view().healthy is True


def test_a_model_that_cannot_be_loaded_opens_the_breaker_and_a_rollback_starts_at_once(
    world: World, engine: Failing
) -> None:
    engine.bad = ["lite0@00000002"]
    world.look()
    push(world, "tf_efficientnet_lite0@00000002")
    world.submit()
    for _ in range(5):
        world.look()
    assert len(engine.started) == 3
    reason = world.view().reason
    assert "the last 3 workers ended without taking work" in reason
    assert "exit code 1: it cannot be loaded; they run tf_efficientnet_lite0@00000002" in reason
    assert reason.endswith(f"to go back to {FIRST}: tierserve model rollback free")
    rolled_back(world)
    world.look()
    assert (main(world), serving(world).instead_of) == (FIRST, "tf_efficientnet_lite0@00000002")
    assert list(jobs(world).values()) == [FIRST]
    assert world.view().healthy is True
    push(world, "tf_efficientnet_lite0@00000003")
    world.look()
    assert (main(world), serving(world).instead_of) == ("tf_efficientnet_lite0@00000003", "")


def test_another_leader_goes_on_with_what_was_decided(world: World) -> None:
    world.look()
    push(world, "tf_efficientnet_lite0@00000002")
    world.look()
    rolled = rolled_back(world)
    world.leader = world.another()
    changes = world.queue.models_changed().result(10)
    world.look()
    assert serving(world) == rolled
    assert world.queue.models_changed().result(10) == changes


def test_what_an_operator_does_while_the_leader_decides_is_not_lost(world: World) -> None:
    world.look()
    push(world, "tf_efficientnet_lite0@00000002")
    world.look()
    deciding = world.leader.starting._deciding
    tiers = world.live.current.settings.tiers
    stale = deciding.step(tiers)["free"]
    rolled = rolled_back(world)
    deciding.settle(tiers["free"], replace(stale, problem="told too late"), "")
    assert serving(world) == rolled
    assert deciding.step(tiers)["free"] == rolled


def test_a_removed_tier_is_forgotten(world: World, tmp_path: Path) -> None:
    world.look()
    assert set(world.queue.serving().result(10)) == {"free", "premium"}
    path = tmp_path / "values.yaml"
    text = path.read_text()
    start = text.index("  premium:")
    path.write_text(text[:start] + text[text.index("# Only the chart") :])
    world.look()
    assert set(world.queue.serving().result(10)) == {"free"}
