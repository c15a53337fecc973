"""How many cycles (submit, lease, complete) a second the durable queue makes, beside bare sqlite3 in the same run.

Run: python -m benchmarks.queue_cycles

Every commit is on disk (WAL, synchronous=FULL) on both sides. The bare side is one table with one index and the five
statements that no queue can do without. The ratios hold for any machine, but the figures only for the one that ran it.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from server.queue import Completion, Database, Queue, SQLite, Submission, new_id

TARGETS = {1: 500, 8: 3000}  # cycles a second, by how many cycles go together
ROUNDS = 3
SECONDS = 0.8  # how long each measurement lasts
BACKLOG = 10_000
RESULTS = [{"index": 0, "labels": [{"label": f"label {rank}", "score": 0.2} for rank in range(5)]}]


def rate(cycle: Callable[[], None], size: int) -> float:
    """How many cycles a second ``cycle`` makes, if each call makes ``size`` of them."""
    cycle()  # not measured, because the first one is slower
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS:
        cycle()
        done += size
    return done / spent


def bare_cycle(connection: sqlite3.Connection, size: int) -> Callable[[], None]:
    """The queue's three transactions, written in SQL alone."""

    def cycle() -> None:
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

    return cycle


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


def submission(database: Database, tier: str) -> Submission:
    """A submission of one picture."""
    return Submission(
        id=new_id(database.clock),
        tier=tier,
        model="tf_efficientnet_lite0",
        images=1,
        size=150_000,
        top_k=5,
        priority=0,
        deadline=600.0,
        idempotency_key=None,
        fingerprint=None,
        owner="benchmark",
    )


def queue_cycle(database: Database, queue: Queue, tier: str, size: int) -> Callable[[], None]:
    """A cycle makes ``size`` submits at once, then one lease and one completion of them all."""

    def cycle() -> None:
        for future in [queue.submit(submission(database, tier), 1 << 30) for _ in range(size)]:
            future.result()
        leased = queue.lease(tier, f"job-{tier}", size, 1 << 40, 30.0).result().leased
        done = [Completion(id=one.id, token=one.token, results=RESULTS, error=None, predict_ms=8.0) for one in leased]
        queue.complete(f"job-{tier}", done).result()

    return cycle


def submit_times(database: Database, queue: Queue, tier: str) -> tuple[float, float]:
    """How long a submit takes when one follows another: the median and the 99th percentile in milliseconds."""
    times = []
    for _ in range(1000):
        start = time.perf_counter()
        queue.submit(submission(database, tier), 1 << 30).result()
        times.append((time.perf_counter() - start) * 1000)
    times.sort()
    return times[500], times[990]


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


def main() -> int:
    """Print the figures. The status is 1 if this machine misses a target."""
    with tempfile.TemporaryDirectory(dir=".") as name, SQLite.open(Path(name) / "data") as database:
        queue, connection = Queue(database), bare(Path(name) / "bare.db")
        for tier in ("free", "deep"):
            queue.open_job(f"job-{tier}", tier, "run").result()
        for _ in range(BACKLOG // 1000):
            for future in [queue.submit(submission(database, "deep"), 1 << 30) for _ in range(1000)]:
                future.result()
        figures: dict[tuple[str, int], list[float]] = {}
        for _ in range(ROUNDS):
            for size in TARGETS:
                figures.setdefault(("bare", size), []).append(rate(bare_cycle(connection, size), size))
                figures.setdefault(("queue", size), []).append(rate(queue_cycle(database, queue, "free", size), size))
        deep = rate(queue_cycle(database, queue, "deep", 8), 8)
        p50, p99 = submit_times(database, queue, "free")
        connection.close()
        print(
            f"fdatasync of 8 KiB: {fdatasync_time(Path(name) / 'probe'):.2f} ms; one submit: {p50:.2f} / {p99:.2f} ms"
        )
    met = True
    for size, target in TARGETS.items():
        limit, got = (statistics.median(figures[side, size]) for side in ("bare", "queue"))
        met = met and got >= target
        print(f"{size} at a time: {got:.0f} cycles/s, bare sqlite3 {limit:.0f}, ratio {got / limit:.2f}")
    print(f"8 at a time behind {BACKLOG} waiting: {deep:.0f} cycles/s")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
