"""Runs the server's command line in forks of one process: a server starts in milliseconds, and dies where a test says.

Orders come on standard input, and news of the servers goes to standard output, one JSON object a line. ``--secret``
makes workers' tokens outlive a server, as they do in a cluster. ``--shift`` names a file with a double in eight bytes,
which is added to the system's clock. ``--orphans`` is how many seconds old a blob without a row must be before it is
swept, and ``--patience`` is for how many seconds silent clients are borne. ``--alone`` is for how many seconds a new
worker is not recalled. ``--sabotage`` names a promise that the servers are to break.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import mmap
import os
import random
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

from tests.faults.sabotage import SABOTAGES

PR_SET_PDEATHSIG = 1
TOLD_BYTES = 100
LINGER_SHARE = 0.05


def shifted(path: Path) -> Callable[[], float]:
    """A clock that adds to the system's clock as many seconds as the file says at the moment."""
    with path.open("r+b") as file:
        seconds = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    real = time.time
    return lambda: real() + float(struct.unpack_from("d", seconds)[0])


def prepare(secret: bytes, orphans: float, patience: float, sabotage: str, alone: float | None) -> None:
    """Import and compile what a server needs, and patch what a test needs.

    It starts no thread, because a fork would not have it.
    """
    from sqlalchemy.dialects import sqlite  # noqa: F401 (only imported)

    from server import app
    from server.access.workers import WorkerTokens
    from server.http import connections, slow_bodies
    from server.http.internal import messages
    from server.leader import jobs, sweeping
    from server.problems import Problem
    from server.settings import kept, live  # noqa: F401 (only imported)

    with suppress(Problem):  # a schema is compiled when it is first used
        messages.MESSAGE.read(b"{}")
    mock.patch.object(app, "WorkerTokens", lambda _: WorkerTokens(secret)).start()
    mock.patch.object(sweeping, "ORPHAN_SECONDS", orphans).start()
    if alone is not None:
        mock.patch.object(jobs, "LEFT_ALONE_SECONDS", alone).start()
    if sabotage:
        SABOTAGES[sabotage]()
    if patience:
        mock.patch.multiple(connections, HEAD_SECONDS=patience, IDLE_SECONDS=patience).start()
        mock.patch.object(slow_bodies, "GRACE_SECONDS", patience).start()


def live(order: dict[str, Any], tell: int) -> None:
    """Be a server until the process ends."""
    from server.__main__ import main
    from server.points import Point, watch

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
    # A fork inherits the launcher's handling of signals, which the server must not have.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(source, target)
        os.close(source) if source > 2 and source != log else None
    where, hit, pause = order["kill"] or ("", 0, 0.0)
    hits, chance, linger = itertools.count(1), random.Random(), order["linger"]

    def reached(point: Point) -> None:
        if point == where and next(hits) == hit:
            time.sleep(pause)
            os.write(tell, point.value.encode())
            os.kill(os.getpid(), signal.SIGKILL)
        if linger and chance.random() < LINGER_SHARE:
            time.sleep(chance.random() * linger)

    watch(reached)
    main(order["arguments"], prog_name="tierserve")


class Launcher:
    """Takes orders, forks a child for each, and says which child ended and how."""

    def __init__(self) -> None:
        self._children: dict[int, int] = {}
        self._orders = b""
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def run(self) -> dict[str, Any] | None:
        """Serve orders until standard input is closed, then return None. In a child it returns the child's order."""
        say({"ready": os.getpid()})
        while True:
            readable, _, _ = select.select([0, self._woken], [], [])
            if self._woken in readable:  # by SIGCHLD: a child has ended
                os.read(self._woken, 4096)
                self._bury()
            if 0 in readable:
                chunk = os.read(0, 65536)
                if not chunk:
                    for pid in self._children:
                        os.kill(pid, signal.SIGKILL)
                    return None
                *lines, self._orders = (self._orders + chunk).split(b"\n")
                for line in lines:
                    if order := self._fork(json.loads(line)):
                        return order

    def _fork(self, order: dict[str, Any]) -> dict[str, Any] | None:
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            return order | {"tell": tell}
        os.close(tell)
        self._children[pid] = told
        say({"started": pid})
        return None

    def _bury(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            told = self._children.pop(pid)
            point = os.read(told, TOLD_BYTES).decode()
            os.close(told)
            say({"ended": pid, "status": os.waitstatus_to_exitcode(status), "point": point})


def say(thing: dict[str, Any]) -> None:
    """Send the harness a line."""
    os.write(1, json.dumps(thing).encode() + b"\n")


def main() -> None:
    """Prepare, then fork servers as the harness orders."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.launcher", description=__doc__)
    parser.add_argument("--secret", type=bytes.fromhex, required=True)
    parser.add_argument("--shift", type=Path, required=True)
    parser.add_argument("--orphans", type=float, default=3600.0)
    parser.add_argument("--patience", type=float, default=0.0)
    parser.add_argument("--sabotage", default="")
    parser.add_argument("--alone", type=float)
    options = parser.parse_args()
    sys.argv[1:] = []  # the server must not see the launcher's arguments
    with mock.patch("time.time", shifted(options.shift)):
        prepare(options.secret, options.orphans, options.patience, options.sabotage, options.alone)
        if order := Launcher().run():
            live(order, order["tell"])


if __name__ == "__main__":
    main()
