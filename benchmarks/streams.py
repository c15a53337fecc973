"""``python -m benchmarks.streams``: what thousands of open event streams cost a server, and those who only ask it.

Half of the streams follow predictions that wait in a paused tier, half of them the tiers. A process of its own holds
them, from several addresses of the loopback network, as one address may have only some. In the same run 32 clients
classify in another tier, in turns: without the streams, with them, and without them again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, quantiles

from rich.console import Console
from rich.table import Table

from benchmarks import load
from benchmarks.holding import Holder, Paths
from benchmarks.machine import machine
from benchmarks.picture import picture
from tests.running import Service, service

STREAMS, WAITING, CHANGES, CLIENTS = 5000, 100, 5, 32
SETTINGS = [
    "tiers.free.quota.pods=2",
    "tiers.free.quota.cpu=4",
    "tiers.free.waits.idleSeconds=600",
    "tiers.premium.quota.pods=0",
    "tiers.premium.limits.queue=100000",
]
FREE, PAUSED = "/img-classification/free", "premium"
REST_SECONDS = 4.0  # until what was started or closed costs nothing any more


@dataclass(frozen=True, slots=True)
class Asked:
    """What 32 clients saw: pictures a second and seconds of their waits; ``cpu`` is the server's, a picture."""

    rate: float
    p50: float
    p95: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What was measured. ``rest`` is the share of a core at rest, ``bytes_each`` the memory of a stream.

    ``delivered`` has, for each change, the seconds until each of the streams that it concerns told of it.
    """

    open: int
    refused: dict[int, int]
    opened_seconds: float
    bytes_each: float
    peak: int
    rest_without: float
    rest_with: float
    without: Sequence[Asked]
    along: Sequence[Asked]
    delivered: Sequence[Sequence[float]]
    expected: int


def measure(models: Path, folder: Path, count: int, seconds: float) -> Seen:
    """Run one server, and the clients and streams of it."""
    with service(models, folder / "state", SETTINGS) as server:
        body = picture()
        load.run(server.port, FREE, body, CLIENTS, 3)  # starts the workers
        ids = [submitted(server, body) for _ in range(WAITING)]
        without = [asked(server, body, seconds)]
        time.sleep(REST_SECONDS)
        rest_without = resting(server, seconds)
        before = memory(server)
        with Holder(server.port, paths(ids, count)) as holder:
            opened = holder.open()
            rest_with = resting(server, seconds)
            each = (memory(server) - before) / max(1, opened.open)
            delivered, expected = [], opened.open
            for key in ids[:CHANGES]:
                delivered.append(change(server, holder, key))
                expected = holder.count()
            along = [asked(server, body, seconds)]
            peak = memory(server)
        time.sleep(REST_SECONDS)
        without.append(asked(server, body, seconds))
    return Seen(
        open=opened.open,
        refused=opened.refused,
        opened_seconds=opened.seconds,
        bytes_each=each,
        peak=peak,
        rest_without=rest_without,
        rest_with=rest_with,
        without=without,
        along=along,
        delivered=delivered,
        expected=expected,
    )


def paths(ids: Sequence[str], count: int) -> Paths:
    """What is followed: by turns a prediction, from the last one on, and the tiers."""
    return [
        "/v1/tiers/events" if number % 2 else f"/v1/predictions/{ids[-1 - number // 2 % (len(ids) - CHANGES)]}/events"
        for number in range(count)
    ]


def change(server: Service, holder: Holder, key: str) -> list[float]:
    """End the first prediction that waits, which moves all others; the seconds until each stream has told of it."""
    holder.mark()
    began = time.monotonic()
    answer = server.ask("DELETE", f"/v1/predictions/{key}")
    if answer.status != 200:
        raise RuntimeError(f"a prediction could not be canceled: {answer.body!r}")
    time.sleep(REST_SECONDS)
    return [moment - began for moment in holder.told()]


def submitted(server: Service, body: bytes) -> str:
    """Submit a picture to the paused tier; returns the prediction's id."""
    answer = server.post(PAUSED, body, {"Prefer": "respond-async"})
    if answer.status != 202:
        raise RuntimeError(f"a picture was not accepted: {answer.body!r}")
    return str(answer.json["id"])


def asked(server: Service, body: bytes, seconds: float) -> Asked:
    """Let 32 clients classify for so long."""
    with used(server) as spent:
        outcome = load.run(server.port, FREE, body, CLIENTS, seconds)
    if strange := {status for status in outcome.statuses if status not in (200, 429)}:
        raise RuntimeError(f"answers other than 200 and 429: {strange}")
    return Asked(rate=outcome.rate, p50=outcome.p50, p95=outcome.p95, cpu=spent[0] / len(outcome.took))


def resting(server: Service, seconds: float) -> float:
    """The share of a core that the server uses while nobody asks it."""
    with used(server) as spent:
        time.sleep(seconds)
    return spent[0] / seconds


@contextmanager
def used(server: Service) -> Iterator[list[float]]:
    """The processor seconds that the server itself uses while the block lasts, in a list that has them at its end."""
    spent: list[float] = []
    assert server.process is not None
    before = server.process.cpu_times()
    yield spent
    after = server.process.cpu_times()
    spent.append(after.user + after.system - before.user - before.system)


def memory(server: Service) -> int:
    """The server's resident bytes."""
    assert server.process is not None
    return int(server.process.memory_info().rss)


def report(seen: Seen) -> Table:
    """The figures for people."""
    table = Table("what", "without streams", "with streams", "ratio")
    refused = "".join(f", {many} refused with {status}" for status, many in seen.refused.items())
    table.add_row("streams open", "0", f"{seen.open}{refused}", f"in {seen.opened_seconds:.1f} s")
    table.add_row("server memory for a stream, KiB", "", f"{seen.bytes_each / 1024:.1f}", "")
    table.add_row("server memory at most, MB", "", f"{seen.peak / (1 << 20):.0f}", "")
    table.add_row("server at rest, share of a core", f"{seen.rest_without:.3f}", f"{seen.rest_with:.3f}", "")
    for what, unit, value in (
        ("pictures/s", 1.0, lambda one: one.rate),
        ("p50, ms", 1000.0, lambda one: one.p50),
        ("p95, ms", 1000.0, lambda one: one.p95),
        ("server, ms a picture", 1000.0, lambda one: one.cpu),
    ):
        then, now = mean(map(value, seen.without)), mean(map(value, seen.along))
        table.add_row(f"{CLIENTS} clients: {what}", f"{unit * then:.2f}", f"{unit * now:.2f}", f"{now / then:.2f}")
    for what, pick in (("p50", median), ("p95", lambda took: quantiles(took, n=20)[18]), ("last", max)):
        shown = ", ".join(f"{1000 * pick(took):.0f}" for took in seen.delivered if len(took) > 1)
        table.add_row(f"a change is told, {what} of the streams, ms", "", shown, "")
    told = ", ".join(str(len(took)) for took in seen.delivered)
    table.add_row("streams that told of each change", "", told, f"of {seen.expected}")
    return table


def main() -> None:
    """Measure once, and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".tierserve/models"), help="default: %(default)s")
    parser.add_argument("--streams", type=int, default=STREAMS, help="how many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tierserve-bench-") as folder:
        seen = measure(options.models, Path(folder), options.streams, options.seconds)
    console = Console()
    console.print(machine())
    console.print(report(seen))


if __name__ == "__main__":
    main()
