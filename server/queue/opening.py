"""From a data directory or a URL to the open database."""

from __future__ import annotations

from pathlib import Path

from server.queue.facts.errors import CannotOpen
from server.queue.facts.states import Clock
from server.queue.store.database import Database
from server.queue.store.sqlite import SQLite


def open_database(directory: Path, url: str = "", clock: Clock | None = None) -> Database:
    """PostgreSQL by its URL, else SQLite in the directory; ``clock`` stands in for the database's own.

    Raises ``DatabaseAway`` where it may help to ask again a little later, else ``CannotOpen``.
    """
    if not url:
        return SQLite.open(directory, clock)
    try:
        # Only now: its driver is an extra, which a server on SQLite need not have.
        from server.queue.store.postgresql import PostgreSQL
    except ImportError as error:
        raise CannotOpen(f"PostgreSQL needs psycopg: pip install tierserve[postgresql] ({error})") from error
    return PostgreSQL.open(url, clock)
