"""Faults of storage: disks that are full or fail, and a database that goes away."""

from __future__ import annotations

import shutil
import signal
import subprocess
from contextlib import suppress

from tests.faults.fault import Fault, Scene
from tests.postgres import Postgres

BALLAST = "ballast"
STRACE_SECONDS = 3.0


class DiskFull(Fault):
    """The disk has no room for pictures, rows or logs."""

    name, seconds = "disk-full", 2.0

    @classmethod
    def missing(cls, scene: Scene) -> str:
        return "" if scene.roomy else "only root can mount a small filesystem"

    def inject(self) -> None:
        assert self.scene.roomy is not None
        self._ballast = self.scene.roomy / BALLAST
        with suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def heal(self) -> None:
        self._ballast.unlink(missing_ok=True)


class IoError(Fault):
    """Writes or syncs fail, on the whole disk or on the database's log alone. Half of these faults end with a kill."""

    name, seconds = "io-error", 1.5

    @classmethod
    def missing(cls, scene: Scene) -> str:
        return "" if shutil.which("strace") else "strace is not installed: apt-get install strace"

    def inject(self) -> None:
        self._strace: subprocess.Popen[bytes] | None = None
        if (life := self.scene.world.life) is None:
            return
        what = self.chance.choice(("fsync,fdatasync", "pwrite64,writev"))
        error = self.chance.choice(("EIO", "ENOSPC"))
        words = ["strace", "-f", "-p", str(life.pid), "-e", f"trace={what}", "-e", f"inject={what}:error={error}"]
        if self.chance.random() < 0.5:  # the log of SQLite alone, so that pictures are still written
            words += ["-P", str(self.scene.world.state / "data" / "queue.db-wal")]
        self._strace = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def heal(self) -> None:
        if self.chance.random() < 0.5:
            self.scene.world.send(signal.SIGKILL)
        if self._strace is not None:
            self._strace.terminate()
            try:
                self._strace.wait(STRACE_SECONDS)
            except subprocess.TimeoutExpired:  # strace does not always notice that the process it traced was killed
                self._strace.kill()
                self._strace.wait()


class DatabaseRestart(Fault):
    """PostgreSQL ends all sessions in good order, and is away for a while."""

    name, seconds = "database-restart", 1.5

    @classmethod
    def missing(cls, scene: Scene) -> str:
        return "" if scene.world.database.server else "the database is not a PostgreSQL server of this run"

    def inject(self) -> None:
        server = self.scene.world.database.server
        assert server is not None
        self._server = server
        self.end(server)

    def end(self, server: Postgres) -> None:
        """End the database server."""
        server.stop()

    def heal(self) -> None:
        self._server.start()


class DatabaseKill(DatabaseRestart):
    """PostgreSQL crashes, and recovers when it is started again."""

    name = "database-kill"

    def end(self, server: Postgres) -> None:
        server.kill()
