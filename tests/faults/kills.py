"""Many short lives on the same data, each killed at a named point or at any moment, with clients and workers at it."""

from __future__ import annotations

import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.points import Point
from tests.faults.checker import Violation, check
from tests.faults.clients import Client, Habits, settle
from tests.faults.databases import Database
from tests.faults.evidence import Sampler, disk
from tests.faults.hands import Hand
from tests.faults.history import History, read
from tests.faults.pictures import Pictures
from tests.faults.world import World
from tests.faults.zygote import Zygote

SETTINGS = (
    "server.tickSeconds=0.3",
    "server.lease.seconds=1",
    "server.lease.heartbeatSeconds=0.3",
    "server.lease.reclaimSeconds=0.3",
    "tiers.free.quota.pods=2",
    "tiers.free.limits.attempts=50",
    "tiers.free.waits.idleSeconds=60",
)
MOST = {"rss": 300 << 20, "threads": 40, "fds": 120, "left_over": 4, "at_once": 3, "logs": 60}
LIFE_SECONDS = 0.9
LONG_LIFE_SECONDS = 2.5  # leases of one second run out in it, and real workers get to work
SURE_SECONDS, SURE_TRIES = 30.0, 3
LONG_SHARE = 0.06
RANDOM_SHARE = 0.05
LINGER_SHARE, LINGER_SECONDS = 0.3, 0.05
PAUSE_SHARE, PAUSE_SECONDS = 0.5, 0.02
RANDOM = "any moment"
# How often a point is reached in a life is uneven: to be killed there, it must not be for a hit that never comes.
HITS = {Point.JOB_OPENED: 2, Point.JOB_STARTED: 2, Point.LEASE_FRAMED: 8, Point.RESULT_KEPT: 6, Point.BLOB_DELETED: 6}
HITS_MOST = 25


@dataclass(frozen=True, slots=True)
class Kind:
    """What kind of lives: how many are at the server, what it is told, and what it may take of the machine."""

    clients: int
    hands: int
    habits: Habits
    results_seconds: float
    orphan_seconds: float
    lives_a_look: int
    most: Mapping[str, float]


SHORT = Kind(
    clients=3, hands=2, habits=Habits(), results_seconds=86400.0, orphan_seconds=3600.0, lives_a_look=20, most=MOST
)
# In long lives results are forgotten too, so that rows and pictures must stay bounded.
LONG = Kind(
    clients=8,
    hands=4,
    habits=Habits(pending=30),
    results_seconds=60.0,
    orphan_seconds=20.0,
    lives_a_look=5,
    most={**MOST, "age": 150.0, "left_over": 8},
)


@dataclass(slots=True)
class Figures:
    """What came of it."""

    seed: int
    lives: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    accepted: int = 0
    violations: list[Violation] = field(default_factory=list)

    def table(self) -> str:
        """For people."""
        lines = [f"{point:<16}{self.kills[point]:>6}" for point in [*(point.value for point in Point), RANDOM]]
        rate = f"{self.seconds / max(1, self.lives):.2f} s a life"
        return "\n".join(
            [
                f"seed {self.seed}: {self.lives} lives, {sum(self.kills.values())} kills survived, {rate}",
                *lines,
                f"{self.accepted} predictions accepted, {len(self.violations)} violations",
                *map(str, self.violations[:50]),
            ]
        )


def kills(
    folder: Path,
    models: Path,
    count: int,
    seed: int,
    database: Database,
    points: Sequence[Point] = tuple(Point),
    life_seconds: float = 0.0,
    progress: Callable[[str], None] = lambda line: None,
) -> Figures:
    """Live and die so often; the history is left in the folder.

    With ``life_seconds`` each life is about so long, with many clients, and is killed at any moment.
    """
    began = time.monotonic()
    kind = LONG if life_seconds else SHORT
    figures, chance = Figures(seed), random.Random(seed)
    history, pictures = History(folder / "history.jsonl"), Pictures(models)
    history.tell("run", seed=seed, database=database.name, **_terms(kind, pictures))
    with ExitStack() as stack:
        zygote = stack.enter_context(Zygote(folder, secrets.token_bytes(32), kind.orphan_seconds))
        settings = (*SETTINGS, f"tiers.free.waits.resultsSeconds={kind.results_seconds}")
        world = stack.enter_context(World(folder, models, zygote, history, settings, database))
        clients, hands = _crowd(kind, world, seed, history, pictures)
        sampler = Sampler(world, history)
        for actor in (*clients, *hands, sampler):
            actor.start()
        for point in _plan(points, count, figures, sure=not life_seconds):
            if life_seconds:
                _long_life(world, chance.uniform(0.5, 1.5) * life_seconds, figures)
            else:
                _one_life(world, point, chance, figures, sure=figures.lives >= count)
            progress(f"{figures.lives} lives")
            for actor in (*clients, *hands):
                actor.check()
            if figures.lives % kind.lives_a_look == 0:
                history.tell("disk", **{key: value for key, value in disk(world).items() if key != "rows"})
        _last_life(world, clients, hands, history)
        sampler.stop()
        world.end(signal.SIGTERM)
        history.tell("disk", **disk(world))
    history.close()
    story = read(history.path)
    figures.violations = check(story)
    figures.accepted = len({op.id for op in story.did("submit") if op.answer.get("id")})
    figures.seconds = time.monotonic() - began
    return figures


def _plan(points: Sequence[Point], count: int, figures: Figures, *, sure: bool) -> Iterator[Point]:
    """Where each life is to end: each point in turn; to be sure, those again that no life has come to."""
    for number in range(count):
        yield points[number % len(points)]
    for _ in range(SURE_TRIES if sure else 0):
        yield from [point for point in points if not figures.kills[point.value]]


def _terms(kind: Kind, pictures: Pictures) -> dict[str, Any]:
    """What the judge goes by."""
    return {
        "mode": "kills",
        "labels": pictures.labels,
        "scores": pictures.scores,
        "lease_seconds": 1.0,
        "results_seconds": kind.results_seconds,
        "quota": {"free": 2},
        "most": kind.most,
    }


def _crowd(
    kind: Kind, world: World, seed: int, history: History, pictures: Pictures
) -> tuple[list[Client], list[Hand]]:
    """Clients and workers, who wait for the next life when there is no answer."""
    public, internal = world.service.port, world.service.internal_port

    def patience() -> None:
        world.up.wait(0.5)

    clients = [
        Client(f"client-{number}", seed, ("127.0.0.1", public), history, pictures, kind.habits, patience)
        for number in range(kind.clients)
    ]
    hands = [
        Hand(f"hand-{number}", seed, internal, history, pictures, world.doors, patience) for number in range(kind.hands)
    ]
    return clients, hands


def _last_life(world: World, clients: list[Client], hands: list[Hand], history: History) -> None:
    """One in which everything comes to its end, and everybody stops."""
    world.start(real=False)
    world.wait_up()
    for hand in hands:
        hand.diligent.set()
    for client in clients:
        client.stop()
    history.tell("settling")
    settle(clients, 120)
    for hand in hands:
        hand.stop()


def _long_life(world: World, seconds: float, figures: Figures) -> None:
    life = world.start(real=False)
    figures.lives += 1
    world.wait_up()
    if life.ended.wait(seconds):
        raise RuntimeError(f"a server ended by itself with {life.status}: see {world.log}")
    world.end(signal.SIGKILL)
    figures.kills[RANDOM] += 1


def _one_life(world: World, point: Point, chance: random.Random, figures: Figures, *, sure: bool) -> None:
    """From a start to a kill. ``sure``: at that point only, however long a busy machine takes to reach it."""
    long = chance.random() < LONG_SHARE and not sure
    hit = 1 if sure else chance.randint(1, HITS.get(point, HITS_MOST))
    pause = chance.uniform(0, PAUSE_SECONDS) if chance.random() < PAUSE_SHARE else 0.0
    linger = LINGER_SECONDS if chance.random() < LINGER_SHARE else 0.0
    kill = None if long else (point.value, hit, pause)
    life = world.start(real=long and chance.random() < 0.5, kill=kill, linger=linger)
    figures.lives += 1
    world.wait_up()
    most = SURE_SECONDS if sure else LONG_LIFE_SECONDS if long else LIFE_SECONDS
    if life.ended.wait(chance.uniform(0, most) if chance.random() < RANDOM_SHARE and not sure else most):
        world.bury()
    else:
        world.end(signal.SIGKILL)
    if life.status != -signal.SIGKILL:
        raise RuntimeError(f"a server ended by itself with {life.status}: see {world.log}")
    figures.kills[life.point or RANDOM] += 1
