"""``python -m benchmarks.fairness``: what one waits beside another's thousand, and what keys, limits and order cost.

The first figure comes from a server with two workers. One owner has a thousand predictions in the queue, and another
sends single pictures. The second comes from pairs of runs: another version of tierserve and this one, one after the
other, each with 32 clients; here they send a key that has limits of every kind, which they never reach.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
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


def rate(models: Path, folder: Path, seconds: float, root: Path) -> load.Outcome:
    """What 32 clients get of a version of tierserve. If it is this one, they have a key."""
    here = root == ROOT
    with service(models, folder, [*SETTINGS, *(KEYS if here else ())], root=root) as server:
        headers = f"Authorization: Bearer {key(server, 'bench', LIMITS).key}\r\n" if here else ""
        load.run(server.port, PATH, picture(), CLIENTS, 3, headers)  # starts the workers
        return load.run(server.port, PATH, picture(), CLIENTS, seconds, headers)


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
    console, table = Console(), Table("pair", "other, pictures/s", "here, with keys", "ratio")
    with places(options.folder) as folders:
        found = singles(options.models, next(folders))
        turns = [each.overtaken_by / (WORKERS * HELD) for each in found]
        waits = [each.waited_ms for each in found]
        console.print(f"{SINGLES} single pictures beside {LEAST} to {BACKLOG} of another owner, {WORKERS} workers:")
        console.print(f"turns of the workers until it began: median {median(turns):.2f}, most {max(turns):.2f} (<= 2)")
        console.print(f"waited: median {median(waits):.0f} ms, 95 % {quantiles(waits, n=20)[18]:.0f} ms")
        ratios = []
        for pair in range(options.pairs if options.base else 0):
            # Within a pair the versions take turns at being first.
            order = (options.base, ROOT) if pair % 2 else (ROOT, options.base)
            rates = {root: rate(options.models, next(folders), options.seconds, root).rate for root in order}
            ratios.append(rates[ROOT] / rates[options.base])
            table.add_row(str(pair + 1), f"{rates[options.base]:.0f}", f"{rates[ROOT]:.0f}", f"{ratios[-1]:.3f}")
    if ratios:
        console.print(table)
        console.print(f"median ratio {median(ratios):.3f} (>= 0.95), {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
