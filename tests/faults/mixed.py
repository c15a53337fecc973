"""A long run: clients, real workers, and one fault after another, or several at once; then the judge."""

from __future__ import annotations

import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.checker import Violation, check
from tests.faults.clients import Client, Habits, settle
from tests.faults.databases import Database
from tests.faults.evidence import Sampler, disk
from tests.faults.fault import Fault, Scene
from tests.faults.faults import FAULTS
from tests.faults.history import FINAL, History, Story, read
from tests.faults.pictures import Pictures
from tests.faults.proxy import Proxy
from tests.faults.small_disk import small_disk
from tests.faults.world import Keeper, World
from tests.faults.zygote import Zygote

LEASE = 2.0
RESULTS_SECONDS = 60.0
ORPHAN_SECONDS = 20.0
SETTINGS = (
    "server.tickSeconds=0.5",
    f"server.lease.seconds={LEASE}",
    "server.lease.heartbeatSeconds=0.5",
    "server.lease.reclaimSeconds=0.5",
    "tiers.free.quota.pods=2",
    "tiers.free.limits.attempts=5",
    "tiers.free.waits.idleSeconds=20",
)
KEPT_SECONDS = RESULTS_SECONDS + 90.0  # old results are looked for once a minute
MOST = {"rss": 400 << 20, "threads": 40, "fds": 200, "left_over": 8, "at_once": 6, "logs": 60, "age": KEPT_SECONDS}
HABITS = Habits(poison=1, slow=3)
CLIENTS = 4
AT_ONCE = 2
SETTLE_SECONDS = 120.0


@dataclass(slots=True)
class Figures:
    """What came of it."""

    seed: int
    story: Story
    injected: Counter[str]
    skipped: dict[str, str]
    violations: list[Violation] = field(default_factory=list)

    def table(self) -> str:
        """For people."""
        story, samples = self.story, self.story.told("sample")
        looks = story.told("disk")
        last = looks[-1] if looks else {}
        accepted = {op.id for op in story.did("submit") if op.answer.get("id")}
        ended = {op.id for op in story.ops if op.answer.get("state") in FINAL}
        figures: dict[str, object] = {
            "seed": self.seed,
            "lives": len([event for event in story.told("life") if event["step"] == "start"]),
            "faults": ", ".join(f"{name} {count}" for name, count in sorted(self.injected.items())),
            "skipped": "; ".join(f"{name}: {why}" for name, why in self.skipped.items()) or "none",
            "accepted / ended": f"{len(accepted)} / {len(accepted & ended)}",
            "most memory": f"{max((one['rss'] for one in samples), default=0) >> 20} MiB",
            "most descriptors": max((one["fds"] for one in samples), default=0),
            "most threads": max((one["threads"] for one in samples), default=0),
            "rows / pictures / logs": f"{len(last.get('rows', ()))} / {last.get('blobs')} / {last.get('logs')}",
            "violations": len(self.violations),
        }
        lines = [f"{name:<24}{value}" for name, value in figures.items()]
        return "\n".join([*lines, *map(str, self.violations[:50])])


def run(
    folder: Path,
    models: Path,
    seconds: float,
    seed: int,
    database: Database,
    names: Sequence[str] = tuple(FAULTS),
    progress: Callable[[str], None] = lambda line: None,
) -> Figures:
    """Inject faults for so long, heal, settle, judge; the history is left in the folder."""
    history, pictures = History(folder / "history.jsonl"), Pictures(models)
    history.tell(
        "run",
        mode="mixed",
        seed=seed,
        database=database.name,
        faults=list(names),
        labels=pictures.labels,
        scores=pictures.scores,
        lease_seconds=LEASE,
        results_seconds=RESULTS_SECONDS,
        quota={"free": 2},
        most={key: most for key, most in MOST.items() if key != "age" or "clock-jump" not in names},
    )
    injected: Counter[str] = Counter()
    with ExitStack() as stack:
        roomy = stack.enter_context(small_disk(folder / "world"))
        zygote = stack.enter_context(Zygote(folder, secrets.token_bytes(32), ORPHAN_SECONDS))
        settings = (*SETTINGS, f"tiers.free.waits.resultsSeconds={RESULTS_SECONDS}")
        world = stack.enter_context(World(folder / "world", models, zygote, history, settings, database))
        proxy = stack.enter_context(Proxy(world.service.port, seed))
        scene = Scene(world, zygote, proxy, history, pictures, LEASE, roomy)
        skipped = {name: why for name in names if (why := FAULTS[name].missing(scene))}
        address = ("127.0.0.1", proxy.port)

        def patience() -> None:
            time.sleep(0.02)
            world.up.wait(0.5)

        clients = [
            Client(f"client-{number}", seed, address, history, pictures, HABITS, patience) for number in range(CLIENTS)
        ]
        keeper, sampler = Keeper(world), Sampler(world, history)
        for actor in (keeper, sampler, *clients):
            actor.start()
        chosen = [FAULTS[name] for name in names if name not in skipped]
        _inject(scene, chosen, random.Random(seed), seconds, injected, clients, progress)
        for client in clients:
            client.stop()
        history.tell("settling")
        settle(clients, SETTLE_SECONDS)
        keeper.stop()
        sampler.stop()
        workers = world.workers()
        assert world.wait_up()
        world.end(signal.SIGTERM)
        history.tell("disk", **disk(world))
        left = [f"{one.pid} {' '.join(one.cmdline())}" for one in workers if one.is_running()]
        history.tell("remains", processes=left)
    history.close()
    story = read(history.path)
    return Figures(seed, story, injected, skipped, check(story))


def _inject(
    scene: Scene,
    chosen: Sequence[type[Fault]],
    chance: random.Random,
    seconds: float,
    injected: Counter[str],
    clients: Sequence[Client],
    progress: Callable[[str], None],
) -> None:
    """One fault after another, up to ``AT_ONCE`` of them at the same time; all are healed in the end."""
    began = time.monotonic()
    under_way: list[tuple[float, Fault]] = []
    try:
        while chosen and (now := time.monotonic()) < began + seconds:
            for until, fault in [one for one in under_way if one[0] <= now]:
                under_way.remove((until, fault))
                _heal(scene, fault)
            if len(under_way) < AT_ONCE:
                fault = chance.choice(chosen)(scene, chance)
                if not any(type(other) is type(fault) for _, other in under_way):
                    injected[fault.name] += 1
                    scene.history.tell("fault", name=fault.name, step="inject")
                    fault.inject()
                    under_way.append((now + fault.seconds, fault))
            for client in clients:
                client.check()
            time.sleep(chance.uniform(0.2, 1.2))
            told = sum(len(client.ended) for client in clients)
            progress(f"{now - began:5.0f} s  {sum(injected.values())} faults  {scene.world.lives} lives  {told} ended")
    finally:
        for _, fault in under_way:
            _heal(scene, fault)


def _heal(scene: Scene, fault: Fault) -> None:
    scene.history.tell("fault", name=fault.name, step="heal")
    fault.heal()
