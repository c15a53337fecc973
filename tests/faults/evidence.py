"""What can be seen of a server from outside: its size while it runs, and its disk while it does not."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import sqlalchemy as sa

from tests.faults.actor import Actor
from tests.faults.history import History
from tests.faults.owners import named
from tests.faults.world import World, tier_of

EVERY_SECONDS = 0.5
LIVE = ("queued", "leased")
MEMORY = Path("/dev/shm")  # copies of the database go there, because that is faster
_ROWS = sa.text("SELECT id, idempotency_key, status, owner FROM predictions")
_DEPTHS = sa.text("SELECT tier, sum(queued) AS queued, sum(leased) AS leased FROM depths GROUP BY tier")
_OLDEST = sa.text("SELECT min(completed_at) FROM predictions")
_COUNTED = sa.text("SELECT tier, status, count(*) FROM predictions GROUP BY tier, status")


class Sampler(Actor):
    """Records from time to time how large the server is and how many workers it has."""

    def __init__(self, world: World, history: History, every: float = EVERY_SECONDS) -> None:
        super().__init__("sampler")
        self._world, self._history, self._every = world, history, every

    def step(self) -> None:
        """Wait, then take one sample."""
        life = self._world.life
        if not self.over.wait(self._every) and life is not None and self._world.up.is_set():
            with suppress(psutil.Error):
                self._history.tell("sample", **sample(psutil.Process(life.pid)), workers=_workers(self._world))


def sample(process: psutil.Process) -> dict[str, int]:
    """The memory, threads and descriptors of a process."""
    with process.oneshot():
        memory, threads, fds = process.memory_info().rss, process.num_threads(), process.num_fds()
    return {"pid": process.pid, "rss": memory, "threads": threads, "fds": fds}


def disk(world: World) -> dict[str, Any]:
    """Compare rows with blobs, and counters with rows. It is exact only while no server runs, and changes nothing."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        engine = sa.create_engine(_readable(world, Path(folder)), poolclass=sa.NullPool, isolation_level="SERIALIZABLE")
        with engine.connect() as connection:
            rows = [
                [row.id, row.idempotency_key and named(row.owner, row.idempotency_key), row.status, row.owner]
                for row in connection.execute(_ROWS)
            ]
            depths = {row.tier: [int(row.queued), int(row.leased)] for row in connection.execute(_DEPTHS)}
            counted = [list(row) for row in connection.execute(_COUNTED)]
            oldest = connection.execute(_OLDEST).scalar_one()
            broken = _broken(connection)
        engine.dispose()
    blobs = {path.name for path in (world.state / "data" / "blobs").rglob("*") if path.is_file()}
    live = {row[0] for row in rows if row[2] in LIVE}
    ended = {row[0] for row in rows} - live
    return {
        "rows": rows,
        "depths": {tier: depth for tier, depth in depths.items() if any(depth)},
        "counted": _counted(counted),
        "broken": broken,
        "oldest": 0.0 if oldest is None else time.time() - oldest,
        "blobs": len(blobs),
        "missing": sorted(live - blobs),
        "stale": len(blobs & ended),
        "orphans": len(blobs - live - ended),
        "logs": len(list((world.state / "logs").glob("*"))),
        "bytes": sum(path.stat().st_size for path in (world.state / "data").glob("queue.db*")),
    }


def _readable(world: World, folder: Path) -> str:
    """The URL of a copy of the database. Opening the file itself would merge its log, which the next server must do."""
    if world.database.url:
        return world.database.url.replace("postgresql://", "postgresql+psycopg://")
    for path in (world.state / "data").glob("queue.db*"):
        if not path.name.endswith("-shm"):  # SQLite makes this index of the log anew
            shutil.copy(path, folder)
    return f"sqlite:///{folder}/queue.db"


def _broken(connection: sa.Connection) -> str:
    if connection.dialect.name != "sqlite":
        return ""
    found = connection.exec_driver_sql("PRAGMA quick_check").scalar_one()
    return "" if found == "ok" else str(found)


def _counted(rows: Sequence[Sequence[Any]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for tier, status, count in rows:
        if status in LIVE:
            found.setdefault(tier, [0, 0])[LIVE.index(status)] = count
    return found


def _workers(world: World) -> dict[str, int]:
    tiers: Counter[str] = Counter()
    for process in world.workers():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and (tier := tier_of(process)):
                tiers[tier] += 1
    return dict(tiers)
