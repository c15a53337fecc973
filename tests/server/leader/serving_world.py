"""What tests of decisions do to a leader's world, and how they read what it decided."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server.engines.base import Phase
from server.models import Catalog, Models, roll_back
from server.queue import Completion, Leased, Serving, StoredFile, StoredModel
from server.settings.manifests import Manifest
from server.settings.records import Tier
from tests.server.leader.leader_world import Obedient, World
from tests.server.models.model_folder import record

FIRST = "tf_efficientnet_lite0@00000001"
NAME = "name: tf_efficientnet_lite0 "


class Failing(Obedient):
    """Fails every Job whose manifest names one of ``bad`` before it asks for work."""

    bad: Sequence[str] = ()

    def start(self, tier: Tier, manifest: Manifest) -> None:
        super().start(tier, manifest)
        if any(model in str(manifest) for model in self.bad):
            self.finish(manifest["metadata"]["name"], Phase.FAILED, "exit code 1: it cannot be loaded")


def failing(world: World) -> Failing:
    """Give the world such an engine."""
    world.engine = engine = Failing()
    world.leader = world.another()
    return engine


def push(world: World, reference: str, tags: Sequence[str] = (), **changes: Any) -> None:
    fields = record(reference, **({"variants": ["onnx/int8", "onnx/fp32"]} | changes))
    files = tuple(StoredFile(one["sha256"], one["bytes"]) for one in fields["variants"])
    name, _, version = reference.partition("@")
    world.queue.add_model(StoredModel(name, version, fields["digest"], json.dumps(fields), files, 0.0), tags).result(10)


def edit(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "values.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def canary(tmp_path: Path, name: str, percent: float, before: str = 'name: ""\n        percent: 0') -> None:
    edit(tmp_path, before, f"name: {name}\n        percent: {percent}")


def serving(world: World, tier: str = "free") -> Serving:
    return world.queue.serving().result(10)[tier]


def main(world: World, tier: str = "free") -> str:
    served = serving(world, tier).main
    return served.reference if served else ""


def rolled_back(world: World, tier: str = "free") -> Serving:
    """What an operator does."""
    before, of = serving(world, tier), world.live.current.settings.tiers[tier]
    catalog = Catalog(world.queue, Models(world.models))
    catalog.refresh()
    after = roll_back(of.model, before, lambda name: catalog.usable(of, name), world.clock())
    assert world.queue.serve(tier, after, before).result(10)
    return after


def jobs(world: World, tier: str = "free") -> dict[str, str]:
    """The live Jobs and what they run, oldest first."""
    return {row.name: row.model.split()[0] for row in world.queue.jobs().result(10) if row.tier == tier}


def take(world: World, job: str, *, canary: bool = False, most: int = 1) -> list[Leased]:
    return world.queue.lease("free", job, most, 1 << 20, 30.0, canary=canary).result(10).leased


def join(world: World, job: str) -> None:
    """Its worker asks for work."""
    assert world.queue.take_up("free", job, [], 30.0).result(10) == []


def finish(world: World, job: str, leased: Sequence[Leased]) -> None:
    done = [Completion(id=one.id, token=one.token, results=[{}], error=None, predict_ms=1.0) for one in leased]
    assert world.queue.complete(job, done).result(10) == ["accepted"] * len(done)
