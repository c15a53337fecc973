"""Faults of processes: servers and workers die, hang, or are told to stop, and their clock jumps."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from http.client import HTTPException
from typing import ClassVar

from server.points import Point
from tests.faults.clients import ask
from tests.faults.fault import Fault

HOUR = 3600.0


class ServerKill(Fault):
    """The server is killed at any moment. The keeper starts it again."""

    name = "server-kill"

    def inject(self) -> None:
        self.scene.world.send(signal.SIGKILL)


class ServerKillAtPoint(Fault):
    """The server is killed, and the next one kills itself at a named point."""

    name = "server-kill-point"

    def inject(self) -> None:
        self.scene.world.next_kill = self.chance.choice(list(Point)).value, self.chance.randint(1, 30), 0.0
        self.scene.world.send(signal.SIGKILL)


class ServerTerm(Fault):
    """The server is told to stop while clients upload, and comes back with what waits, as in an upgrade."""

    name = "server-term"

    def inject(self) -> None:
        self.scene.world.send(signal.SIGTERM)


class _OnWorker(Fault):
    signal: ClassVar[signal.Signals]

    def inject(self) -> None:
        self.pid = 0
        if workers := self.scene.world.workers():
            self.pid = self.chance.choice(workers).pid
            with suppress(ProcessLookupError):
                os.kill(self.pid, self.signal)


class WorkerKill(_OnWorker):
    """A worker is killed in the middle of its batch."""

    name, signal = "worker-kill", signal.SIGKILL


class WorkerTerm(_OnWorker):
    """A worker is told to stop, and hands back what it has not begun."""

    name, signal = "worker-term", signal.SIGTERM


class WorkerHang(_OnWorker):
    """A worker stands still for longer than its lease, then goes on as if nothing had happened."""

    name, signal, seconds = "worker-hang", signal.SIGSTOP, 3.0  # a lease of a long run lasts 2 s

    def heal(self) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)


class ClockJump(Fault):
    """The system's clock jumps an hour forward or back, and later returns."""

    name, seconds = "clock-jump", 3.0

    def inject(self) -> None:
        with suppress(OSError, HTTPException):
            address = ("127.0.0.1", self.scene.world.service.port)
            # A server believes the clock when it starts. One that answers has read the right time already.
            if ask(address, "GET", "/healthz", timeout=1).status == 200:
                self.scene.zygote.shift(self.chance.choice((-HOUR, HOUR)))

    def heal(self) -> None:
        self.scene.zygote.shift(0.0)
