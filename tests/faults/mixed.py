"""A long run: faults are injected, one or two at a time, while clients and real workers are busy; then it is judged."""

from __future__ import annotations

import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import lending
from tests.faults.checker import Violation, check
from tests.faults.clients import Client, Habits, settle
from tests.faults.curator import Curator, Versions, versions
from tests.faults.databases import Database
from tests.faults.evidence import Sampler, disk
from tests.faults.fault import Fault, Scene
from tests.faults.faults import FAULTS
from tests.faults.history import FINAL, History, Story, read
from tests.faults.issuer import Issuer
from tests.faults.owners import LIMITS, OWNERS, Town, members
from tests.faults.pictures import Pictures
from tests.faults.proxy import Proxy
from tests.faults.small_disk import small_disk
from tests.faults.world import Keeper, World
from tests.faults.zygote import Zygote

LEASE = 2.0
RESULTS_SECONDS = 60.0
ORPHAN_SECONDS = 20.0
SETTINGS = (
    "server.requireKeys=true",
    "tiers.free.access.perSecond=0",
    "server.tickSeconds=0.5",
    f"server.lease.seconds={LEASE}",
    "server.lease.heartbeatSeconds=0.5",
    "server.lease.reclaimSeconds=0.5",
    "tiers.free.quota.pods=2",
    "tiers.free.limits.attempts=5",
    "tiers.free.waits.idleSeconds=20",
    "tiers.free.waits.syncSeconds=0.3",
)
KEPT_SECONDS = RESULTS_SECONDS + 90.0  # the server looks for old results once a minute; the rest is margin
MOST = {"rss": 400 << 20, "threads": 40, "fds": 200, "left_over": 8, "at_once": 6, "logs": 60, "age": KEPT_SECONDS}
HABITS = Habits(poison=1, slow=3)
AT_ONCE = 2
LOBBY_SECONDS = (0.05, 0.25)
SETTLE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Manner:
    """How a run goes: the least and the most seconds between two faults, and what clients do.

    The servers break the promise that ``sabotage`` names, if any. ``canaries``: whether there are some now and then.
    ``quiet`` has the seconds between two changes of the model, of which one is chosen each time. ``lending``:
    whether tiers lend each other quota; nobody changes the model then.
    """

    pause: tuple[float, float] = (0.2, 1.2)
    habits: Habits = HABITS
    sabotage: str = ""
    canaries: bool = True
    quiet: Sequence[float] = (0.5, 2.0, 6.0)
    lending: bool = False


@dataclass(slots=True)
class Figures:
    """What came of a run."""

    seed: int
    story: Story
    injected: Counter[str]
    skipped: dict[str, str]
    violations: list[Violation] = field(default_factory=list)

    @property
    def models(self) -> Counter[str]:
        """How many predictions each model answered."""
        found = {op.id: str(op.answer["model"]) for op in self.story.ops if op.answer.get("state") == "succeeded"}
        return Counter(found.values())

    def table(self) -> str:
        """The figures as text, one a line, and the first violations."""
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
            "changes of the model": len(story.did("change")),
            "models that answered": ", ".join(f"{name} {many}" for name, many in sorted(self.models.items())),
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
    manner: Manner = Manner(),
) -> Figures:
    """Inject faults for some seconds, heal them, let everything settle, and judge. The history stays in the folder."""
    history, pictures = History(folder / "history.jsonl"), Pictures(models)
    made = versions(models, folder / "models")
    history.tell("run", seed=seed, database=database.name, **_terms(names, pictures, made, manner))
    injected: Counter[str] = Counter()
    with _scene(folder, models, seed, database, history, pictures, manner) as scene:
        world = scene.world
        skipped = {name: why for name in names if (why := FAULTS[name].missing(scene))}
        keeper, sampler = Keeper(world), Sampler(world, history)
        assert world.wait_up()
        clients = _clients(scene, seed, manner)
        issuer = Issuer(seed, world.service.port, world.operator, history, lambda: world.up.wait(0.5))
        curator = Curator(
            seed, world, history, made, lambda: world.up.wait(0.5), canaries=manner.canaries, quiet=manner.quiet
        )
        curators = [] if manner.lending else [curator]
        for one in curators:
            one.push_all()
        for actor in (keeper, sampler, issuer, *curators, *clients):
            actor.start()
        chosen = [FAULTS[name] for name in names if name not in skipped]
        _inject(scene, chosen, random.Random(seed), seconds, injected, clients, progress, manner.pause)
        for actor in (issuer, *curators, *clients):
            actor.stop()
        history.tell("settling")
        settle(clients, SETTLE_SECONDS)
        issuer.settle()
        # The keeper goes first: it would start the next server as soon as this one ends.
        keeper.stop()
        sampler.stop()
        _end(scene)
    history.close()
    story = read(history.path)
    return Figures(seed=seed, story=story, injected=injected, skipped=skipped, violations=check(story))


def _terms(names: Sequence[str], pictures: Pictures, made: Versions, manner: Manner) -> dict[str, Any]:
    """What the judge must know of the run to judge its history."""
    return {
        "mode": "mixed",
        "wall": time.time(),
        "clock_jumps": "clock-jump" in names,
        "limits": LIMITS,
        "faults": list(names),
        "labels": pictures.labels,
        "scores": pictures.scores,
        "words": dict(made.words),
        "first": [made.built],
        "lease_seconds": LEASE,
        "results_seconds": RESULTS_SECONDS,
        **(lending.TERMS if manner.lending else {"quota": {"free": 2}}),
        # A clock that jumps an hour makes results look older than they are.
        "most": {key: most for key, most in MOST.items() if key != "age" or "clock-jump" not in names},
    }


@contextmanager
def _scene(
    folder: Path,
    models: Path,
    seed: int,
    database: Database,
    history: History,
    pictures: Pictures,
    manner: Manner,
) -> Iterator[Scene]:
    """Everything that faults act on, for as long as the block lasts: a small disk, a server and a proxy before it."""
    with ExitStack() as stack:
        roomy = stack.enter_context(small_disk(folder / "world"))
        alone = lending.ALONE_SECONDS if manner.lending else None
        secret, sabotage = secrets.token_bytes(32), manner.sabotage
        zygote = stack.enter_context(Zygote(folder, secret, ORPHAN_SECONDS, sabotage=sabotage, alone=alone))
        tiers = lending.TIERS if manner.lending else ("free",)
        kept = [f"tiers.{tier}.waits.resultsSeconds={RESULTS_SECONDS}" for tier in tiers]
        settings = (*SETTINGS, *(lending.SETTINGS if manner.lending else ()), *kept)
        values = folder / "values.yaml"
        values.write_text("{}")
        world = stack.enter_context(World(folder / "world", models, zygote, history, settings, database, values))
        proxy = stack.enter_context(Proxy(world.service.port, seed))
        yield Scene(
            world=world, zygote=zygote, proxy=proxy, history=history, pictures=pictures, lease=LEASE, roomy=roomy
        )


def _clients(scene: Scene, seed: int, manner: Manner) -> list[Client]:
    """Clients that ask through the proxy. One that got no answer waits until the server answers again."""
    address, up = ("127.0.0.1", scene.proxy.port), scene.world.up

    def patience() -> None:
        time.sleep(0.02)  # a server may count as up although the proxy cuts every connection to it
        up.wait(0.5)

    tiers = lending.TIERS if manner.lending else ()
    town, who = Town(), members(scene.world.operator, OWNERS, *tiers)
    crowd = lending.crowd() if manner.lending else len(who) * [(Client, "free", manner.habits)]
    return [
        kind(f"client-{number}", seed, address, scene.history, scene.pictures, habits, patience, member, town, tier)
        for number, (member, (kind, tier, habits)) in enumerate(zip(who, crowd, strict=True))
    ]


def _end(scene: Scene) -> None:
    """End the server as an operator does. Note what is on the disk then, and which of its workers have outlived it."""
    world, history = scene.world, scene.history
    workers = world.workers()  # now, because a server that has ended has no children
    assert world.wait_up()  # the keeper may have started this server just before it was stopped
    world.end(signal.SIGTERM)
    history.tell("disk", **disk(world))
    left = [f"{one.pid} {' '.join(one.cmdline())}" for one in workers if one.is_running()]
    history.tell("remains", processes=left)


def _inject(
    scene: Scene,
    chosen: Sequence[type[Fault]],
    chance: random.Random,
    seconds: float,
    injected: Counter[str],
    clients: Sequence[Client],
    progress: Callable[[str], None],
    pause: tuple[float, float],
) -> None:
    """Inject one fault after another, with at most ``AT_ONCE`` of them at a time. In the end all are healed."""
    began = time.monotonic()
    under_way: list[tuple[float, Fault]] = []
    try:
        while chosen and (now := time.monotonic()) < began + seconds:
            for until, fault in [one for one in under_way if one[0] <= now]:
                under_way.remove((until, fault))
                _heal(scene, fault)
            if len(under_way) < AT_ONCE:
                fault = chance.choice(chosen)(scene, chance)
                # Two faults of one kind never overlap: healing the first would heal the second.
                if not any(type(other) is type(fault) for _, other in under_way):
                    injected[fault.name] += 1
                    scene.history.tell("fault", name=fault.name, step="inject")
                    scene.world.lobby_seconds = chance.choice(LOBBY_SECONDS)
                    fault.inject()
                    under_way.append((now + fault.seconds, fault))
            for client in clients:
                client.check()
            time.sleep(chance.uniform(*pause))
            told = sum(len(client.ended) for client in clients)
            progress(f"{now - began:5.0f} s  {sum(injected.values())} faults  {scene.world.lives} lives  {told} ended")
    finally:
        for _, fault in under_way:
            _heal(scene, fault)


def _heal(scene: Scene, fault: Fault) -> None:
    scene.history.tell("fault", name=fault.name, step="heal")
    fault.heal()
