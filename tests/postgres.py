"""A real PostgreSQL server for tests, from the programs that are installed on this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from tests.running import free_port, lacking

MISSING = "no PostgreSQL programs: apt-get install --no-install-recommends postgresql"
USER, PASSWORD, NAME = "tierserve", "not-a-secret", "tierserve"
START_SECONDS = 60.0


@cache
def programs() -> Path | None:
    """The folder with ``initdb`` and ``postgres`` of the newest installed version."""
    # Debian has a folder for each version, and none of them in PATH.
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    here = shutil.which("initdb")
    return Path(here).parent if here else None


class Postgres:
    """A server on a port and in a folder of its own. For root it runs as the user postgres: it refuses to be root."""

    def __init__(self, **settings: str) -> None:
        self._settings = settings
        self._folder = Path(mkdtemp(prefix="tierserve-postgres-"))
        self._account: Any = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self._account:
            os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.log = Path(os.environ.get("TIERSERVE_LOGS", self._folder)) / f"{self._folder.name}.log"
        try:
            secret = self._folder / "password"
            secret.write_text(PASSWORD)
            data = str(self._folder / "data")
            access = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={secret}"]
            secret.chmod(0o644)  # initdb runs as postgres, who must read it
            self._run("initdb", "-D", data, *access, "--no-locale", "--no-sync", "-E", "UTF8")
            self.start()
            with self.connect("postgres") as connection:
                connection.execute(f"CREATE DATABASE {NAME}")
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{NAME}"

    @property
    def process(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def connect(self, database: str = NAME) -> psycopg.Connection[Any]:
        where = make_conninfo(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database)
        return psycopg.connect(where, autocommit=True, connect_timeout=5)

    def start(self) -> None:
        """Start it and return when it answers. If it runs already, do nothing.

        Two faults may have ended it at the same time, and each of them starts it again.
        """
        if self._process is not None and self._process.poll() is None:
            return
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self._folder}
        words = [f"--{name}={value}" for name, value in {**settings, **self._settings}.items()]
        program = str((programs() or Path()) / "postgres")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-D", str(self._folder / "data"), *words], stdout=log, stderr=log, **self._as()
            )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError as error:
                if time.monotonic() > end or self._process.poll() is not None:
                    said = self.log.read_text().splitlines()[-3:]  # now, because it may be deleted with the folder
                    raise RuntimeError("\n".join([f"no PostgreSQL: {error}", *said])) from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End the server in good order, without waiting for sessions (a fast shutdown)."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server and its children as a crash does."""
        self._end(signal.SIGQUIT)

    def close(self) -> None:
        self._end(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def schema(self, name: str) -> Iterator[str]:
        """The URL of an empty schema, which is dropped afterwards. It is as good as a database and faster to make."""
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        try:
            yield f"{self.url}?options=-csearch_path%3D{name}"
        finally:
            with self.connect() as connection:
                connection.execute(f"DROP SCHEMA {name} CASCADE")

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def _run(self, program: str, *words: str) -> None:
        command = [str((programs() or Path()) / program), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **self._as())
        if done.returncode:
            raise RuntimeError(done.stderr)

    def _as(self) -> dict[str, Any]:
        given: dict[str, Any] = {"cwd": self._folder}
        if self._account:
            given |= {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return given


def need_postgres() -> None:
    """Skip the test, or fail it in CI, where there is no PostgreSQL."""
    if programs() is None:
        lacking(MISSING)
