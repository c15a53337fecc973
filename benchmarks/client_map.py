"""``python -m benchmarks.client_map``: ``Client.map`` over 1,000 pictures beside 32 bare clients, in turns.

Both share the processors with the server and its workers, so what the client itself costs shows in the rate. The bare
clients are those of ``make bench``, and have the picture in memory; ``Client.map`` reads a file for each picture and
gives each an Idempotency-Key.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks import load
from benchmarks.machine import machine
from benchmarks.picture import picture
from tests.running import service
from tierserve import Client

CLIENTS = 32
TARGET = 0.95
SETTINGS = ["tiers.premium.quota.cpu=2", "tiers.free.waits.idleSeconds=600", "tiers.premium.waits.idleSeconds=600"]


@dataclass(frozen=True, slots=True)
class Round:
    """Pictures a second of the bare clients before and after, and of the map between them, and its CPU time."""

    before: float
    mapped: float
    after: float
    cpu_ms: float

    @property
    def ratio(self) -> float:
        """The map's rate as a part of the bare clients'."""
        return self.mapped / ((self.before + self.after) / 2)


def measure(models: Path, tier: str, pictures: int, rounds: int, seconds: float) -> list[Round]:
    """Let the bare clients and the map classify in turns, on one server with two workers."""
    path, found = f"/img-classification/{tier}", []
    with tempfile.TemporaryDirectory() as folder:
        body = picture()
        file = Path(folder) / "picture.jpg"
        file.write_bytes(body)
        with service(models, Path(folder) / "state", SETTINGS) as server:
            load.run(server.port, path, body, CLIENTS, 3)  # starts both workers
            before = load.run(server.port, path, body, CLIENTS, seconds).rate
            for _ in range(rounds):
                mapped, cpu_ms = _mapped(f"http://127.0.0.1:{server.port}", file, tier, pictures)
                after = load.run(server.port, path, body, CLIENTS, seconds).rate
                found.append(Round(before, mapped, after, cpu_ms))
                before = after
    return found


def _mapped(url: str, file: Path, tier: str, pictures: int) -> tuple[float, float]:
    """Pictures a second, and milliseconds of this process's CPU time a picture. Raises the error of a picture."""
    with Client(url, "") as client:
        client.tiers()  # connects
        began, used = time.perf_counter(), time.process_time()
        for outcome in client.map([file] * pictures, tier, concurrency=CLIENTS):
            if outcome.error:
                raise outcome.error
        return pictures / (time.perf_counter() - began), 1000 * (time.process_time() - used) / pictures


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client_map", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".tierserve/models"))
    parser.add_argument("--tier", default="free", choices=["free", "premium"])
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of the bare clients, in each turn")
    options = parser.parse_args()
    rounds = measure(options.models, options.tier, options.pictures, options.rounds, options.seconds)
    table = Table(title=f"{machine()}: {options.pictures} pictures a round, tier {options.tier}")
    for heading in (
        "32 bare clients, pictures/s",
        "Client.map",
        "32 bare clients",
        "part",
        "CPU ms a picture of the map",
    ):
        table.add_column(heading, justify="right")
    for one in rounds:
        cells = (f"{one.before:.0f}", f"{one.mapped:.0f}", f"{one.after:.0f}", f"{one.ratio:.3f}", f"{one.cpu_ms:.2f}")
        table.add_row(*cells)
    middle = median(one.ratio for one in rounds)
    table.caption = f"median {middle:.1%}, target >= {TARGET:.0%}: {'met' if middle >= TARGET else 'MISSED'}"
    Console().print(table)


if __name__ == "__main__":
    main()
