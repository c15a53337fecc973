"""Databases in which many predictions wait, for ``queue_cycles``. They are filled by one statement."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from server.queue import Database, SQLite
from server.queue.store import triggers
from server.queue.store.postgresql import PostgreSQL
from server.queue.store.sqlite import FILE

TIER = "free"
RATE = 1000  # predictions that were accepted in each second
DEADLINE = 36_000.0
OF_EACH = 100  # predictions of each caller that wait
_FILL = """
    INSERT INTO predictions
        (id, tier, model, status, images, size, top_k, priority, turn, owner, caller, accepted_at, deadline_at)
    WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {count})
    SELECT {id}, 'free', 'tf_efficientnet_lite0', 'queued', 1, 150000, 5, 0, 1 + i / {callers},
        'owner' || i % {callers}, 'owner:owner' || i % {callers},
        {start} + i / {rate}.0, {start} + i / {rate}.0 + {deadline} FROM numbers
"""
# Without the triggers, which count row by row.
_COUNTS = (
    "INSERT INTO depths (tier, slot, queued, leased, bytes) "
    "SELECT tier, 0, count(*), 0, sum(size) FROM predictions GROUP BY tier",
    *(
        "INSERT INTO waiting (tier, level, priority, turn, moment, slot, queued) "
        f"SELECT tier, {level}, priority, {turn}, {moment}, 0, count(*) FROM predictions GROUP BY 1, 3, 4, 5"
        for level, turn, moment in ((0, "turn >> 10", "0"), (1, "turn", "0"), (2, "turn", "{moment}"))
    ),
    "INSERT INTO shares (tier, caller, slot, finish, spent, seen, used_at) "
    "SELECT tier, caller, 0, max(turn) + 1, 0, 0, max(accepted_at) FROM predictions GROUP BY tier, caller",
)
_IDS = {"sqlite": "printf('p%034d', i)", "postgresql": "'p' || lpad(i::text, 34, '0')"}
_MOMENTS = {"sqlite": "CAST(accepted_at * 16 AS INTEGER)", "postgresql": "floor(accepted_at * 16)::bigint"}


class Store:
    """An open database in which ``count`` predictions wait, of ``callers`` callers."""

    database: Database

    def __init__(self, count: int) -> None:
        self._stack = ExitStack()
        self.callers = callers_of(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()


class SQLiteStore(Store):
    """A file."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(count)
        SQLite.open(folder).close()
        if count:
            with closing(sqlite3.connect(folder / FILE)) as connection:
                for statement in _statements("sqlite", count):
                    connection.execute(statement)
                connection.commit()
                connection.execute("PRAGMA optimize")
        self.database = self._stack.enter_context(SQLite.open(folder))


class PostgreSQLStore(Store):
    """A schema of its own in the database of a URL."""

    def __init__(self, url: str, count: int) -> None:
        super().__init__(count)
        schema = f"waiting_{count}"
        self._stack.callback(self._drop, url, schema)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        url += f"{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"
        PostgreSQL.open(url).close()
        if count:
            with psycopg.connect(url) as connection:
                for statement in _statements("postgresql", count):
                    connection.execute(statement.encode())
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
        self.database = self._stack.enter_context(PostgreSQL.open(url))

    @staticmethod
    def _drop(url: str, schema: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def callers_of(count: int) -> int:
    """How many callers share so many predictions."""
    return max(1, count // OF_EACH)


def _statements(dialect: str, count: int) -> list[str]:
    start = time.time() - count / RATE
    callers = callers_of(count)
    fill = _FILL.format(count=count, id=_IDS[dialect], start=start, rate=RATE, deadline=DEADLINE, callers=callers)
    counts = [text.format(moment=_MOMENTS[dialect]) for text in _COUNTS]
    return [*triggers.DROP[dialect], fill, *counts, *triggers.CREATE[dialect]]
