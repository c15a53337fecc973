"""``python -m benchmarks.fetching``: what it costs when a worker must fetch its model, and how soon a push is served.

A start is timed from a POST, with no worker running, to its label. A tier whose model lies in the folder and one whose
model was pushed take turns. A push is timed from the operator's command, with a worker of the old version running, to
the first label of the new one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.picture import picture
from tests.pushable import pushable
from tests.running import Service, service
from tests.waiting import eventually

NETWORK, VARIANT = "tf_efficientnet_lite0", ("onnx", "fp32")
SECONDS = 60.0
LIMITS = {"start": 0.3, "push": 3.0}  # seconds
SETTINGS = [
    f"tiers.{tier}.{setting}"
    for tier in ("free", "premium")
    for setting in ("model.variant=fp32", "quota.pods=2", "waits.idleSeconds=1")
] + [f"tiers.free.model.name={NETWORK}", "tiers.premium.model.name=flowers", "tiers.premium.access.anonymous=true"]


@cache
def body() -> bytes:
    """The picture that is classified; to make it takes a second."""
    return picture()


def push(models: Path, folder: Path, state: Path, number: int) -> str:
    """Push a version of the model ``flowers`` that no server has seen, and return its NAME@VERSION."""

    def other(graph: bytes) -> bytes:
        words = f"version {number}".encode()
        return graph + bytes([0x32, len(words)]) + words  # its doc_string, which changes nothing that is computed

    made = pushable(
        models / NETWORK, folder / f"made-{number}", label=f"kind {number}", variants=[VARIANT], change=other
    )
    command = [sys.executable, "-m", "server", "model", "push", str(made), "--state", str(state)]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    return made.name


def timed(act: Callable[[], object]) -> float:
    """How many seconds it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def label(server: Service, tier: str) -> str:
    """Have a picture classified; return which model did it."""
    answer = server.post(tier, body(), query="?wait=60")
    if answer.status != 200:
        raise RuntimeError(f"the picture got no label: {answer}")
    return str(answer.json["model"])


def starts(server: Service, rounds: int) -> list[tuple[float, float]]:
    """Seconds of a start with the model in its place, and of one with a model that must be fetched; in pairs."""
    pairs = []
    for number in range(rounds):
        taken = {}
        for tier in ("free", "premium") if number % 2 else ("premium", "free"):
            gone = (psutil.NoSuchProcess,)  # while it was looked at
            eventually(server.workers, SECONDS, "no worker is left", enough=lambda seen: not seen, despite=gone)
            taken[tier] = timed(lambda tier=tier: label(server, tier))  # type: ignore[misc]
        pairs.append((taken["free"], taken["premium"]))
    return pairs


def pushes(server: Service, models: Path, folder: Path, rounds: int) -> list[float]:
    """Seconds from the command to the first label of the version that it pushes."""

    def served(number: int) -> None:
        reference = push(models, folder, server.state, number)
        eventually(lambda: label(server, "premium"), SECONDS, "the new version", enough=lambda seen: seen == reference)

    taken = []
    for number in range(1, rounds + 1):
        label(server, "premium")
        taken.append(timed(lambda number=number: served(number)))  # type: ignore[misc]
    return taken


def main() -> int:
    """Measure, print the figures beside their targets, and return 1 if one is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fetching", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".tierserve/models"), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="of each measurement (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tierserve-bench-", dir=options.models.parent) as name:
        folder, state = Path(name), Path(name) / "state"
        with service(options.models, state, [*SETTINGS, f"tiers.premium.model.name={NETWORK}"]):
            push(options.models, folder, state, 0)
        body()
        with service(options.models, state, SETTINGS) as server:
            pairs = starts(server, options.rounds)
            pushed = pushes(server, options.models, folder, options.rounds)
    in_place, fetched = (statistics.median(times) for times in zip(*pairs, strict=True))
    more, first = statistics.median(two - one for one, two in pairs), statistics.median(pushed)
    table = Table("median seconds", "measured", "target")
    table.add_row("POST to label, model in its place", f"{in_place:.2f}", "")
    table.add_row("POST to label, model fetched", f"{fetched:.2f}", "")
    table.add_row("fetched over in its place, in pairs", f"{more:+.2f}", f"<= {LIMITS['start']:+g}")
    table.add_row("push to the first label of the new version", f"{first:.2f}", f"<= {LIMITS['push']:g}")
    Console().print(table)
    return int(more > LIMITS["start"] or first > LIMITS["push"])


if __name__ == "__main__":
    sys.exit(main())
