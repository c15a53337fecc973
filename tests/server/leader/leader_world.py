"""A leader on a real queue and real blobs, and engines that fail on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from server.blobs import Blobs, DirectoryBlobs, DirectoryFiles
from server.engines.base import Engine, EngineError, Job, NoRoom, Phase, Pod, Room
from server.leader.leader import Leader
from server.leader.term import Term
from server.models import DEFAULTS, Catalog, Models, Orphans
from server.queue import Completion, Leased, Prediction, Queue, SQLite, TierView, new_id
from server.settings.judging import judge
from server.settings.live import Live
from server.settings.manifests import BadManifest, Manifest
from server.settings.records import Tier
from server.settings.sources import Files
from server.shipped import DEFAULT_VALUES, TEMPLATES
from tests.server.given import HandClock, submission
from tests.server.models.model_folder import write


class Obedient(Engine):
    """Starts every Job that it is asked to start. It has room for ``most`` Jobs of all tiers together."""

    def __init__(self, most: int = 100) -> None:
        self.most = most
        self.running: dict[str, Job] = {}
        self.started: list[str] = []
        self.refused = ""
        self.stopped_at_once: list[str] = []

    def check(self, manifest: Manifest) -> None:
        if self.refused and self.refused in str(manifest):
            raise BadManifest(f"{self.refused}: refused")

    def room(self, tier: Tier, manifest: Manifest) -> Room:
        left = self.most - len(self.running)
        return Room(jobs=left, reason=f"{len(self.running)} of {self.most} taken", quota={})

    def jobs(self, tier: Tier) -> Sequence[Job]:
        return [job for job in self.running.values() if job.tier == tier.name]

    def start(self, tier: Tier, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        self.running[name] = Job(name=name, tier=tier.name, phase=Phase.RUNNING)
        self.started.append(name)

    def stop(self, name: str, *, at_once: bool = False) -> None:
        if at_once:
            self.stopped_at_once.append(name)
        self.running.pop(name, None)

    def pods(self, tiers: Sequence[Tier]) -> Sequence[Pod]:
        return []

    def close(self) -> None:
        self.running.clear()

    def finish(self, name: str, phase: Phase, reason: str = "") -> None:
        self.running[name] = replace(self.running[name], phase=phase, reason=reason)


class Refusing(Obedient):
    """Says that there is room, but refuses every second Job, as if somebody else had taken the room."""

    def start(self, tier: Tier, manifest: Manifest) -> None:
        if len(self.running) % 2:
            raise NoRoom("somebody else took the quota")
        super().start(tier, manifest)


class Unreachable(Obedient):
    """Does not answer when asked for Jobs."""

    def jobs(self, tier: Tier) -> Sequence[Job]:
        raise EngineError("no answer")


class Stillborn(Obedient):
    """Fails every Job of the tier free before it asks for work."""

    def start(self, tier: Tier, manifest: Manifest) -> None:
        super().start(tier, manifest)
        name = manifest["metadata"]["name"]
        if tier.name == "free":
            self.finish(name, Phase.FAILED, "exit code 1: no model here")


class World:
    """A leader, and what it works on."""

    def __init__(
        self,
        folder: Path,
        engine: Obedient,
        values: Path = DEFAULT_VALUES,
        templates: Path = TEMPLATES,
        blobs: Blobs | None = None,
    ) -> None:
        self.clock = HandClock()
        self.database = SQLite.open(folder / "data", self.clock)
        self.queue = Queue(self.database)
        self.blobs = blobs or DirectoryBlobs(folder / "blobs")
        self.files = DirectoryFiles(folder / "store")
        self.engine = engine
        self.models = folder / "models"
        for name in DEFAULTS:
            write(self.models, f"{name}@00000001", link=name, variants=["onnx/fp32", "onnx/int8", "timm/fp32"])
        files = Files((values,), base=None, templates=templates)
        self.live = Live(files, judge=judge, clock=self.clock, patience=30)
        self.settings = self.live.current.settings
        self.leader = self.another()

    def another(self, queue: Queue | None = None) -> Leader:
        """A new leader, as of a server that has just started."""
        asked = queue or self.queue
        catalog = Catalog(asked, Models(self.models))
        orphans = Orphans(asked, self.files)
        return Leader(self.live, asked, self.blobs, self.engine, "http://127.0.0.1:1", catalog, orphans, self.clock)

    def submit(self, tier: str = "free", deadline: float = 3000, *, canary: bool = False) -> str:
        key = new_id(self.clock)
        size = self.blobs.put(key, [[b"picture"]])
        asked = submission(self.clock, id=key, tier=tier, size=size, deadline=deadline, canary=canary)
        self.queue.submit(asked, 1000).result(10)
        return key

    def get(self, key: str) -> Prediction:
        found = self.queue.get(key).result(10)
        assert found is not None
        return found

    def look(self, seconds: float = 1.0) -> None:
        """Let time pass, then do one step of upkeep and one of starting."""
        self.clock.now += seconds
        term = self.leader.ask()
        if term is not None:
            self.leader.upkeep.step(term)
        self.leader.starting.step(term)

    def term(self) -> Term:
        term = self.leader.ask()
        assert term is not None
        return term

    def sweep(self, seconds: float = 0.0) -> None:
        self.clock.now += seconds
        self.leader.sweeping.step(self.term())

    def view(self, tier: str = "free") -> TierView:
        return self.queue.views().result(10)[tier]

    def lease(self, name: str, most: int = 1, tier: str = "free") -> list[Leased]:
        return self.queue.lease(tier, name, most, 1 << 20, 30.0).result(10).leased

    def finish(self, tier: str = "free") -> str:
        """Make a prediction succeed through a Job of its own; returns its id."""
        key = self.submit(tier)
        self.queue.open_job(f"job-of-{key}", tier, key).result(10)
        (leased,) = self.lease(f"job-of-{key}", tier=tier)
        done = Completion(id=leased.id, token=leased.token, results=[{}], error=None, predict_ms=1.0)
        assert self.queue.complete(f"job-of-{key}", [done]).result(10) == ["accepted"]
        self.queue.end_job(f"job-of-{key}", "done", blame=False).result(10)
        return leased.id
