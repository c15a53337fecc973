"""Opens the database and the blob store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.blobs import Blobs, open_blobs
from server.queue import Database, DatabaseAway, open_database

log = logging.getLogger(__name__)

DATABASE_SECONDS, DATABASE_LOOK = 30.0, 1.0  # how long the server waits for the database, and how often it tries


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the queue and the pictures are stored: in ``directory``, or at a URL where one is given."""

    directory: Path
    database_url: str = ""
    blobs_url: str = ""

    def open_database(self) -> Database:
        """Open PostgreSQL if there is a URL, else SQLite. Raises ``CannotOpen``.

        PostgreSQL may be starting at the same time as this server, so it is waited for.
        """
        end = time.monotonic() + DATABASE_SECONDS
        while True:
            try:
                return open_database(self.directory, self.database_url)
            except DatabaseAway as error:
                if time.monotonic() > end:
                    raise
                log.warning("waiting for the database: %s", error)
                time.sleep(DATABASE_LOOK)

    def open_blobs(self, clock: Callable[[], float]) -> Blobs:
        """Open the blob store at the URL, or else in the directory; ``clock`` returns seconds since the epoch.

        Raises ``BlobsUnusable``.
        """
        return open_blobs(self.blobs_url or str(self.directory / "blobs"), clock)
