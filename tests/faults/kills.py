"""Many short lives of a server on the same data: each is killed while clients and workers are busy."""

from __future__ import annotations

import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.points import Point
from tests.faults.checker import Violation, check
from tests.faults.clients import Client, Habits, settle
from tests.faults.databases import Database
from tests.faults.evidence import Sampler, disk
from tests.faults.hands import Hand
from tests.faults.history import History, Story, read
from tests.faults.issuer import Issuer
from tests.faults.owners import LIMITS, OWNERS, Member, Town, members
from tests.faults.pictures import Pictures
from tests.faults.world import World
from tests.faults.zygote import Zygote

SETTINGS = (
    "server.requireKeys=true",
    "tiers.free.access.perSecond=0",
    "server.tickSeconds=0.3",
    "server.lease.seconds=1",
    "server.lease.heartbeatSeconds=0.3",
    "server.lease.reclaimSeconds=0.3",
    "tiers.free.quota.pods=2",
    "tiers.free.limits.attempts=50",
    "tiers.free.waits.idleSeconds=60",
    "tiers.free.waits.syncSeconds=0.1",
)
MOST = {"rss": 300 << 20, "threads": 40, "fds": 120, "left_over": 4, "at_once": 3, "logs": 60}
LIFE_SECONDS = 0.9
LONG_LIFE_SECONDS = 2.5  # long enough for leases of one second to run out, and for real workers to start
SURE_SECONDS, SURE_TRIES = 30.0, 3
LONG_SHARE = 0.06
RANDOM_SHARE = 0.05
LINGER_SHARE, LINGER_SECONDS = 0.3, 0.05
PAUSE_SHARE, PAUSE_SECONDS = 0.5, 0.02
LOBBY_SECONDS = (0.03, 0.25)  # in lives of the first kind entries are kept while they wait and while they are worked on
RANDOM = "any moment"
# A life is killed when it passes a point for the n-th time, and n is at most this. A life passes some points only a few
# times: with a larger n it would not be killed there at all.
HITS = {
    Point.JOB_OPENED: 2,
    Point.JOB_STARTED: 2,
    Point.LEASE_FRAMED: 8,
    Point.RESULT_KEPT: 6,
    Point.BLOB_DELETED: 6,
    Point.LOBBY_ENTERED: 6,
    Point.LOBBY_LEASED: 6,
    Point.LOBBY_KEEPING: 3,
    Point.LOBBY_KEPT: 3,
    Point.LOBBY_FINISHED: 5,
    Point.LOBBY_SETTLED: 5,
}
HITS_MOST = 25


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of lives: how many callers the server has, its settings, and what it may use of the machine."""

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
# In long lives the server also sweeps old results, so the numbers of rows and pictures must stay bounded.
LONG = Kind(
    clients=8,
    hands=3,
    habits=Habits(pending=30),
    results_seconds=60.0,
    orphan_seconds=20.0,
    lives_a_look=5,
    most={**MOST, "age": 150.0, "left_over": 8},
)


@dataclass(slots=True)
class Figures:
    """What came of a run."""

    seed: int
    lives: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    accepted: int = 0
    violations: list[Violation] = field(default_factory=list)

    def judge(self, story: Story) -> None:
        """Count what was accepted, and find every broken promise."""
        self.violations = check(story)
        self.accepted = len({op.id for op in story.did("submit") if op.answer.get("id")})

    def table(self) -> str:
        """The figures as text, one a line, and the first violations."""
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
    sabotage: str = "",
) -> Figures:
    """Start a server ``count`` times on the same data and kill it each time. The history stays in the folder.

    Without ``life_seconds`` lives are short and end at named points. With it each life lasts about so long, has more
    clients, and is killed at any moment. ``sabotage`` names a promise that the server is to break.
    """
    began = time.monotonic()
    kind = LONG if life_seconds else SHORT
    figures, chance = Figures(seed), random.Random(seed)
    history, pictures = History(folder / "history.jsonl"), Pictures(models)
    history.tell("run", seed=seed, database=database.name, **_terms(kind, pictures))
    with _world(folder, models, kind, history, database, sabotage) as world:
        clients, hands = _crowd(kind, world, seed, history, pictures, _members(kind, world))
        issuer = Issuer(seed, world.service.port, world.operator, history, lambda: world.up.wait(0.5))
        sampler = Sampler(world, history)
        for actor in (*clients, *hands, issuer, sampler):
            actor.start()
        for point in _plan(points, count, figures, sure=not life_seconds):
            world.lobby_seconds = chance.choice(LOBBY_SECONDS)
            if life_seconds:
                _long_life(world, chance.uniform(0.5, 1.5) * life_seconds, figures)
            else:
                _one_life(world, point, chance, figures, sure=figures.lives >= count)
            progress(f"{figures.lives} lives")
            for actor in (*clients, *hands, issuer):
                actor.check()
            if figures.lives % kind.lives_a_look == 0:
                history.tell("disk", **{key: value for key, value in disk(world).items() if key != "rows"})
        _last_life(world, clients, hands, issuer, sampler, history)
    history.close()
    figures.judge(read(history.path))
    figures.seconds = time.monotonic() - began
    return figures


@contextmanager
def _world(
    folder: Path, models: Path, kind: Kind, history: History, database: Database, sabotage: str
) -> Iterator[World]:
    """The server's data, from its first life to its last."""
    settings = (*SETTINGS, f"tiers.free.waits.resultsSeconds={kind.results_seconds}")
    with (
        Zygote(folder, secrets.token_bytes(32), kind.orphan_seconds, sabotage=sabotage) as zygote,
        World(folder, models, zygote, history, settings, database) as world,
    ):
        yield world


def _plan(points: Sequence[Point], count: int, figures: Figures, *, sure: bool) -> Iterator[Point]:
    """At which point each life is to end: ``count`` lives take the points in turn.

    ``sure``: then the points at which no life has ended yet come again.
    """
    for number in range(count):
        yield points[number % len(points)]
    for _ in range(SURE_TRIES if sure else 0):
        yield from [point for point in points if not figures.kills[point.value]]


def _terms(kind: Kind, pictures: Pictures) -> dict[str, Any]:
    """What the judge must know of the run to judge its history."""
    return {
        "mode": "kills",
        "wall": time.time(),
        "limits": LIMITS,
        "labels": pictures.labels,
        "scores": pictures.scores,
        "lease_seconds": 1.0,
        "results_seconds": kind.results_seconds,
        "quota": {"free": 2},
        "most": kind.most,
    }


def _members(kind: Kind, world: World) -> list[Member]:
    """Who the clients are. Their keys are made in a life of its own, so that kills begin afterwards."""
    world.start(real=False)
    world.wait_up()
    found = members(world.operator, [OWNERS[number % len(OWNERS)] for number in range(kind.clients)])
    world.end(signal.SIGTERM)
    return found


def _crowd(
    kind: Kind, world: World, seed: int, history: History, pictures: Pictures, who: Sequence[Member]
) -> tuple[list[Client], list[Hand]]:
    """Clients and workers. One that got no answer waits until the server answers again."""
    public, internal = world.service.port, world.service.internal_port

    def patience() -> None:
        world.up.wait(0.5)

    town, address = Town(), ("127.0.0.1", public)
    clients = [
        Client(f"client-{number}", seed, address, history, pictures, kind.habits, patience, member, town)
        for number, member in enumerate(who)
    ]
    hands = [Hand(number, seed, internal, history, pictures, world.doors, patience) for number in range(kind.hands)]
    return clients, hands


def _last_life(
    world: World, clients: list[Client], hands: list[Hand], issuer: Issuer, sampler: Sampler, history: History
) -> None:
    """A life that nobody kills: every prediction comes to its end, everybody stops, and the disk is looked at."""
    world.start(real=False)
    world.wait_up()
    for hand in hands:
        hand.diligent.set()
    for client in clients:
        client.stop()
    issuer.stop()
    history.tell("settling")
    settle(clients, 120)
    issuer.settle()
    for hand in hands:  # only now: without workers the predictions would not have come to their ends
        hand.stop()
    sampler.stop()
    world.end(signal.SIGTERM)
    history.tell("disk", **disk(world))


def _long_life(world: World, seconds: float, figures: Figures) -> None:
    """Start a server and kill it after so many seconds."""
    life = world.start(real=False)
    figures.lives += 1
    world.wait_up()
    if life.ended.wait(seconds):
        raise RuntimeError(f"a server ended by itself with {life.status}: see {world.log}")
    world.end(signal.SIGKILL)
    figures.kills[RANDOM] += 1


def _one_life(world: World, point: Point, chance: random.Random, figures: Figures, *, sure: bool) -> None:
    """Start a server and kill it, at ``point`` or at any moment.

    ``sure``: at the point and nowhere else, however long a busy machine takes to come to it.
    """
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
