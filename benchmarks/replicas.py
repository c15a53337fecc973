"""``python -m benchmarks.replicas``: how many predictions one server accepts, and how many two on one PostgreSQL do."""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import load, raw
from benchmarks.picture import picture
from tests.postgres import Postgres
from tests.running import service

CLIENTS = 32
PATH = "/img-classification/free"
PAUSED = ["tiers.free.quota.pods=0", "tiers.free.limits.queue=1000000"]


@dataclass(frozen=True, slots=True)
class Seen:
    """Accepts a second, and how many cores the servers, PostgreSQL and the clients used."""

    rate: float
    servers: float
    database: float
    clients: float


def used(processes: list[psutil.Process]) -> float:
    """The processor seconds that these processes and their children have used."""
    tree = {one for process in processes for one in [process, *process.children(recursive=True)]}
    times = [one.cpu_times() for one in tree]
    return sum(each.user + each.system for each in times)


def clients(port: int, body: bytes, count: int, seconds: float) -> tuple[float, float]:
    """Let several clients submit; returns the accepts a second that they got, and the processor seconds they used."""
    before = used([psutil.Process()])
    rate = load.run(port, PATH, body, count, seconds, "Prefer: respond-async\r\n").rate
    return rate, used([psutil.Process()]) - before


def accepts(servers: int, models: Path, folder: Path, seconds: float) -> Seen:
    """Measure one or several servers on one PostgreSQL. The number of clients is the same in all cases."""
    body = picture()
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        options = ["--database", postgres.url, "--blobs", str(folder / "blobs")]
        started = [
            stack.enter_context(service(models, folder / f"{servers}-{number}", PAUSED, options=options))
            for number in range(servers)
        ]
        pool = stack.enter_context(ProcessPoolExecutor(servers))
        processes = [psutil.Process(one.process.pid) for one in started if one.process]
        before = used(processes), used([postgres.process])
        share = CLIENTS // servers
        futures = [pool.submit(clients, one.port, body, share, seconds) for one in started]
        results = [future.result() for future in futures]
        after = used(processes), used([postgres.process])
    by_servers, by_database = ((then - now) / seconds for now, then in zip(before, after, strict=True))
    by_clients = sum(spent for _, spent in results) / seconds
    rate = sum(rate for rate, _ in results)
    return Seen(rate=rate, servers=by_servers, database=by_database, clients=by_clients)


def main() -> None:
    """Measure one server and two in turns, and print how much more two accept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replicas", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".tierserve/models"), help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement (default: %(default)s)")
    options = parser.parse_args()
    table = Table("servers", "accepts/s", "cores: servers", "PostgreSQL", "clients", "of")
    seen: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="tierserve-bench-", dir=options.models.parent) as name:
        # One and two take turns, so that a change in the host's speed hits both.
        for run, servers in enumerate((1, 2, 1, 2)):
            folder = Path(name) / str(run)
            folder.mkdir()
            figures = accepts(servers, options.models, folder, options.seconds)
            seen[servers].append(figures.rate)
            cores = [f"{share:.2f}" for share in (figures.servers, figures.database, figures.clients)]
            table.add_row(str(servers), f"{figures.rate:.0f}", *cores, str(psutil.cpu_count()))
        writes = Path(name) / "writes"
        writes.mkdir()
        limit = raw.durable_writes(writes, len(picture()), options.seconds / 2)
    console = Console()
    console.print(table)
    one, two = (sum(rates) / len(rates) for rates in seen.values())
    console.print(f"two against one: {two / one:.2f}; bare durable writes of the same size: {limit:.0f}/s")


if __name__ == "__main__":
    main()
