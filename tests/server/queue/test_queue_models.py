"""The models that were pushed, and what tiers serve, on each database."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from server.queue import (
    ModelsChanged,
    Queue,
    Served,
    Serving,
    StoredFile,
    StoredModel,
    TooManyModels,
    TooManyTags,
    VersionTaken,
)
from server.queue.operations.models import TAGS_MOST
from server.queue.store import tables
from tests.server.queue.queue_world import PostgresWorld, World
from tests.waiting import eventually

RECORD = '{"name": "flowers", "labels": ["Gänseblümchen", "\\u0000"]}'
FILES = (StoredFile("a" * 64, 20_000_000_000), StoredFile("b" * 64, 0))
SERVED = Served("flowers@11111111", "1" * 64, "onnx", "int8", 12.5)
CANARY = Served("flowers@22222222", "2" * 64, "timm", "fp32", 13.5)


def model(version: str = "11111111", name: str = "flowers", **changes: Any) -> StoredModel:
    plain = StoredModel(name, version, version * 8, RECORD, FILES, 0.0)
    return replace(plain, **changes)


def tags(world: World) -> dict[str, str]:
    return {tag: one.reference for one in world.queue.models().result() for tag in one.tags}


def latest(world: World) -> list[str]:
    return [one.reference for one in world.queue.models().result() if one.latest]


def test_a_model_is_kept_as_it_was_pushed(world: World) -> None:
    assert world.queue.models().result() == []
    assert world.queue.model("flowers", "11111111").result() is None
    at = world.clock.now
    assert world.queue.add_model(model(), ["stable", "best"]).result()
    kept = model(pushed_at=at, tags=("best", "stable"), latest=True)
    world.restart()
    assert world.queue.model("flowers", "11111111").result() == kept
    assert world.queue.models().result() == [replace(kept, record="")]


def test_a_model_that_is_pushed_again_is_the_latest(world: World) -> None:
    for one in (model(), model("22222222"), model("22222222", "trees")):
        assert world.queue.add_model(one).result()
        world.clock.advance(1)
    assert latest(world) == ["flowers@22222222", "trees@22222222"]
    assert not world.queue.add_model(model(), ["again"]).result()
    assert latest(world) == ["flowers@11111111", "trees@22222222"]
    assert tags(world) == {"again": "flowers@11111111"}
    assert len(world.queue.models().result()) == 3


@pytest.mark.parametrize("step", [0.0, -3600.0])
def test_what_is_pushed_later_is_the_latest_also_when_the_clock_says_otherwise(world: World, step: float) -> None:
    for version in ("33333333", "11111111", "22222222"):
        world.queue.add_model(model(version)).result()
        assert latest(world) == [f"flowers@{version}"]
        world.clock.advance(step)
    assert [one.version for one in world.queue.models().result()] == ["33333333", "11111111", "22222222"]


def test_a_tag_points_to_one_model_of_its_name(world: World) -> None:
    for one in (model(), model("22222222"), model("33333333", "trees")):
        world.queue.add_model(one, ["stable"] if one.version != "22222222" else []).result()
    assert tags(world)["stable"] == "trees@33333333"
    assert world.queue.tag_model("flowers", "stable", "22222222").result()
    found = {one.reference: one.tags for one in world.queue.models().result()}
    assert found == {"flowers@11111111": (), "flowers@22222222": ("stable",), "trees@33333333": ("stable",)}
    for name, version in (("flowers", "33333333"), ("nothing", "11111111")):
        assert not world.queue.tag_model(name, "stable", version).result()
    assert {one.reference: one.tags for one in world.queue.models().result()} == found


def test_a_model_goes_with_its_tags_and_no_others(world: World) -> None:
    for one in (model(), model("22222222"), model("11111111", "trees")):
        world.queue.add_model(one, [f"of-{one.reference}"]).result()
    assert world.queue.remove_model("flowers", "11111111").result()
    assert not world.queue.remove_model("flowers", "11111111").result()
    assert tags(world) == {"of-flowers@22222222": "flowers@22222222", "of-trees@11111111": "trees@11111111"}
    assert world.queue.remove_model("flowers", "22222222").result()
    assert world.queue.add_model(model()).result()
    assert latest(world) == ["flowers@11111111", "trees@11111111"]
    assert tags(world) == {"of-trees@11111111": "trees@11111111"}


def test_no_more_models_are_kept_than_may_be(world: World) -> None:
    for at in range(3):
        world.queue.add_model(model(f"{at}" * 8), most=3).result()
    with pytest.raises(TooManyModels, match="3 models are kept"):
        world.queue.add_model(model("44444444"), ["new"], most=3).result()
    assert not world.queue.add_model(model("22222222"), most=3).result()  # it is there
    assert len(world.queue.models().result()) == 3
    assert tags(world) == {}


def test_a_name_has_no_more_tags_than_it_may(world: World) -> None:
    world.queue.add_model(model(), [f"tag{at}" for at in range(TAGS_MOST)]).result()
    changes: list[Callable[[], Future[bool]]] = [
        lambda: world.queue.tag_model("flowers", "more", "11111111"),
        lambda: world.queue.add_model(model("22222222"), ["more"]),
    ]
    for change in changes:
        with pytest.raises(TooManyTags):
            change().result()
    assert len(tags(world)) == TAGS_MOST
    assert world.queue.model("flowers", "22222222").result() is None
    assert world.queue.tag_model("flowers", "tag5", "11111111").result()
    assert world.queue.add_model(model("33333333", "trees"), ["more"]).result()


def test_two_digests_that_begin_alike_are_not_taken_for_one_model(world: World) -> None:
    world.queue.add_model(model()).result()
    number = world.queue.models_changed().result()
    with pytest.raises(VersionTaken):
        world.queue.add_model(model(digest="1" * 63 + "2"), ["other"]).result()
    found = world.queue.model("flowers", "11111111").result()
    assert found is not None
    assert (found.digest, found.tags) == ("1" * 64, ())
    assert world.queue.models_changed().result() == number


def test_every_change_moves_the_number_and_is_told(world: World) -> None:
    changes: list[Callable[[], Future[Any]]] = [
        lambda: world.queue.add_model(model()),
        lambda: world.queue.add_model(model()),
        lambda: world.queue.tag_model("flowers", "best", "11111111"),
        lambda: world.queue.remove_model("flowers", "11111111"),
        lambda: world.queue.serve("free", Serving(SERVED)),
        lambda: world.queue.forget_serving("free"),
    ]
    for change in changes:
        before = world.queue.models_changed().result()
        world.heard()
        change().result()
        assert world.heard() == [ModelsChanged()]
        assert world.queue.models_changed().result() == before + 1
    nothing: list[Callable[[], Future[Any]]] = [
        lambda: world.queue.tag_model("flowers", "best", "11111111"),
        lambda: world.queue.remove_model("flowers", "11111111"),
        lambda: world.queue.forget_serving("free"),
    ]
    before = world.queue.models_changed().result()
    for change in nothing:
        change().result()
    assert world.heard() == []
    assert world.queue.models_changed().result() == before
    assert world.queue.keys_changed().result() == 0


def test_what_a_tier_serves_is_kept(world: World) -> None:
    assert world.queue.serving().result() == {}
    whole = Serving(SERVED, CANARY, 2.5, (CANARY, SERVED), "flowers@33333333", "it is not there")
    world.queue.serve("free", whole).result()
    world.queue.serve("premium", Serving(problem="nothing was pushed")).result()
    world.restart()
    assert world.queue.serving().result() == {"free": whole, "premium": Serving(problem="nothing was pushed")}
    world.queue.serve("free", Serving(CANARY)).result()
    world.queue.forget_serving("premium").result()
    assert world.queue.serving().result() == {"free": Serving(CANARY)}


def test_what_a_tier_serves_is_replaced_only_where_it_is_what_was_read(world: World) -> None:
    first, second, third = Serving(SERVED), Serving(CANARY), Serving(SERVED, CANARY, 2.5)
    assert not world.queue.serve("free", second, first).result()
    assert world.queue.serving().result() == {}
    changes = world.queue.models_changed().result()
    assert world.queue.serve("free", first, Serving()).result(), "nothing was stored yet"
    assert not world.queue.serve("free", third, second).result()
    assert world.queue.serving().result() == {"free": first}
    assert world.queue.models_changed().result() == changes + 1, "what changes nothing is no change"
    assert world.queue.serve("free", second, first).result()
    assert world.queue.serve("free", third).result()
    assert world.queue.serving().result() == {"free": third}


def test_what_a_server_of_another_version_wrote_is_read(world: World) -> None:
    """It may have fields that are not known here, and lack others."""
    main = {"reference": "a@1", "digest": "d", "runtime": "onnx", "variant": "int8", "since": 1.0, "colour": "red"}
    state = {"main": main, "previous": [main], "shadow": {"of": main}, "percent": 5}
    texts = {"free": json.dumps(state), "premium": "{}"}
    insert = sa.insert(tables.serving).values({name: sa.bindparam(name) for name in ("tier", "state", "at")})
    rows = [{"tier": tier, "state": text, "at": 1.0} for tier, text in texts.items()]
    world.database.write(lambda tx: tx.change(insert, rows)).result()
    served = Served("a@1", "d", "onnx", "int8", 1.0)
    assert world.queue.serving().result() == {"free": Serving(served, None, 5, (served,)), "premium": Serving()}


def test_two_servers_may_push_the_same_model_at_once(tmp_path: Path) -> None:
    with PostgresWorld(tmp_path) as world, world.open() as second, ThreadPoolExecutor(2) as pool:
        queues = (world.queue, Queue(second))
        for at in range(10, 30):
            one = model(f"{at}" * 4)
            new = pool.map(lambda queue, one=one: queue.add_model(one, ["tag"]).result(20), queues)
            assert sorted(new) == [False, True]
            assert latest(world) == [one.reference]
            assert tags(world) == {"tag": one.reference}


def test_another_server_is_told_of_a_change(tmp_path: Path) -> None:
    with PostgresWorld(tmp_path) as world, world.open() as second:
        Queue(second).serve("free", Serving()).result()
        eventually(lambda: world.told, 10.0, "the notice comes")
        assert [ModelsChanged()] in world.told
