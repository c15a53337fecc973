"""Cycles (submit, lease, complete) a second through the durable queue, beside what bare sqlite3 does in the same run.

Run: python -m benchmarks.queue_cycles
Every commit is on disk (WAL, synchronous=FULL) on both sides. The bare side is one table with one index and the five
statements that no queue can do without. Ratios hold for any machine; figures only for the one at hand.
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

PROMISES = {1: 500, 8: 3000}  # cycles a second, by how many go together
ROUNDS = 3
SECONDS = 0.8  # of each measurement
BACKLOG = 10_000
RESULTS = [{"index": 0, "labels": [{"label": f"label {rank}", "score": 0.2} for rank in range(5)]}]


def rate(cycle: Callable[[], None], size: int) -> float:
    """Cycles a second of ``cycle``, which makes ``size`` of them."""
    cycle()
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS:
        cycle()
        done += size
    return done / spent


def bare_cycle(connection: sqlite3.Connection, size: int) -> Callable[[], None]:
    """The same three transactions in nothing but SQL."""

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
    """A bare file with the same promises about the disk."""
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
    """One picture's worth of work."""
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
    """``size`` submits at once, one lease, one completion."""

    def cycle() -> None:
        for future in [queue.submit(submission(database, tier), 1 << 30) for _ in range(size)]:
            future.result()
        leased = queue.lease(tier, f"job-{tier}", size, 1 << 40, 30.0).result()
        done = [Completion(one.id, one.token, RESULTS, None, 8.0) for one in leased]
        queue.complete(f"job-{tier}", done).result()

    return cycle


def submit_times(database: Database, queue: Queue, tier: str) -> tuple[float, float]:
    """Median and 99th percentile of one submit after another, in milliseconds."""
    times = []
    for _ in range(1000):
        start = time.perf_counter()
        queue.submit(submission(database, tier), 1 << 30).result()
        times.append((time.perf_counter() - start) * 1000)
    times.sort()
    return times[500], times[990]


def fdatasync_time(path: Path) -> float:
    """Median of writing 8 KiB over old ones and forcing them to disk, in milliseconds."""
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
    """Print the table; 1 if a promise is not kept on this machine."""
    with tempfile.TemporaryDirectory(dir=".") as name, SQLite.open(Path(name) / "data") as database:
        queue, connection = Queue(database), bare(Path(name) / "bare.db")
        for tier in ("free", "deep"):
            queue.open_job(f"job-{tier}", tier, "run").result()
        for _ in range(BACKLOG // 1000):
            for future in [queue.submit(submission(database, "deep"), 1 << 30) for _ in range(1000)]:
                future.result()
        figures: dict[tuple[str, int], list[float]] = {}
        for _ in range(ROUNDS):
            for size in PROMISES:
                figures.setdefault(("bare", size), []).append(rate(bare_cycle(connection, size), size))
                figures.setdefault(("queue", size), []).append(rate(queue_cycle(database, queue, "free", size), size))
        deep = rate(queue_cycle(database, queue, "deep", 8), 8)
        p50, p99 = submit_times(database, queue, "free")
        connection.close()
        print(
            f"fdatasync of 8 KiB: {fdatasync_time(Path(name) / 'probe'):.2f} ms; one submit: {p50:.2f} / {p99:.2f} ms"
        )
    kept = True
    for size, promise in PROMISES.items():
        limit, got = (statistics.median(figures[side, size]) for side in ("bare", "queue"))
        kept = kept and got >= promise
        print(f"{size} at a time: {got:.0f} cycles/s, bare sqlite3 {limit:.0f}, ratio {got / limit:.2f}")
    print(f"8 at a time behind {BACKLOG} waiting: {deep:.0f} cycles/s")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
