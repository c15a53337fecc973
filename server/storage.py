"""Opens the database, the blobs and the files of models, and knows the disks that they lie on."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.blobs import Blobs, Files, folder_of, open_blobs, open_files
from server.disk import Disk
from server.queue import Database, DatabaseAway, open_database

log = logging.getLogger(__name__)

MODELS_OF_FOLDER, MODELS_OF_BUCKET = "model-files", "models"  # no names of blobs, which have neither "-" nor "/"
DATABASE_SECONDS, DATABASE_LOOK = 30.0, 1.0  # how long the server waits for the database, and how often it tries


@dataclass(frozen=True, slots=True)
class Opened:
    """What a server uses. ``disks`` are the filesystems of rows and pictures, as far as they are this machine's.

    ``pictures`` is the one of them to which pictures and models are written; None if they go into a bucket.
    """

    database: Database
    blobs: Blobs
    files: Files
    disks: tuple[Disk, ...]
    pictures: Disk | None

    def close(self) -> None:
        """Let go of what is left once the database is closed."""
        self.blobs.close()
        self.files.close()
        for disk in self.disks:
            disk.close()


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the queue and the pictures are stored: in ``directory``, or at a URL where one is given."""

    directory: Path
    database_url: str = ""
    blobs_url: str = ""

    def open(self) -> Opened:
        """Open all. Raises ``CannotOpen`` or ``BlobsUnusable``."""
        rows = None if self.database_url else Disk(self.directory, ballast=True)
        database = self._open_database(rows)
        try:
            place = self.blobs_url or str(self.directory / "blobs")
            pictures, folder = None, folder_of(place)
            if folder is not None:
                pictures = rows if rows is not None and _on_one_disk(folder, rows.folder) else Disk(folder)
            blobs = open_blobs(place, pictures)
            files = open_files(self._place_of_models(), pictures)
        except BaseException:
            database.close()
            raise
        disks = tuple(dict.fromkeys(disk for disk in (rows, pictures) if disk is not None))
        return Opened(database, blobs, files, disks, pictures)

    def _place_of_models(self) -> str:
        """Beside the blobs; but within a place that was given, as a folder may be a volume, with nothing beside it."""
        if not self.blobs_url:
            return str(self.directory / "store")
        within = MODELS_OF_FOLDER if folder_of(self.blobs_url) is not None else MODELS_OF_BUCKET
        return f"{self.blobs_url.rstrip('/')}/{within}"

    def _open_database(self, disk: Disk | None) -> Database:
        """Open PostgreSQL if there is a URL, else SQLite.

        PostgreSQL may be starting at the same time as this server, so it is waited for.
        """
        if disk is not None:
            with suppress(OSError):  # the folder may not be there yet
                disk.look()  # SQLite needs some room to open its file: on a full disk this is where it comes from
        end = time.monotonic() + DATABASE_SECONDS
        while True:
            try:
                database = open_database(self.directory, self.database_url)
            except DatabaseAway as error:
                if time.monotonic() > end:
                    raise
                log.warning("waiting for the database: %s", error)
                time.sleep(DATABASE_LOOK)
            else:
                if disk is not None:
                    database.when_full(disk.make_room)
                return database


def _on_one_disk(folder: Path, other: Path) -> bool:
    """Whether a folder, which may not be there yet, is on the filesystem of another one."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return there.stat().st_dev == other.stat().st_dev
