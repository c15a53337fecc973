"""The harness's side of the launcher: it starts servers and learns how they end."""

from __future__ import annotations

import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.running import ROOT

ANSWER_SECONDS = 60.0

Kill = tuple[str, int, float]
"""Where a server kills itself: at which point, at which passage of it, and after how many seconds of waiting there."""


class Life:
    """One server process from its start to its end. ``point`` is the named point at which it was killed, if any."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self.point = ""
        self.ended = threading.Event()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if not self.ended.is_set():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> int:
        """Wait for the end; returns the exit status, or minus the signal that ended it. Raises ``TimeoutError``."""
        if not self.ended.wait(seconds):
            raise TimeoutError(f"the server {self.pid} has not ended within {seconds:g} s")
        assert self.status is not None
        return self.status


class Zygote:
    """A process that has imported the server, and forks one for each life."""

    def __init__(
        self,
        folder: Path,
        secret: bytes,
        orphans: float = 3600.0,
        patience: float = 0.0,
        sabotage: str = "",
        alone: float | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._shift = folder / "shift"
        self._shift.write_bytes(bytes(8))
        command = [sys.executable, "-m", "tests.faults.launcher", "--secret", secret.hex(), "--shift", str(self._shift)]
        young = [] if alone is None else ["--alone", str(alone)]
        self._popen = subprocess.Popen(
            [*command, "--orphans", str(orphans), "--patience", str(patience), "--sabotage", sabotage, *young],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._lives: dict[int, Life] = {}
        self._started: queue.SimpleQueue[Life] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen, name="zygote", daemon=True)
        self._thread.start()

    def start(self, arguments: Sequence[str], log: Path, kill: Kill | None = None, linger: float = 0.0) -> Life:
        """Start a server with this command line. By ``kill`` it kills itself at a named point.

        At some passages of any point it waits for up to ``linger`` seconds, so that threads meet in unusual orders.
        """
        assert self._popen.stdin is not None
        order = {"arguments": list(arguments), "log": str(log), "kill": kill, "linger": linger}
        self._popen.stdin.write(json.dumps(order).encode() + b"\n")
        self._popen.stdin.flush()
        try:
            return self._started.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            status = self._popen.poll()
            raise TimeoutError(f"no server within {ANSWER_SECONDS:g} s; the launcher's status: {status}") from None

    def shift(self, seconds: float) -> None:
        """Let all servers of this zygote see a clock that is so many seconds ahead."""
        with self._shift.open("r+b") as file:
            file.write(struct.pack("d", seconds))

    def close(self) -> None:
        """Kill every server that still runs, and end the launcher."""
        assert self._popen.stdin is not None
        with suppress(OSError):
            self._popen.stdin.close()
        self._popen.wait(ANSWER_SECONDS)
        self._thread.join(ANSWER_SECONDS)

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _listen(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._heed(json.loads(line))
        self._popen.stdout.close()

    def _heed(self, said: dict[str, Any]) -> None:
        if pid := said.get("started"):
            self._lives[pid] = life = Life(pid)
            self._started.put(life)
        elif pid := said.get("ended"):
            life = self._lives.pop(pid)
            life.status, life.point = said["status"], said["point"]
            life.ended.set()
