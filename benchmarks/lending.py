"""``python -m benchmarks.lending``: how soon lent quota comes back, and what a tier makes of what it borrows.

The first part is a server whose tier free has borrowed the whole capacity and stays busy. Then premium gets waves of
predictions, one after the other, and its times are read from the server's own rows. The second part compares free's
throughput while premium is idle: with lending, with a quota of as much, and with a quota of its part alone.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks import load, raw
from benchmarks.machine import machine
from benchmarks.picture import picture
from tests.running import Service, models_directory, service
from tests.waiting import eventually

FREE = "/img-classification/free"
CLIENTS, WAVE = 64, 8
YOUNG_SECONDS = 10.0  # a worker is left alone for so long
WAIT_SECONDS = 120.0
TARGET_SECONDS, WITHIN = 1.0, 0.05


def lent(cores: int) -> list[str]:
    """Settings by which each tier owns half of so many cores, and may use all of them. Premium leaves at once."""
    quotas = [f"tiers.{tier}.quota.cpu={cores}" for tier in ("free", "premium")]
    return [f"capacity.cpu={cores}", *quotas, "tiers.premium.waits.idleSeconds=1"]


@dataclass(frozen=True, slots=True)
class Wave:
    """Seconds from premium's first POST until its first Job was started, that one asked for work, and the first label.

    ``gone`` are those that each recalled worker took to end.
    """

    started: float
    asked: float
    label: float
    gone: Sequence[float]
    jobs: int
    """How many Jobs premium started."""


@dataclass(frozen=True, slots=True)
class Waves:
    """All waves on one server, and what became of the predictions of both tiers."""

    waves: Sequence[Wave]
    predictions: int
    lost: int
    attempts: int
    """Predictions of which more than one attempt was counted."""

    @property
    def needless(self) -> int:
        """Workers that were recalled although premium started no Job in their room."""
        return sum(max(0, len(wave.gone) - wave.jobs) for wave in self.waves)


class Rows:
    """What the server has written into its database."""

    def __init__(self, state: Path) -> None:
        self._uri = f"{(state / 'data' / 'queue.db').as_uri()}?mode=ro"

    def ask(self, statement: str, *values: float) -> list[tuple[float, ...]]:
        """The rows of a statement."""
        with closing(sqlite3.connect(self._uri, uri=True, timeout=10)) as database:
            return database.execute(statement, values).fetchall()

    def number(self, statement: str, *values: float) -> int:
        """The one number that a statement gives."""
        return int(self.ask(statement, *values)[0][0])


def waves(models: Path, folder: Path, count: int, cores: int) -> Waves:
    """Have free borrow all, and let premium come so many times."""
    with service(models, folder, [*lent(cores), "tiers.premium.access.anonymous=true"]) as server:
        rows, body = Rows(folder), picture()
        workers = int(cores / 0.9)
        with flood(server, body) as flooding:
            found = [_wave(server, rows, body, workers, flooding) for _ in range(count)]
        _none_waits(rows)
        return Waves(
            found,
            predictions=rows.number("SELECT count(*) FROM predictions"),
            lost=rows.number("SELECT count(*) FROM predictions WHERE status != 'succeeded'"),
            attempts=rows.number("SELECT count(*) FROM predictions WHERE attempts > 1"),
        )


@contextmanager
def flood(server: Service, body: bytes) -> Iterator[Future[None]]:
    """Clients of free in a process of their own, for as long as the block lasts."""
    with tempfile.NamedTemporaryFile(prefix="tierserve-flood-") as until, ProcessPoolExecutor(1) as pool:
        flooding = pool.submit(_flood, server.port, body, until.name)
        try:
            yield flooding
        finally:
            Path(until.name).write_text("enough")
            flooding.result(WAIT_SECONDS)


def _flood(port: int, body: bytes, until: str) -> None:
    while not Path(until).stat().st_size:
        seen = load.run(port, FREE, body, CLIENTS, 2.0)
        if strange := [status for status in seen.statuses if status != 200]:
            raise RuntimeError(f"free answered {strange[0]}")


def _wave(server: Service, rows: Rows, body: bytes, workers: int, flooding: Future[None]) -> Wave:
    """Wait until free has borrowed all with workers that may be recalled; then send premium its predictions."""

    def borrowed() -> bool:
        if flooding.done():
            flooding.result()
        old = "SELECT count(*) FROM jobs WHERE tier = 'free' AND ended_at IS NULL AND recalled_at IS NULL"
        return rows.number(f"{old} AND asked_at IS NOT NULL AND opened_at < ?", time.time() - YOUNG_SECONDS) >= workers

    eventually(borrowed, WAIT_SECONDS, "free has borrowed all")

    def send(_: int) -> float:
        answer = server.post("premium", body, {"Prefer": "wait=60"})
        if answer.status != 200:
            raise RuntimeError(f"premium answered {answer.status}: {answer.body[:300]!r}")
        return time.time()

    began = time.time()
    with ThreadPoolExecutor(WAVE) as pool:
        label = min(pool.map(send, range(WAVE)))

    def left() -> bool:
        return not rows.number("SELECT count(*) FROM jobs WHERE tier = 'premium' AND ended_at IS NULL")

    eventually(left, WAIT_SECONDS, "premium's workers have left")
    jobs = rows.ask("SELECT opened_at, asked_at FROM jobs WHERE tier = 'premium' AND opened_at >= ?", began)
    gone = rows.ask("SELECT ended_at - recalled_at FROM jobs WHERE recalled_at >= ? AND ended_at IS NOT NULL", began)
    return Wave(
        started=min(opened for opened, _ in jobs) - began,
        asked=min(asked for _, asked in jobs if asked is not None) - began,
        label=label - began,
        gone=[seconds for (seconds,) in gone],
        jobs=len(jobs),
    )


def _none_waits(rows: Rows) -> None:
    statement = "SELECT count(*) FROM predictions WHERE completed_at IS NULL"
    eventually(lambda: not rows.number(statement), WAIT_SECONDS, "no prediction waits")


def rate(models: Path, folder: Path, seconds: float, settings: Sequence[str], workers: int) -> float:
    """Pictures a second of free with all of its workers, and with premium idle."""
    with service(models, folder, settings) as server:
        rows, body = Rows(folder), picture()

        def started() -> int:
            load.run(server.port, FREE, body, CLIENTS, 2.0)
            return rows.number("SELECT count(*) FROM jobs WHERE ended_at IS NULL AND asked_at IS NOT NULL")

        eventually(started, WAIT_SECONDS, "all workers have started", lambda many: many == workers)
        return load.run(server.port, FREE, body, CLIENTS, seconds).rate


def limit(models: Path, folder: Path, cores: int, seconds: float) -> float:
    """Pictures a second of as many bare loops as free has workers."""
    file = folder / "picture.jpg"
    file.write_bytes(picture())
    return raw.loops(int(cores / 0.9), models / "tf_efficientnet_lite0", "int8", file, seconds)[0]


def tell_waves(console: Console, found: Waves) -> bool:
    """Print how soon the waves were served; whether nothing was lost, counted or needless."""
    table = Table("from premium's first POST to, s", "median", "least", "most", title=machine())
    for what, name in (("its first Job", "started"), ("the first ask for work", "asked"), ("its first label", "label")):
        times = [getattr(wave, name) for wave in found.waves]
        table.add_row(what, f"{median(times):.2f}", f"{min(times):.2f}", f"{max(times):.2f}")
    console.print(table)
    gone = [seconds for wave in found.waves for seconds in wave.gone]
    started = median(wave.started for wave in found.waves)
    verdict = "met" if started <= TARGET_SECONDS else "missed"
    console.print(f"first Job within {TARGET_SECONDS:g} s, median of {len(found.waves)}: {verdict}")
    console.print(f"{len(gone)} workers were recalled; they ended after {median(gone):.2f} s, at most {max(gone):.2f}")
    console.print(
        f"{found.predictions} predictions: {found.lost} lost, {found.attempts} with more than one attempt; "
        f"{found.needless} workers recalled for nothing (each 0)"
    )
    return not (found.lost or found.attempts or found.needless)


def main() -> int:
    """Measure, and print figures and ratios. 1: something was lost, counted as an attempt, or recalled for nothing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lending", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, default=models_directory(), help="the folder of the default models")
    parser.add_argument("--waves", type=int, default=10, help="waves of premium (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="comparisons of throughput (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (default: %(default)s)")
    given = parser.parse_args()
    console, models = Console(), given.models.resolve()
    with tempfile.TemporaryDirectory(prefix="tierserve-lending-") as name:
        folder = Path(name)
        kept = not given.waves or tell_waves(console, waves(models, folder / "waves", given.waves, 4))
        if given.rounds:
            _compare(console, models, folder, given.rounds, given.seconds)
    return 0 if kept else 1


def _compare(console: Console, models: Path, folder: Path, rounds: int, seconds: float) -> None:
    """Print free's throughput in three settings, in rounds, each beside bare loops of the same round."""
    ways = {
        "lending": (lent(2), 2),
        "a quota of as much": (["tiers.free.quota.cpu=2"], 2),
        "a quota of its part": (["tiers.free.quota.cpu=1"], 1),
    }
    seen: list[dict[str, float]] = []
    for number in range(rounds):
        bare = limit(models, folder, 2, seconds / 2)
        names = list(ways) if number % 2 else list(reversed(ways))  # they take turns at being first
        round_ = {name: rate(models, folder / f"{number}{name[-4:]}", seconds, *ways[name]) for name in names}
        seen.append({**round_, "bare": (bare + limit(models, folder, 2, seconds / 2)) / 2})
    table = Table("free, premium idle", "pictures/s", "of bare loops", "of a quota of as much")
    for name in ways:
        cells = [f"{median(one[name] for one in seen):.0f}"]
        cells += [f"{median(one[name] / one[of] for one in seen):.2f}" for of in ("bare", "a quota of as much")]
        table.add_row(name, *cells)
    console.print(table)
    ratio = median(one["lending"] / one["a quota of as much"] for one in seen)
    verdict = "met" if ratio >= 1 - WITHIN else "missed"
    console.print(f"what the capacity allows, within {WITHIN:.0%}: {verdict}")


if __name__ == "__main__":
    sys.exit(main())
