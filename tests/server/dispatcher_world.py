"""A dispatcher on the real queue and real blobs, and engines that fail on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from server.blobs import DirectoryBlobs
from server.engines.base import Engine, EngineError, Job, NoRoom, Phase, Place, Pod, Room
from server.leader.dispatcher import Dispatcher
from server.queue.facts.records import Leased, Prediction, Submission, TierView
from server.queue.facts.states import new_id
from server.queue.queue import Queue
from server.queue.store.sqlite import SQLite
from server.settings.live import Live
from server.settings.manifests import BadManifest, Manifest
from server.settings.values import DEFAULT_VALUES, TEMPLATES, load


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Obedient(Engine):
    """Starts whatever it is asked to, with room for ``most`` in all."""

    def __init__(self, most: int = 100) -> None:
        self.most = most
        self.running: dict[str, Job] = {}
        self.started: list[str] = []
        self.refused = ""
        self.stopped_at_once: list[str] = []

    def check(self, manifest: Manifest) -> None:
        if self.refused and self.refused in str(manifest):
            raise BadManifest(f"{self.refused}: refused")

    def room(self, place: Place, manifest: Manifest) -> Room:
        left = self.most - len(self.running)
        return Room(left, f"{len(self.running)} of {self.most} taken", {})

    def jobs(self, place: Place) -> Sequence[Job]:
        return [job for job in self.running.values() if job.tier == place.name]

    def start(self, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        self.running[name] = Job(name, manifest["metadata"]["labels"]["tierserve.dev/tier"], Phase.RUNNING)
        self.started.append(name)

    def stop(self, name: str, *, at_once: bool = False) -> None:
        if at_once:
            self.stopped_at_once.append(name)
        self.running.pop(name, None)

    def pods(self, places: Sequence[Place]) -> Sequence[Pod]:
        return []

    def close(self) -> None:
        self.running.clear()

    def finish(self, name: str, phase: Phase, reason: str = "") -> None:
        self.running[name] = replace(self.running[name], phase=phase, reason=reason)


class Refusing(Obedient):
    """Says there is room, and refuses the second Job of each look: somebody else was faster."""

    def start(self, manifest: Manifest) -> None:
        if len(self.running) % 2:
            raise NoRoom("somebody else took the quota")
        super().start(manifest)


class Unreachable(Obedient):
    """Cannot be asked at all."""

    def jobs(self, place: Place) -> Sequence[Job]:
        raise EngineError("no answer")


class Stillborn(Obedient):
    """Every Job of the tier free fails before it asks for work."""

    def start(self, manifest: Manifest) -> None:
        super().start(manifest)
        name = manifest["metadata"]["name"]
        if "-free-" in name:
            self.finish(name, Phase.FAILED, "exit code 1: no model here")


class World:
    """A dispatcher and what it works on."""

    def __init__(
        self, folder: Path, engine: Obedient, values: Path = DEFAULT_VALUES, templates: Path = TEMPLATES
    ) -> None:
        self.clock = Clock()
        self.database = SQLite.open(folder / "data", self.clock)
        self.queue = Queue(self.database)
        self.blobs = DirectoryBlobs(folder / "blobs")
        self.engine = engine
        self.live = Live(lambda: load(values, base=None, templates=templates), [values], templates, self.clock)
        self.settings = self.live.current.settings
        self.dispatcher = Dispatcher(self.live, self.queue, self.blobs, engine, "http://127.0.0.1:1", self.clock)

    def submit(self, tier: str = "free", deadline: float = 3000) -> str:
        key = new_id(self.clock)
        size = self.blobs.put(key, [[b"picture"]])
        asked = Submission(key, tier, "m", 1, size, 5, 0, deadline, None, None, "anonymous")
        self.queue.submit(asked, 1000).result(10)
        return key

    def get(self, key: str) -> Prediction:
        found = self.queue.get(key).result(10)
        assert found is not None
        return found

    def look(self, seconds: float = 1.0) -> None:
        self.clock.now += seconds
        self.dispatcher.tick()

    def view(self, tier: str = "free") -> TierView:
        return self.queue.views().result(10)[tier]

    def lease(self, name: str, most: int = 1, tier: str = "free") -> list[Leased]:
        return self.queue.lease(tier, name, most, 1 << 20, 30.0).result(10)
