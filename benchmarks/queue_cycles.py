"""How fast the durable queue is, beside bare sqlite3 and behind a million predictions of 10,000 callers, in one run.

Run: python -m benchmarks.queue_cycles [--postgresql URL | --postgresql here] [--waiting 1000 1000000 ...]

A cycle is a submit, a lease and a complete. What waits is of the main model; a cycle of a canary goes by its lane, in
which nothing else waits. Each caller has 100 waiting predictions. On SQLite every commit is on disk
(WAL, synchronous=FULL), also on the bare side, which is one table with one index and the five statements that no queue
can do without. A tick is what the leader asks each second. The ratios hold for any machine, but the figures only for
the one that ran it.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa

from benchmarks.backlog import TIER, PostgreSQLStore, SQLiteStore, Store
from server.queue import Completion, Queue, Submission, new_id
from server.queue.operations.moves import ORDER
from server.queue.store.tables import predictions
from tests.postgres import Postgres

_p = predictions.c
JOB = "job"
TOGETHER = (1, 8)  # how many cycles go together
WAITING = (1_000, 1_000_000)
ROUNDS = 5
PARTS = ("submit", "lease", "complete")
PAGE = 21  # a list of 20, and one more that tells whether there is a next page
SECONDS = 0.5  # how long each measurement lasts
RESULTS = [{"index": 0, "labels": [{"label": f"label {rank}", "score": 0.2} for rank in range(5)]}]

Figures = dict[tuple[str, int], list[float]]  # by what was measured and how many waited, one figure of each round


def seconds_each(work: Callable[[], object], size: int = 1) -> float:
    """How many seconds ``work`` takes, divided by ``size``."""
    work()  # not measured, because the first one is slower
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS:
        work()
        done += size
    return spent / done


def bare_cycle(connection: sqlite3.Connection, size: int) -> None:
    """The queue's three transactions, written in SQL alone."""
    rows = [(os.urandom(16).hex(), "free", "queued", time.time()) for _ in range(size)]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO work (id, tier, status, at) VALUES (?, ?, ?, ?)", rows)
    connection.execute("COMMIT")
    connection.execute("BEGIN IMMEDIATE")
    found = connection.execute(
        "SELECT seq FROM work WHERE tier = ? AND status = 'queued' ORDER BY seq LIMIT ?", ("free", size)
    ).fetchall()
    connection.executemany("UPDATE work SET status = 'leased', token = 't' WHERE seq = ?", found)
    connection.execute("COMMIT")
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("UPDATE work SET status = 'succeeded', results = 'r' WHERE seq = ?", found)
    connection.execute("COMMIT")


def bare(path: Path) -> sqlite3.Connection:
    """A bare SQLite file that syncs its commits as the queue does."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        """
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        CREATE TABLE work (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, tier TEXT, status TEXT, at REAL, token TEXT,
            results TEXT);
        CREATE INDEX work_queue ON work (tier, seq) WHERE status = 'queued';
        """
    )
    return connection


def submission(store: Store, *, canary: bool = False) -> Submission:
    """A submission of one picture, by one of the callers."""
    owner = f"owner{random.randrange(store.callers)}"
    return Submission(
        id=new_id(store.database.clock),
        tier=TIER,
        model="tf_efficientnet_lite0",
        images=1,
        size=150_000,
        top_k=5,
        priority=0,
        deadline=6000.0,
        idempotency_key=None,
        fingerprint=None,
        owner=owner,
        caller=f"owner:{owner}",
        canary=canary,
    )


def submit(store: Store, size: int, *, canary: bool = False) -> None:
    """Submit so many at once."""
    queue = Queue(store.database)
    for future in [queue.submit(submission(store, canary=canary), 1 << 30) for _ in range(size)]:
        future.result()


def cycle(store: Store, size: int, spent: Counter[str] | None = None, *, canary: bool = False) -> None:
    """Make ``size`` submits at once, then one lease and one completion of them all; ``spent`` gets the seconds."""
    queue, moments = Queue(store.database), [time.perf_counter()]
    submit(store, size, canary=canary)
    moments.append(time.perf_counter())
    leased = queue.lease(TIER, JOB, size, 1 << 40, 30.0, canary=canary).result().leased
    moments.append(time.perf_counter())
    done = [Completion(id=one.id, token=one.token, results=RESULTS, error=None, predict_ms=8.0) for one in leased]
    queue.complete(JOB, done).result()
    moments.append(time.perf_counter())
    if spent is not None:
        spent.update(dict(zip(PARTS, (after - before for before, after in pairwise(moments)), strict=True)))
        spent.update(cycles=size)


def end_canary(store: Store, size: int) -> None:
    """Submit so many to a canary, then move them to the main model: what its end costs, and the submits."""
    submit(store, size, canary=True)
    while Queue(store.database).end_canary(TIER).result():
        pass


def tick(store: Store) -> None:
    """What ``server.leader.starting`` asks of the queue."""
    queue = Queue(store.database)
    queue.jobs().result()
    queue.depths().result()
    queue.strikes(TIER).result()


def position(store: Store, prediction: str) -> None:
    """Ask where one prediction waits."""
    found = Queue(store.database).position(prediction).result()
    if found is None:
        raise RuntimeError("it does not wait")


def page(store: Store) -> None:
    """Ask for the newest predictions of one owner, as ``GET /v1/predictions`` does."""
    Queue(store.database).listing(f"owner{random.randrange(store.callers)}", PAGE).result()


def settled(store: Store) -> None:
    """Make a queue of which the first are still to be leased, and one waits even where none shall."""
    Queue(store.database).open_job(JOB, TIER, "run").result()
    submit(store, 1)


def measure(stores: dict[int, Store], figures: Figures) -> None:
    """One round: each figure behind each number of waiting predictions, one after another."""
    for size in TOGETHER:
        for waiting, store in stores.items():
            spent: Counter[str] = Counter()
            took = seconds_each(partial(cycle, store, size, spent), size)
            figures.setdefault((f"cycle, {size} at a time", waiting), []).append(took)
            for part in PARTS:
                figures.setdefault((f"{part}, {size} at a time", waiting), []).append(spent[part] / spent["cycles"])
    for waiting, store in stores.items():
        took = seconds_each(partial(cycle, store, 1, canary=True))
        figures.setdefault(("cycle of a canary", waiting), []).append(took)
        took = seconds_each(partial(end_canary, store, PAGE), PAGE)
        figures.setdefault(("submit, moved to main", waiting), []).append(took)
        figures.setdefault(("tick", waiting), []).append(seconds_each(partial(tick, store)))
    for waiting, store in stores.items():
        figures.setdefault(("list of an owner", waiting), []).append(seconds_each(partial(page, store)))
    for name, share in (("position at the front", 0.0), ("position in the middle", 0.5), ("position at the end", 1.0)):
        for waiting, store in stores.items():
            took = seconds_each(partial(position, store, nth(store, share)))
            figures.setdefault((name, waiting), []).append(took)


def nth(store: Store, share: float) -> str:
    """The id of the prediction before which so large a share of the tier waits."""
    depth = Queue(store.database).depths().result()[TIER].queued
    asked = sa.select(_p.id).where(_p.tier == TIER, ~_p.canary, _p.status == "queued").order_by(*ORDER)
    found = store.database.read(lambda tx: tx.first(asked.limit(1).offset(int((depth - 1) * share)))).result()
    if found is None:
        raise RuntimeError("nothing waits")
    return str(found.id)


def show(database: str, figures: Figures) -> None:
    """Print the medians, and the medians of the ratios to the first column."""
    columns = sorted({waiting for _, waiting in figures})
    print(f"\n{database:24}" + "".join(f"{f'{waiting:,} waiting':>28}" for waiting in columns))
    for name in dict.fromkeys(name for name, _ in figures):
        line = f"{name:24}"
        for waiting in columns:
            of_none, of_these = figures[name, columns[0]], figures.get((name, waiting), [])
            pairs = [one / none for one, none in zip(of_these, of_none, strict=False)]
            line += f"{statistics.median(of_these) * 1000:16.3f} ms ({statistics.median(pairs):.2f})" if pairs else ""
        print(line)


def beside_bare(store: Store, connection: sqlite3.Connection) -> None:
    """Print how many cycles a second the queue makes for each that bare sqlite3 makes."""
    for size in TOGETHER:
        pairs = [
            (seconds_each(partial(bare_cycle, connection, size), size), seconds_each(partial(cycle, store, size), size))
            for _ in range(ROUNDS)
        ]
        ours, limit = (1 / statistics.median(column) for column in (list(zip(*pairs, strict=True))[::-1]))
        ratio = statistics.median(bare / queue for bare, queue in pairs)
        print(f"{size} at a time: {ours:.0f} cycles/s, bare sqlite3 {limit:.0f}, ratio {ratio:.2f}")


def fdatasync_time(path: Path) -> float:
    """How long it takes to overwrite 8 KiB of a file and sync them to disk: the median in milliseconds."""
    times = []
    with path.open("wb") as file:
        file.write(bytes(4 << 20))
        for index in range(300):
            start = time.perf_counter()
            os.pwrite(file.fileno(), bytes(8192), index * 8192)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def behind(make: Callable[[int], Store], waiting: list[int], stack: ExitStack) -> tuple[dict[int, Store], Figures]:
    """Fill a store for each number of waiting predictions, and measure them in rounds."""
    stores = {count: stack.enter_context(make(count)) for count in waiting}
    for store in stores.values():
        settled(store)
    figures: Figures = {}
    for _ in range(ROUNDS):
        measure(stores, figures)
    return stores, figures


def main() -> int:
    """Print the figures."""
    words = argparse.ArgumentParser()
    words.add_argument("--postgresql", metavar="URL", help="an empty database, or `here` for a server started here")
    words.add_argument("--folder", default=".", help="where the files of SQLite are; in memory, none waits for a disk")
    words.add_argument("--waiting", type=int, nargs="+", default=WAITING)
    given = words.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name, ExitStack() as stack:
        folder = Path(name)
        stores, figures = behind(lambda count: SQLiteStore(folder / str(count), count), given.waiting, stack)
        print(f"fdatasync of 8 KiB: {fdatasync_time(folder / 'probe'):.2f} ms")
        connection = bare(folder / "bare.db")
        stack.callback(connection.close)
        beside_bare(stores[min(stores)], connection)
        show("SQLite", figures)
    if given.postgresql:
        with ExitStack() as stack:
            url = given.postgresql if given.postgresql != "here" else stack.enter_context(Postgres()).url
            show("PostgreSQL", behind(lambda count: PostgreSQLStore(url, count), given.waiting, stack)[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
