"""A leader that lends quota, on a real queue, and an engine that counts what its Jobs take as quotas do."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from server.engines.base import EngineError, Job, Phase, Room, fit, needs
from server.queue import JobRow, Lending
from server.settings.manifests import Manifest
from server.settings.quantity import parse_quantity
from server.settings.records import Tier
from server.shipped import DEFAULT_VALUES
from tests.server.leader.leader_world import Obedient, World

WENT_BACK = "lent quota went back to premium"


class Counting(Obedient):
    """Has room as quotas say. What a Job took is in use until it is ``gone``, as that of a pod that ends slowly is."""

    def __init__(self) -> None:
        super().__init__()
        self.takes: dict[str, tuple[str, Mapping[str, str]]] = {}
        self.silent = ""
        self.stopped: list[str] = []

    def room(self, tier: Tier, manifest: Manifest) -> Room:
        if tier.name == self.silent:
            raise EngineError("the quotas cannot be read")
        mine = [takes for of, takes in self.takes.values() if of == tier.name]
        hard = {name: float(parse_quantity(text)) for name, text in tier.quota.items()}
        used = {name: float(sum(parse_quantity(one.get(name, "0")) for one in mine)) for name in hard}
        return fit(hard, used, needs(manifest))

    def start(self, tier: Tier, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        super().start(tier, manifest)
        self.takes[name] = tier.name, needs(manifest)
        self.running[name] = Job(name=name, tier=tier.name, phase=Phase.RUNNING, needs=needs(manifest))

    def stop(self, name: str, *, at_once: bool = False) -> None:
        super().stop(name, at_once=at_once)
        self.stopped.append(name)

    def gone(self, name: str) -> None:
        del self.takes[name]

    @property
    def cpu(self) -> float:
        return float(sum(parse_quantity(one["cpu"]) for _, one in self.takes.values()))


class Lent(World):
    """A capacity of four cores; free has borrowed everything, and its workers are no longer young."""

    engine: Counting

    def __init__(self, folder: Path) -> None:
        values = yaml.safe_load(DEFAULT_VALUES.read_text())
        values["capacity"] = {"cpu": "4"}
        values["tiers"]["free"]["quota"]["cpu"] = "4"
        (folder / "values.yaml").write_text(yaml.safe_dump(values))
        super().__init__(folder, Counting(), values=folder / "values.yaml")
        for _ in range(40):
            self.submit()
        for _ in range(4):
            self.look()
            for row in self.rows("free"):
                self.work(row)
        assert len(self.rows("free")) == 4

    def rows(self, tier: str) -> list[JobRow]:
        return [row for row in self.queue.jobs().result(10) if row.tier == tier]

    def recalled(self) -> list[JobRow]:
        return [row for row in self.rows("free") if row.recalled_at is not None]

    def work(self, row: JobRow) -> None:
        """A worker comes, or lives on, and holds what it is given."""
        self.queue.take_up(row.tier, row.name, [], 30.0).result(10)
        self.lease(row.name, tier=row.tier)

    def goes(self, row: JobRow) -> None:
        """A worker hands back what it holds, and ends; its pod counts no more."""
        held = [(one.id, one.token) for one in self.queue.take_up(row.tier, row.name, [], 30.0).result(10)]
        self.queue.release(row.name, held).result(10)
        self.engine.finish(row.name, Phase.SUCCEEDED)
        self.engine.gone(row.name)


@pytest.fixture
def lent(tmp_path: Path, worlds: list[World]) -> Lent:
    worlds.append(world := Lent(tmp_path))
    return world


def test_premium_gets_its_part_back_one_worker_after_another(lent: Lent) -> None:
    lent.look(10)
    lent.submit("premium")
    lent.look(0)
    (recalled,) = lent.recalled()
    assert (recalled.name, recalled.reason) == (lent.rows("free")[-1].name, WENT_BACK)
    assert lent.view("premium").reason == "no worker runs; workers of free hand back what was lent"
    lent.look(0.25)
    assert [row.name for row in lent.recalled()] == [recalled.name], "one goes for one"
    assert "3 workers busy; lent quota went back to premium; " in lent.view().reason
    assert lent.view().lending == Lending(share=0.5, used=0.9, borrowed=0.4, lent=0.0, recalled=1)
    lent.goes(recalled)
    lent.look(0.25)
    assert len(lent.rows("premium")) == 1
    assert len(lent.rows("free")) == 3
    assert lent.engine.cpu <= 4
    (last, *_) = lent.queue.latest_jobs("free", 4).result(10)
    assert (last.name, last.reason, last.blamed) == (recalled.name, WENT_BACK, False)


def test_no_attempt_is_counted_and_nothing_lost(lent: Lent) -> None:
    lent.look(10)
    lent.submit("premium")
    lent.look(0)
    lent.goes(lent.recalled()[0])
    lent.look(0.25)
    depth = lent.queue.depths().result(10)["free"]
    assert (depth.queued, depth.leased) == (37, 3)
    assert lent.queue.strikes("free").result(10).count == 0


def test_a_worker_is_left_alone_for_its_first_ten_seconds(lent: Lent) -> None:
    lent.submit("premium")
    asked = max(row.asked_at or 0.0 for row in lent.rows("free"))
    while not lent.recalled():
        lent.look(0.5)
    (recalled,) = lent.recalled()
    assert recalled.asked_at is not None
    assert lent.clock() - recalled.asked_at >= 10
    assert lent.clock() - asked < 11


def test_a_job_that_has_not_asked_for_work_is_stopped(lent: Lent) -> None:
    young = lent.rows("free")[-1]
    lent.goes(young)
    lent.look()
    starting = lent.rows("free")[-1]
    assert starting.asked_at is None
    lent.look(10)
    lent.submit("premium")
    lent.look(0)
    assert [row.name for row in lent.recalled()] == [starting.name]
    lent.look(0.25)
    assert starting.name in lent.engine.stopped
    assert starting.name not in [row.name for row in lent.rows("free")]


def test_a_recalled_worker_that_does_not_go_is_told_to_end(lent: Lent) -> None:
    lent.look(10)
    lent.submit("premium")
    lent.look(0)
    (recalled,) = lent.recalled()
    lent.look(9)
    assert not lent.engine.stopped
    lent.look(2)
    assert lent.engine.stopped == [recalled.name]
    lent.look(0.25)
    assert len(lent.rows("free")) == 3
    assert not lent.rows("premium"), "its pod still counts"
    assert not lent.recalled()
    lent.engine.gone(recalled.name)
    lent.look(0.25)
    assert len(lent.rows("premium")) == 1


def test_a_pod_that_ends_slowly_costs_no_second_worker(lent: Lent) -> None:
    lent.look(10)
    lent.submit("premium")
    lent.look(0)
    (recalled,) = lent.recalled()
    lent.engine.finish(recalled.name, Phase.SUCCEEDED)
    for _ in range(10):
        lent.look(0.25)
    assert not lent.recalled()
    assert not lent.rows("premium")
    lent.engine.gone(recalled.name)
    lent.look(0.25)
    assert len(lent.rows("premium")) == 1


def test_what_a_stranger_uses_for_long_is_taken_from_the_highest_level(lent: Lent) -> None:
    lent.engine.takes["stranger"] = "premium", {"cpu": "900m"}
    lent.look(20)
    (recalled,) = lent.recalled()
    assert recalled.reason == "more was in use than the capacity"


def test_a_new_leader_goes_on_and_recalls_nobody_else(lent: Lent) -> None:
    lent.look(10)
    lent.submit("premium")
    lent.look(0)
    before = [row.name for row in lent.recalled()]
    lent.leader = lent.another()
    lent.look(0.25)
    assert [row.name for row in lent.recalled()] == before


def test_a_tier_that_cannot_be_looked_at_keeps_what_it_has(lent: Lent) -> None:
    lent.look(10)
    lent.engine.silent = "free"
    lent.submit("premium")
    lent.look(1)
    assert lent.view().reason == "the quotas cannot be read"
    assert lent.view().lending == Lending(share=0.5, used=0.9, borrowed=0.4, lent=0.0, recalled=0)
    assert not lent.recalled()
    assert not lent.rows("premium")
    assert "capacity cpu: 3.6 of 4 used by all tiers, a worker takes 0.9" in lent.view("premium").reason


def test_a_changed_capacity_and_share_act_at_once(tmp_path: Path, lent: Lent) -> None:
    lent.look(10)
    values = yaml.safe_load((tmp_path / "values.yaml").read_text())
    values["capacity"]["cpu"] = "3"
    values["tiers"]["free"]["quota"]["cpu"] = values["tiers"]["premium"]["quota"]["cpu"] = "3"
    values["tiers"]["premium"]["share"] = 2
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(values))
    shutil.move(tmp_path / "new.yaml", tmp_path / "values.yaml")
    lent.look(1)
    lent.look(1)
    (recalled,) = lent.recalled()
    assert recalled.reason == "more was in use than the capacity"
    lending = lent.view("premium").lending
    assert lending is not None
    assert lending.share == pytest.approx(2 / 3, abs=1e-4)


def test_without_a_capacity_nothing_is_told_of_lending(world: World) -> None:
    world.submit()
    world.look()
    assert world.view().lending is None
