"""A queue on a real database with a clock that tests move, and short methods for what tests do with them."""

from __future__ import annotations

import atexit
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from server.queue import Completion, Database, Leased, News, Prediction, Queue, SQLite, Status, Submission
from server.queue.store.postgresql import PostgreSQL
from server.queue.store.sqlite import FILE
from tests.postgres import Postgres, need_postgres
from tests.server.given import HandClock, submission

RESULTS = [{"index": 0, "labels": [{"label": "tabby", "score": 0.9}]}]
MANY = 1 << 30
CHILD = [sys.executable, "-m", "tests.server.queue.submit_forever"]


class World:
    """A data directory and a queue on it. ``dump`` is SQL for what the directory contains before."""

    def __init__(self, directory: Path, dump: str = "") -> None:
        self.directory = directory
        self.file = directory / "data" / FILE
        self.clock = HandClock()
        if dump:
            self.load(dump)
        self.start()

    def load(self, dump: str) -> None:
        self.file.parent.mkdir()
        with closing(sqlite3.connect(self.file)) as connection:
            connection.executescript(dump)

    def open(self) -> Database:
        return SQLite.open(self.directory / "data", self.clock)

    def start(self) -> None:
        self.database = self.open()
        self.queue = Queue(self.database)
        self.told: list[Sequence[News]] = []
        self.queue.listen(self.told.append)

    def stop(self) -> None:
        self.database.close()

    def close(self) -> None:
        self.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def submission(self, **changes: Any) -> Submission:
        return submission(self.clock, **changes)

    def submit(self, **changes: Any) -> str:
        return self.queue.submit(self.submission(**changes), MANY).result().prediction.id

    def job(self, name: str = "job", tier: str = "free", model: str = "") -> str:
        self.queue.open_job(name, tier, f"run-{name}", model).result()
        return name

    def lease(
        self,
        job: str = "job",
        most: int = 100,
        *,
        tier: str = "free",
        most_bytes: int = MANY,
        seconds: float = 30.0,
        canary: bool = False,
    ) -> list[Leased]:
        return self.queue.lease(tier, job, most, most_bytes, seconds, canary=canary).result().leased

    def complete(self, leased: Leased, job: str = "job", *, error: dict[str, Any] | None = None) -> str:
        return self.queue.complete(job, [completion(leased.id, leased.token, error)]).result()[0]

    def get(self, prediction_id: str) -> Prediction:
        found = self.queue.get(prediction_id).result()
        assert found is not None
        return found

    def status(self, prediction_id: str) -> Status:
        return self.get(prediction_id).status

    def heard(self) -> list[News]:
        """All news since the last call of this method."""
        self.database.write(lambda _: None).result()  # when this returns, listeners have heard of all earlier commits
        heard = flat(self.told)
        self.told.clear()
        return heard


def completion(prediction_id: str, token: str, error: dict[str, Any] | None = None) -> Completion:
    """What a worker hands in for a lease."""
    return Completion(id=prediction_id, token=token, results=RESULTS, error=error, predict_ms=8.0)


def invalid(prediction_id: str, token: str) -> Completion:
    """What no worker can have found out: two results for one picture."""
    return Completion(id=prediction_id, token=token, results=2 * RESULTS, error=None, predict_ms=8.0)


def pairs(leased: Sequence[Leased]) -> list[tuple[str, str]]:
    return [(one.id, one.token) for one in leased]


def flat(told: Sequence[Sequence[News]]) -> list[News]:
    return [news for one in told for news in one]


@cache
def server() -> Postgres:
    """The PostgreSQL server of all tests of this process."""
    need_postgres()
    started = Postgres(fsync="off")  # faster; the tests of crashes have it on
    atexit.register(started.close)
    return started


class PostgresWorld(World):
    """A PostgreSQL schema and a queue on it."""

    def __init__(self, directory: Path, dump: str = "") -> None:
        self.schema = ExitStack()
        self.url = self.schema.enter_context(server().schema(f"world_{secrets.token_hex(6)}"))
        super().__init__(directory, dump)

    def load(self, dump: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(dump.encode())

    def open(self) -> Database:
        return PostgreSQL.open(self.url, self.clock)

    def close(self) -> None:
        super().close()
        self.schema.close()


class TwoServersWorld(PostgresWorld):
    """Two servers on one database. They take turns: each operation goes to the other one."""

    def start(self) -> None:
        super().start()
        self.second = self.open()
        self.queues = cycle([self.queue, Queue(self.second)])

    # Tests use ``queue`` as if there were one server; this gives them the next server's queue each time.
    def __getattribute__(self, name: str) -> Any:
        if name == "queue" and "queues" in vars(self):
            return next(self.queues)
        return super().__getattribute__(name)

    def stop(self) -> None:
        self.second.close()
        super().stop()
        del self.queues  # start must find the queue of the new database, not one of the closed ones


WORLDS: list[type[World]] = [World, PostgresWorld]


@contextmanager
def child(directory: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*CHILD, str(directory)], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
