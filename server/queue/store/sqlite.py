"""The queue in a SQLite file: for one server, on a disk of its own machine."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import sqlalchemy as sa

from server.queue.facts import errors
from server.queue.facts.states import Clock, Ids, Status
from server.queue.store import guard
from server.queue.store.database import READERS, Database, steady
from server.queue.store.migrations import VERSION, bring_up, shared_key
from server.queue.store.statements import Statements
from server.queue.store.tables import literal, predictions

FILE = "queue.db"
BUSY_SECONDS = 5.0
IMMEDIATE = "BEGIN IMMEDIATE"
_NEWEST_WAITING = sa.select(sa.func.max(predictions.c.accepted_at)).where(
    predictions.c.status == literal(Status.QUEUED)
)

_DISK = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOTADB,
    }
)


class SQLite(Database):
    """A file in a data directory that this process alone has open."""

    @classmethod
    def open(cls, directory: Path, clock: Clock | None = None, *, filesystem: str | None = None) -> SQLite:
        """Open, or make, the database in a data directory.

        Where no ``clock`` is given, it is the system's, but never behind what waits: if that clock was set back, new
        predictions would overtake those, as the queue is in the order of acceptance.

        Raises ``DataInUse``, ``NetworkFilesystem`` (``filesystem`` names the type instead of asking the system),
        ``NewerSchema`` or ``CannotOpen``, whose texts are for an operator.
        """
        guard.make_directory(directory)
        guard.refuse_network(directory, filesystem)
        path = directory / FILE
        with contextlib.ExitStack() as resources:
            resources.callback(guard.DataLock(directory).release)
            guard.make_file(path)
            try:
                # The last connection to be closed folds the WAL into the file and removes it.
                writer = resources.enter_context(_engine(path).connect())
                with writer.begin():
                    _migrate(writer, path)
                    ids = Ids(shared_key(writer))
                    newest = writer.execute(_NEWEST_WAITING).scalar() or 0.0
                reading = _engine(path, "query_only = ON")
                readers = [resources.enter_context(reading.connect()) for _ in range(READERS)]
            except (sa.exc.DBAPIError, sqlite3.Error) as error:
                raise errors.CannotOpen(f"{path} cannot be opened: {error}") from error
            write, read = _Connections([writer], IMMEDIATE).begin, _Connections(readers, "BEGIN").begin
            clock = clock or steady(lambda: max(time.time(), newest))
            return cls(write, read, Statements(writer.dialect), clock, ids, resources.pop_all())

    def _ours(self, cause: Exception) -> Exception:
        orig = cause.orig if isinstance(cause, sa.exc.DBAPIError) else cause
        if not isinstance(orig, sqlite3.Error):
            return cause
        error: errors.QueueError
        code = getattr(orig, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest its detail
        if code == sqlite3.SQLITE_FULL:
            error = errors.DiskFull(f"the disk refused: {orig}")
        elif code == sqlite3.SQLITE_READONLY:
            error = errors.ReadOnly(f"the disk refused: {orig}")
        elif code in _DISK:
            error = errors.StorageError(f"the disk refused: {orig}")
        elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            error = errors.DatabaseBusy(f"the database stayed locked: {orig}")
        elif isinstance(orig, sqlite3.IntegrityError):
            error = errors.Conflict(f"the tables refused it: {orig}")
        else:
            error = errors.QueueError(f"the database refused it: {orig}")
        error.__cause__ = cause
        return error


class _Connections:
    """Connections that stay open, one for each thread that asks; ``how`` begins a transaction."""

    def __init__(self, connections: list[sa.Connection], how: str) -> None:
        self._how = how
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for connection in connections:
            self._idle.put(cast(sqlite3.Connection, connection.connection.driver_connection))

    @contextlib.contextmanager
    def begin(self) -> Iterator[sqlite3.Cursor]:
        connection = self._idle.get()
        try:
            cursor = connection.execute(self._how)
            yield cursor
            connection.commit()
        finally:
            try:
                connection.rollback()  # does nothing after a commit
            finally:
                self._idle.put(connection)


def _engine(path: Path, *pragmas: str) -> sa.Engine:
    """An engine that leaves BEGIN to us, as SQLAlchemy documents for sqlite3: the module's own comes too late."""
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), poolclass=sa.NullPool)

    @sa.event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {int(BUSY_SECONDS * 1000)}",
            "journal_mode = WAL",
            "synchronous = FULL",  # NORMAL does not sync the WAL at each commit: a power cut could take accepted rows
            # The WAL is folded into the file every 1000 pages (4 MB) and written over from its start, which costs no
            # new blocks; after a burst, a longer one is cut back to this.
            f"journal_size_limit = {16 << 20}",
            "temp_store = MEMORY",  # a pod's root filesystem is read-only
            *pragmas,
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        connection.exec_driver_sql(IMMEDIATE)

    return engine


def _migrate(connection: sa.Connection, path: Path) -> None:
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if bring_up(connection, found, str(path)):
        connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
