"""Measures one server in one round, with the bare loops before and after it."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks import load, raw
from benchmarks.compare import serving
from benchmarks.compare.peers import Unavailable
from benchmarks.compare.serving import Server, Work

WARM_SECONDS = 2.0
WARM_CLIENTS = 32  # so many, that every process of a server gets some of the connections


@dataclass(frozen=True, slots=True)
class Bare:
    """What the engine does without a server: the pictures a second of two loops, and the median seconds of one."""

    rate: float
    seconds: float

    def between(self, other: Bare) -> Bare:
        """The middle of two measurements: on a shared host the processors' speed changes within minutes."""
        return Bare((self.rate + other.rate) / 2, (self.seconds + other.seconds) / 2)


@dataclass(frozen=True, slots=True)
class Load:
    """What some clients saw: pictures a second, the median seconds of one, and how many answers were no 2xx.

    The processor seconds a picture are those of all processes of the server, and those of the processes that do not
    classify; the latter are None where the same process does both.
    """

    rate: float
    p50: float
    refused: int
    cpu: float
    server_cpu: float | None


@dataclass(frozen=True, slots=True)
class Round:
    """One server in one round. ``kept`` of ``serving.KEPT`` answers outlived a kill; None if it keeps none."""

    tier: str
    number: int
    name: str
    bare: Bare
    kept: int | None = None
    loads: dict[int, Load] = field(default_factory=dict)


def bare(work: Work, picture: Path, seconds: float) -> Bare:
    """Run two loops, then one."""
    model = work.models / work.model
    rate, _ = raw.loops(2, model, work.variant, picture, seconds)
    _, one = raw.loops(1, model, work.variant, picture, seconds)
    return Bare(rate, one)


def measure(server: Server, clients: list[int], seconds: float) -> tuple[dict[int, Load], int | None]:
    """Load a server with each number of clients, and then try whether it keeps its answers.

    Raises ``Unavailable`` when it breaks connections or answers none.
    """
    try:
        load.run(server.port, server.path, server.body, WARM_CLIENTS, WARM_SECONDS, kind=server.kind)
        loads = {count: _load(server, count, seconds) for count in clients}
        return loads, serving.kept(server)
    except (OSError, http.client.HTTPException) as error:  # a TimeoutError is an OSError
        raise Unavailable(f"did not bear the load: {error!r}") from error


def _load(server: Server, count: int, seconds: float) -> Load:
    before = _used(server)
    seen = load.run(server.port, server.path, server.body, count, seconds, kind=server.kind)
    after = _used(server)
    if not seen.took:
        raise Unavailable(f"gave {count} clients no answer with a 2xx, but {dict(seen.statuses)}")
    spent = {one: used - before.get(one, 0.0) for one, used in after.items()}
    # The clients' last answers come after the end and are not counted, so the share of a picture is a little large.
    answered = len(seen.took)
    mine = sum(used for one, used in spent.items() if not _classifies(one)) / answered if server.apart else None
    return Load(seen.rate, seen.p50, seen.statuses.total() - answered, sum(spent.values()) / answered, mine)


def _used(server: Server) -> dict[psutil.Process, float]:
    used = {}
    for one in server.processes():
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used[one] = times.user + times.system
    return used


def _classifies(process: psutil.Process) -> bool:
    try:
        return any("onnxruntime" in each.path for each in process.memory_maps())
    except psutil.NoSuchProcess:
        return False
