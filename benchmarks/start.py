"""``python -m benchmarks.start``: how long the commands take, and a server until it is ready, beside bare Python.

A command is beside ``python -c pass``, and a server, up to the first 200 of /readyz, beside a bare Tornado server. They
take turns. The state folder is there already, as at each start but the first one. Bytecode is written before anything
is measured, as ``make run`` has it written, too, whatever PYTHONDONTWRITEBYTECODE says.
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from tests.running import ROOT, free_port

SECONDS = 60.0
LOOK_SECONDS = 0.005
TARGETS = {"render free": 0.4, "serve, to ready": 1.5}
SERVER = """
import asyncio, sys
import tornado.web

class Ready(tornado.web.RequestHandler):
    def get(self):
        self.finish("ok")

async def main():
    tornado.web.Application([("/readyz", Ready)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""


def environment() -> dict[str, str]:
    """That of a user who has Python write its bytecode."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def ended(words: Sequence[str]) -> float:
    """How many seconds a command takes."""
    began = time.perf_counter()
    subprocess.run(words, cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=SECONDS)
    return time.perf_counter() - began


def ready(words: Sequence[str], port: int, log: Path) -> float:
    """How many seconds a server takes from its start to its first answer that it is ready; then it is ended."""
    began = time.perf_counter()
    with log.open("wb") as told, subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=told, stderr=told) as run:
        try:
            while not _answers(port):
                if run.poll() is not None or time.perf_counter() - began > SECONDS:
                    raise RuntimeError(f"the server is not ready: {log.read_text()[-1000:]}")
                time.sleep(LOOK_SECONDS)
            return time.perf_counter() - began
        finally:
            run.terminate()
            run.wait(SECONDS)


def _answers(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection, suppress(OSError):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


def pairs(rounds: int, measure: Callable[[], float], limit: Callable[[], float]) -> list[tuple[float, float]]:
    """Seconds of both, in turns. A first pair writes the bytecode, and is not counted."""
    return [(measure(), limit()) for _ in range(rounds + 1)][1:]


def main() -> int:
    """Measure, print the medians beside their limits and targets, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".tierserve/models"), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="of each measurement (default: %(default)s)")
    options = parser.parse_args()
    ours, nothing = [sys.executable, "-m", "server"], [sys.executable, "-c", "pass"]
    found = {
        command: pairs(options.rounds, partial(ended, [*ours, *command.split()]), partial(ended, nothing))
        for command in ("render free", "check", "classify --help")
    }
    with tempfile.TemporaryDirectory(prefix="tierserve-bench-") as name:
        port, bare_port = free_port(), free_port()
        serve = [*ours, "serve", "--state", f"{name}/state", "--models", str(options.models.resolve())]
        serve += ["--set", f"server.port={port}", "--set", f"server.internalPort={free_port()}"]
        bare = [sys.executable, "-c", SERVER, str(bare_port)]
        served = partial(ready, serve, port, Path(name, "log")), partial(ready, bare, bare_port, Path(name, "bare-log"))
        found["serve, to ready"] = pairs(options.rounds, *served)
    table = Table("median seconds", "measured", "bare", "ratio", "target")
    missed = False
    for kind, times in found.items():
        took, least = (median(column) for column in zip(*times, strict=True))
        ratio, target = median(one / other for one, other in times), TARGETS.get(kind)
        table.add_row(kind, f"{took:.2f}", f"{least:.2f}", f"{ratio:.1f}", f"<= {target}" if target else "")
        missed = missed or (target is not None and took > target)
    console = Console()
    console.print(f"{machine()}; medians of {options.rounds} pairs")
    console.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
