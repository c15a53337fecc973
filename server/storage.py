"""Where the queue and the pictures are kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.blobs import Blobs, open_blobs
from server.queue import CannotOpen, Database, DatabaseAway, SQLite

log = logging.getLogger(__name__)

DATABASE_SECONDS, DATABASE_LOOK = 30.0, 1.0


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the queue and the pictures are kept: in ``directory``, or wherever a URL says."""

    directory: Path
    database_url: str = ""
    blobs_url: str = ""

    def open_database(self) -> Database:
        """PostgreSQL by URL, waited for as it may start at the same time, else SQLite.

        Raises ``CannotOpen``.
        """
        if not self.database_url:
            return SQLite.open(self.directory)
        try:
            from server.queue.store.postgresql import PostgreSQL
        except ImportError as error:
            raise CannotOpen(f"PostgreSQL needs psycopg: pip install tierserve[postgresql] ({error})") from error
        end = time.monotonic() + DATABASE_SECONDS
        while True:
            try:
                return PostgreSQL.open(self.database_url)
            except DatabaseAway as error:
                if time.monotonic() > end:
                    raise
                log.warning("waiting for the database: %s", error)
                time.sleep(DATABASE_LOOK)

    def open_blobs(self, clock: Callable[[], float]) -> Blobs:
        """By URL, else files. Raises ``BlobsUnusable``."""
        return open_blobs(self.blobs_url or str(self.directory / "blobs"), clock)
