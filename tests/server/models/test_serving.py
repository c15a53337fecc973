"""What every server knows of what the tiers serve, and what else changes it or asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from server.models import Catalog, Models, ServingView, is_canary, rolled_back, unserved
from server.queue import Collided, Queue, QueueError, Served, Serving, SQLite
from server.settings.records import ModelChoice, Tier
from server.settings.values import load
from tests.server.given import HandClock
from tests.server.models.model_folder import write

V1, V2 = "flowers@00000001", "flowers@00000002"
OLD, NEW = (Served(reference, "0" * 64, "onnx", "int8", 1.0) for reference in (V1, V2))
FREE = replace(load().tiers["free"], model=ModelChoice("flowers", "int8", "onnx"))


class Overtaken(Queue):
    """Something else is stored ``times`` just before what is to be stored."""

    times = 0

    def serve(self, tier: str, now: Serving, before: Serving | None = None) -> Future[bool]:
        if self.times:
            self.times -= 1
            changed = replace(before or Serving(), percent=float(self.times + 1))
            super().serve(tier, changed).result(10)
        return super().serve(tier, now, before)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Overtaken]:
    database = SQLite.open(tmp_path / "data", HandClock())
    yield Overtaken(database)
    database.close()


@pytest.fixture
def catalog(queue: Queue, tmp_path: Path) -> Catalog:
    for reference in (V1, V2):
        write(tmp_path / "models", reference, link="flowers", variants=["onnx/int8"])
    return Catalog(queue, Models(tmp_path / "models"))


def test_a_view_tells_what_was_decided_and_when_it_changes(queue: Queue) -> None:
    view, heard = ServingView(queue.serving), []
    view.changed = lambda: heard.append(view.of("free"))
    view.refresh()
    assert (view.of("free"), view.is_canary("free", "any"), heard) == (Serving(), False, [])
    queue.serve("free", Serving(OLD, NEW, 50)).result(10)
    view.refresh()
    view.refresh()
    assert heard == [Serving(OLD, NEW, 50)]
    for number in range(100):
        assert view.is_canary("free", f"id-{number}") == is_canary(f"id-{number}", 50)
        assert not view.is_canary("premium", f"id-{number}")


def test_a_view_that_cannot_be_refreshed_keeps_what_it_knows() -> None:
    answers: list[Future[dict[str, Serving]]] = [Future(), Future()]
    answers[0].set_result({"free": Serving(OLD)})
    answers[1].set_exception(QueueError("the database is away"))
    view = ServingView(lambda: answers.pop(0))
    view.refresh()
    with pytest.raises(QueueError):
        view.refresh()
    assert view.of("free") == Serving(OLD)


@pytest.mark.parametrize("times", [0, 1, 4])
def test_a_rollback_that_the_leader_overtakes_is_decided_anew(queue: Overtaken, catalog: Catalog, times: int) -> None:
    queue.serve("free", Serving(NEW, previous=(OLD,))).result(10)
    queue.times = times
    now = rolled_back(queue, catalog, FREE, 9.0, undo=False)
    assert (now.main and now.main.reference, now.instead_of) == (V1, V2)
    assert queue.serving().result(10) == {"free": now}


def test_a_rollback_that_is_overtaken_for_ever_is_given_up(queue: Overtaken, catalog: Catalog) -> None:
    queue.serve("free", Serving(NEW, previous=(OLD,))).result(10)
    queue.times = 100
    with pytest.raises(Collided):
        rolled_back(queue, catalog, FREE, 9.0, undo=False)
    assert queue.serving().result(10)["free"].main == NEW


def test_at_the_start_each_tier_without_its_model_is_told_with_what_it_goes_on_with(
    queue: Queue, catalog: Catalog
) -> None:
    def named(name: str) -> Tier:
        return replace(FREE, name=name, model=replace(FREE.model, name="flowers" if name == "well" else "weeds"))

    queue.serve("held", Serving(OLD)).result(10)
    queue.serve("other", Serving(replace(OLD, variant="fp32"))).result(10)
    queue.serve("gone", Serving(replace(OLD, reference="weeds@00000001"))).result(10)
    found = unserved(queue, catalog, {name: named(name) for name in ("well", "held", "other", "gone", "new")})
    assert {name: instead for name, (_, instead) in found.items()} == {
        "held": V1,
        "other": V1,
        "gone": "weeds@00000001",
        "new": "",
    }
    assert all("has no weeds" in why for why, _ in found.values())
