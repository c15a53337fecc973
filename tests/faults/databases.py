"""Which database a run works with: a SQLite file, a PostgreSQL server started for it, or one that is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.postgres import Postgres

SQLITE, POSTGRESQL = "sqlite", "postgresql"


@dataclass(frozen=True, slots=True)
class Database:
    """``url`` is empty for a SQLite file in the server's state; ``server`` can be stopped if it is ours."""

    url: str = ""
    server: Postgres | None = None

    @property
    def name(self) -> str:
        """Its kind."""
        return POSTGRESQL if self.url else SQLITE


@contextmanager
def database(name: str) -> Iterator[Database]:
    """``sqlite``, ``postgresql``, or the URL of an empty PostgreSQL database."""
    if name == POSTGRESQL:
        with Postgres() as server:
            yield Database(server.url, server)
    else:
        yield Database() if name == SQLITE else Database(name)
