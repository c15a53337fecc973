"""``python -m benchmarks.fairness``: what one waits beside another's thousand, and what keys, limits and order cost.

The first figure comes from a server with two workers. One owner has a thousand predictions in the queue, and another
sends single pictures. The second comes from pairs of runs: another version of tierserve and this one, one after the
other, each with 32 clients; here they send a key that has limits of every kind, which they never reach.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import load
from benchmarks.picture import picture
from tests.access import Issued, Operator
from tests.running import ROOT, Service, service

PATH = "/img-classification/free"
WORKERS = 2
SETTINGS = [f"tiers.free.quota.pods={WORKERS}", "tiers.free.quota.cpu=4", "tiers.free.limits.queue=100000"]
KEYS = ["server.requireKeys=true"]
HELD = 9  # a worker has one picture in hands and up to eight beside it
BACKLOG, SINGLES, LEAST = 1000, 20, 500
CLIENTS = 32
PLENTY = 1_000_000_000
LIMITS = {"perSecond": 1_000_000, "burst": 1_000_000, "perDay": PLENTY, "queued": 1_000_000, "bytesQueued": PLENTY}
NONE = {"perSecond": 0, "queued": 0, "bytesQueued": 0}


@dataclass(frozen=True, slots=True)
class Single:
    """One picture: how many of the other owner's were begun before it and after its acceptance, and its wait in ms."""

    overtaken_by: int
    waited_ms: float


def singles(models: Path, folder: Path) -> list[Single]:
    """Let one owner send single pictures beside another one's thousand."""
    with service(models, folder, [*SETTINGS, *KEYS]) as server:
        many, one = (key(server, owner, NONE) for owner in ("many", "one"))
        assert server.post("free", picture(), one.headers).status == 200  # starts a worker
        urls: list[str] = []
        found: list[Any] = []
        while len(found) < SINGLES:
            fill(server, many, urls)
            while waiting(server) > LEAST and len(found) < SINGLES:
                # One waits for the result, and may so be in memory only; the next one is written first.
                prefer = ("wait=60", "respond-async")[len(found) % 2]
                answer = server.post("free", picture(), {"Prefer": prefer, **one.headers})
                assert answer.status in (200, 202), answer.body
                answer = server.ask("GET", f"{answer.headers['Location']}?wait=60", None, one.headers)
                found.append(answer.json)
        begun = [server.ask("GET", f"{url}?wait=60", None, many.headers).json["started_at"] for url in urls]
    return [
        Single(sum(each["created_at"] < at < each["started_at"] for at in begun), each["metrics"]["queue_ms"])
        for each in found
    ]


def fill(server: Service, key: Issued, urls: list[str]) -> None:
    """Submit until a thousand predictions wait, without waiting for them."""

    def submit(_: int) -> str:
        answer = server.post("free", picture_bytes, {"Prefer": "respond-async", **key.headers})
        assert answer.status == 202, answer.body
        return answer.headers["Location"]

    picture_bytes = picture()
    with ThreadPoolExecutor(16) as pool:
        while (missing := BACKLOG - waiting(server)) > 0:
            urls += pool.map(submit, range(missing))


def waiting(server: Service) -> int:
    """How many predictions wait in the tier."""
    return int(next(tier["queued"] for tier in server.get("/v1/tiers").json["tiers"] if tier["name"] == "free"))


def key(server: Service, owner: str, limits: Mapping[str, float]) -> Issued:
    """A new key of a server."""
    return Operator(server.internal_port, server.state / "admin-token").create(owner, limits=dict(limits))


@dataclass(frozen=True, slots=True)
class Run:
    """What 32 clients got: pictures a second, and the processor time that the server took for each, in ms."""

    rate: float
    server_ms: float


def run(models: Path, folder: Path, seconds: float, root: Path) -> Run:
    """Let 32 clients use a version of tierserve. If it is this one, they have a key."""
    here = root == ROOT
    with service(models, folder, [*SETTINGS, *(KEYS if here else ())], root=root) as server:
        headers = f"Authorization: Bearer {key(server, 'bench', LIMITS).key}\r\n" if here else ""
        load.run(server.port, PATH, picture(), CLIENTS, 3, headers)  # starts the workers
        before = processor_seconds(server)
        made = load.run(server.port, PATH, picture(), CLIENTS, seconds, headers)
        return Run(made.rate, 1000 * (processor_seconds(server) - before) / len(made.took))


def processor_seconds(server: Service) -> float:
    """What the server itself has used, without its workers."""
    assert server.process is not None
    times = server.process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def places(parent: Path) -> Iterator[Any]:
    """Makes a new folder at each call."""
    with tempfile.TemporaryDirectory(prefix="tierserve-bench-", dir=parent) as name:
        yield (Path(name) / str(number) for number in range(PLENTY))


def main() -> None:
    """Measure, and print figures and ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".tierserve/models"), help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=6, help="how many pairs of runs (default: %(default)s)")
    parser.add_argument("--base", type=Path, help="a checkout of the other version; without one there are no pairs")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="for data while it runs")
    options = parser.parse_args()
    console = Console()
    with places(options.folder) as folders:
        models = options.models.resolve()  # a server of another checkout runs there
        found = singles(models, next(folders))
        turns = [each.overtaken_by / (WORKERS * HELD) for each in found]
        waits = [each.waited_ms for each in found]
        console.print(f"{SINGLES} single pictures beside {LEAST} to {BACKLOG} of another owner, {WORKERS} workers:")
        console.print(f"turns of the workers until it began: median {median(turns):.2f}, most {max(turns):.2f} (<= 2)")
        console.print(f"waited: median {median(waits):.0f} ms, 95 % {quantiles(waits, n=20)[18]:.0f} ms")
        pairs = []
        for number in range(options.pairs if options.base else 0):
            # Within a pair the versions take turns at being first.
            order = (options.base, ROOT) if number % 2 else (ROOT, options.base)
            runs = {root: run(models, next(folders), options.seconds, root) for root in order}
            pairs.append((runs[options.base], runs[ROOT]))
    if pairs:
        report(console, pairs)


def report(console: Console, pairs: Sequence[tuple[Run, Run]]) -> None:
    """Print pairs of runs: of the other version, and of this one."""
    table = Table(
        "pair", "other, pictures/s", "here, with keys", "ratio", "server, ms a picture: other", "here", "ratio"
    )
    for number, (other, here) in enumerate(pairs, 1):
        cells = [f"{other.rate:.0f}", f"{here.rate:.0f}", f"{here.rate / other.rate:.3f}"]
        cells += [f"{other.server_ms:.2f}", f"{here.server_ms:.2f}", f"{here.server_ms / other.server_ms:.3f}"]
        table.add_row(str(number), *cells)
    console.print(table)
    rates = median(here.rate / other.rate for other, here in pairs)
    console.print(f"median ratio of pictures/s: {rates:.3f} (>= 0.95)")
    # On a machine that does other things too, the processor time of a picture says more.
    console.print(f"median ratio of the server's time: {median(h.server_ms / o.server_ms for o, h in pairs):.3f}")


if __name__ == "__main__":
    main()
