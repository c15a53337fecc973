"""Servers and workers that die, hang, or are told to go; and a clock that jumps under them."""

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
    """Dies at any moment; whoever looks after it starts it again."""

    name = "server-kill"

    def inject(self) -> None:
        self.scene.world.send(signal.SIGKILL)


class ServerKillAtPoint(Fault):
    """Dies, and the next one dies at a named point."""

    name = "server-kill-point"

    def inject(self) -> None:
        self.scene.world.next_kill = self.chance.choice(list(Point)).value, self.chance.randint(1, 30), 0.0
        self.scene.world.send(signal.SIGKILL)


class ServerTerm(Fault):
    """Is asked to go while clients upload, and comes back with whatever waits: a rolling upgrade."""

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
    """Dies in the middle of its batch."""

    name, signal = "worker-kill", signal.SIGKILL


class WorkerTerm(_OnWorker):
    """Has to go, and hands back what it has not begun."""

    name, signal = "worker-term", signal.SIGTERM


class WorkerHang(_OnWorker):
    """Stands still for longer than its lease, then goes on as if nothing had been."""

    name, signal, seconds = "worker-hang", signal.SIGSTOP, 3.0

    def heal(self) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)


class ClockJump(Fault):
    """The system's clock goes an hour ahead, or back, and returns."""

    name, seconds = "clock-jump", 3.0

    def inject(self) -> None:
        with suppress(OSError, HTTPException):
            address = ("127.0.0.1", self.scene.world.service.port)
            if ask(address, "GET", "/healthz", timeout=1).status == 200:  # it has read the true time
                self.scene.zygote.shift(self.chance.choice((-HOUR, HOUR)))

    def heal(self) -> None:
        self.scene.zygote.shift(0.0)
