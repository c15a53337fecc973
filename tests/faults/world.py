"""One server's data, through many lives. Its Jobs are real workers, or doors by which the harness is the worker."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.access import Operator
from tests.faults.actor import Actor
from tests.faults.databases import Database
from tests.faults.history import History
from tests.faults.ports import lasting_port
from tests.faults.zygote import Kill, Life, Zygote
from tests.running import ROOT, START_SECONDS, Answer, Service, setting

STOP_SECONDS = 40.0
POLL_SECONDS = 0.004
AGAIN_SECONDS = 0.3  # between two starts where a server cannot start, for instance on a full disk
COMMAND = 'command: ["python", "-m", "model", "work"]'
REAL = ["python", "-m", "tests.faults.worker", "work"]


class Doors:
    """Where Jobs without a worker write their tokens. With a Job's token the harness can be its worker."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "doors"
        os.mkfifo(self._path)
        # Open for writing too: otherwise the pipe would be at its end whenever no Job has it open.
        self._end = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._tokens: list[str] = []
        self._said = b""

    @property
    def command(self) -> list[str]:
        """The command of such a Job: it writes its token, then sleeps."""
        # By exec, signals for the Job reach the sleep, which ends at once.
        return ["sh", "-c", f'echo "$TIERSERVE_TOKEN" > {self._path}; exec sleep 3600']

    def tokens(self) -> list[str]:
        """The tokens of the Jobs that are not known to be over. The newest comes last."""
        with self._lock:
            while select.select([self._end], [], [], 0)[0]:
                *lines, self._said = (self._said + os.read(self._end, 65536)).split(b"\n")
                self._tokens += [line.decode() for line in lines]
            return list(self._tokens)

    def shut(self) -> None:
        """Forget all tokens: the Jobs have ended with their server."""
        self.tokens()
        with self._lock:
            self._tokens.clear()

    def over(self, token: str) -> None:
        """Forget one token: the server has said that its Job is over."""
        with self._lock, suppress(ValueError):
            self._tokens.remove(token)

    def close(self) -> None:
        """Close the pipe."""
        if self._end >= 0:
            os.close(self._end)
            self._end = -1


class World:
    """A server that is started and killed again and again on the same data. ``up`` is set while it can be asked.

    ``lobby_seconds`` is the setting of that name of the next servers, if it is not as in the other settings. ``values``
    is a file of values that they read, if there is one.
    """

    def __init__(
        self,
        folder: Path,
        models: Path,
        zygote: Zygote,
        history: History,
        settings: Sequence[str],
        database: Database,
        values: Path | None = None,
    ) -> None:
        self.folder, self.state, self.database = folder, folder / "state", database
        self.state.mkdir(parents=True, exist_ok=True)
        self.values = values
        self.service = Service(self.state, models, settings, values)
        self.service.port, self.service.internal_port = lasting_port(), lasting_port()
        self.operator = Operator(self.service.internal_port, self.state / "admin-token")
        self.doors = Doors(folder)
        self._zygote, self._history = zygote, history
        self._templates = {
            real: _templates(folder / f"templates-{'real' if real else 'doors'}", REAL if real else self.doors.command)
            for real in (True, False)
        }
        self.life: Life | None = None
        self.up = threading.Event()
        self.lives = 0
        self.next_kill: Kill | None = None
        self.lobby_seconds: float | None = None
        self.log = history.path.with_name("server.log")

    def arguments(self, *, real: bool) -> list[str]:
        """The server's command line. Nothing else makes one."""
        where = ["--database", self.database.url] if self.database.url else []
        ports = {"port": self.service.port, "internalPort": self.service.internal_port}
        named = ports if self.lobby_seconds is None else {**ports, "lobbySeconds": self.lobby_seconds}
        pairs = [f"server.{name}={value}" for name, value in named.items()]
        sets = [word for pair in pairs for word in (setting(pair), pair)]
        return [*self.service.command[3:], *sets, "--templates", str(self._templates[real]), *where]

    def start(self, *, real: bool = True, kill: Kill | None = None, linger: float = 0.0) -> Life:
        """Start the server. It may end before it answers: see ``wait_up``."""
        self.lives += 1
        self.doors.shut()
        self._zygote.shift(0.0)  # a server believes the clock when it starts, so the clock must be right
        self.life = self._zygote.start(self.arguments(real=real), self.log, kill, linger)
        self._history.tell("life", number=self.lives, step="start", kill=kill, real=real, lobby=self.lobby_seconds)
        return self.life

    def wait_up(self, seconds: float = START_SECONDS) -> bool:
        """Return True when the server takes connections, and False when it has ended. Raises ``TimeoutError``."""
        assert self.life is not None
        end = time.monotonic() + seconds
        while not self.life.ended.is_set():
            try:
                socket.create_connection(("127.0.0.1", self.service.port), 5).close()
            except OSError as error:
                if time.monotonic() > end:
                    log = self.log.read_text()[-2000:]
                    raise TimeoutError(f"life {self.lives}: no answer within {seconds:g} s: {error}; {log}") from None
                time.sleep(POLL_SECONDS)
            else:
                self.up.set()
                return True
        return False

    def bury(self) -> Life:
        """Record that the life has ended."""
        assert self.life is not None
        life, self.life = self.life, None
        self.up.clear()
        self._history.tell("life", number=self.lives, step="end", status=life.status, point=life.point)
        return life

    def end(self, number: signal.Signals, seconds: float = STOP_SECONDS) -> Life:
        """Send a signal and wait for the server's end. Raises ``TimeoutError``."""
        assert self.life is not None
        self.up.clear()
        self.life.send(number)
        try:
            self.life.wait(seconds)
        except TimeoutError as error:
            self.life.send(signal.SIGKILL)
            error.add_note(f"its log ends with: {self.log.read_text()[-2000:]}")
            raise
        return self.bury()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server if one runs, and do not wait. A ``Keeper`` starts the next one."""
        if (life := self.life) is not None:
            self._history.tell("life", number=self.lives, step="signal", signal=number.name)
            life.send(number)

    def get(self, path: str) -> Answer:
        """GET a path."""
        return self.service.get(path)

    def workers(self) -> list[psutil.Process]:
        """The processes of the server's Jobs."""
        with suppress(psutil.NoSuchProcess):
            if (life := self.life) is not None:  # the settings are judged in a child process too
                return [child for child in psutil.Process(life.pid).children() if "work" in child.cmdline()]
        return []

    def close(self) -> None:
        """Kill the server if one runs, and close the doors."""
        if self.life is not None:
            with suppress(TimeoutError):
                self.end(signal.SIGKILL)
        self.doors.close()

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Keeper(Actor):
    """Starts the server again when it ends, as a service manager does."""

    def __init__(self, world: World) -> None:
        super().__init__("keeper")
        self._world = world
        world.start()

    def step(self) -> None:
        """Wait until the server ends, and start the next one. When the keeper is stopped, the server goes on."""
        world = self._world
        if world.wait_up():
            while world.life is not None and not world.life.ended.wait(0.05) and not self.over.is_set():
                pass
        if world.life is not None and world.life.ended.is_set():
            ended = world.bury()
            kill, world.next_kill = world.next_kill, None
            world.start(kill=kill)
            if ended.status not in (0, -signal.SIGKILL):
                self.over.wait(AGAIN_SECONDS)


def _templates(folder: Path, command: Sequence[str]) -> Path:
    """A copy of the Job templates in which the worker is another command."""
    shutil.copytree(ROOT / "jobtemplates", folder)
    base = folder / "base.yaml.j2"
    text = base.read_text()
    assert COMMAND in text
    base.write_text(text.replace(COMMAND, f"command: {json.dumps(list(command))}"))
    return folder


def tier_of(process: psutil.Process) -> str:
    """The tier of a Job's process."""
    token: Any = process.environ().get("TIERSERVE_TOKEN", "")
    return str(token).partition(".")[0]
