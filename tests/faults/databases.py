"""Which database a run uses: a SQLite file, a PostgreSQL server started for the run, or one that already runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.postgres import Postgres

SQLITE, POSTGRESQL = "sqlite", "postgresql"


@dataclass(frozen=True, slots=True)
class Database:
    """``url`` is empty for a SQLite file in the server's state. ``server`` is set if the run may stop it."""

    url: str = ""
    server: Postgres | None = None

    @property
    def name(self) -> str:
        """The kind of database."""
        return POSTGRESQL if self.url else SQLITE


@contextmanager
def database(name: str) -> Iterator[Database]:
    """A database by name (``sqlite``, ``postgresql``) or by the URL of an empty PostgreSQL database."""
    if name == POSTGRESQL:
        with Postgres() as server:
            yield Database(url=server.url, server=server)
    else:
        yield Database() if name == SQLITE else Database(url=name)
