"""The SQLite file: one thread writes and commits in groups, two read; every operation is a future."""

from __future__ import annotations

import contextlib
import functools
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import sqlalchemy as sa

from server.points import Point, reached
from server.queue import errors, guard, tables
from server.queue.lanes import Lane, Task
from server.queue.states import Clock

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

FILE = "queue.db"
READERS = 2
GROUP = 64  # operations that share one commit at most: bounds what one slow group can hold up
WAITING = 2000  # operations that may wait for each lane: about a second of work
BUSY_SECONDS = 5.0

_DISK = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
    }
)


def steady() -> Clock:
    """A clock set once by the system's and never again: a jump of the system's clock ends no lease and no deadline."""
    start = time.time() - time.monotonic()
    return lambda: start + time.monotonic()


class Transaction:
    """What an operation works with: one moment in time, one consistent view, statements with their values apart."""

    def __init__(self, connection: sa.Connection, now: float) -> None:
        self._connection = connection
        self.now = now
        self.news: dict[str, Any] = {}

    def touch(self, topic: str, news: Any = None) -> None:
        """Wake those who wait for this topic once the transaction is committed, with the news if there is any."""
        self.news[topic] = news

    def rows(self, statement: sa.Select[Any], **values: object) -> Sequence[sa.Row[Any]]:
        """Every row of a SELECT."""
        return self._connection.execute(statement, values).all()

    def first(self, statement: sa.Select[Any], **values: object) -> sa.Row[Any] | None:
        """The first row of a SELECT, or None."""
        return self._connection.execute(statement, values).first()

    def change(self, statement: sa.UpdateBase, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> int:
        """Write one row, or many with one statement; answers how many rows changed."""
        return self._connection.execute(statement, rows).rowcount if rows else 0


class Operations:
    """A set of operations on one database."""

    def __init__(self, database: Database) -> None:
        self.database = database


Own = TypeVar("Own", bound=Operations)


def write(method: Callable[Concatenate[Own, Transaction, P], R]) -> Callable[Concatenate[Own, P], Future[R]]:
    """Make a method that takes a transaction one that answers a future, resolved when its changes are on disk."""

    @functools.wraps(method)
    def call(self: Own, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self.database.write(lambda transaction: method(self, transaction, *args, **kwargs))

    return call


def read(method: Callable[Concatenate[Own, Transaction, P], R]) -> Callable[Concatenate[Own, P], Future[R]]:
    """Make a method that takes a transaction one that answers a future and changes nothing."""

    @functools.wraps(method)
    def call(self: Own, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self.database.read(lambda transaction: method(self, transaction, *args, **kwargs))

    return call


class Database:
    """The open database. ``write`` and ``read`` may be called from any thread and from an event loop."""

    def __init__(
        self, writer: sa.Connection, readers: Sequence[sa.Connection], clock: Clock, resources: contextlib.ExitStack
    ) -> None:
        """Use ``Database.open``."""
        self.clock = clock
        self._resources = resources
        self._listeners: list[Callable[[Mapping[str, Any]], None]] = []
        serve = functools.partial
        self._writing: Lane[Transaction] = Lane("writer", [serve(self._serve, writer)], WAITING, GROUP)
        self._reading: Lane[Transaction] = Lane("readers", [serve(self._serve, reader) for reader in readers], WAITING)

    @classmethod
    def open(cls, directory: Path, clock: Clock | None = None, *, filesystem: str | None = None) -> Database:
        """Open, or make, the database in a data directory; ``clock`` is ``steady()`` where none is given.

        Raises ``DataInUse``, ``NetworkFilesystem`` (``filesystem`` names the type instead of asking the system),
        ``NewerSchema`` or ``CannotOpen``, whose texts are for an operator.
        """
        guard.make_directory(directory)
        guard.refuse_network(directory, filesystem)
        path = directory / FILE
        with contextlib.ExitStack() as resources:
            resources.callback(guard.DataLock(directory).release)
            try:
                writer = resources.enter_context(_engine(path, "BEGIN IMMEDIATE").connect())
                with writer.begin():
                    _migrate(writer, path)
                reading = _engine(path, "BEGIN", "query_only = ON")
                readers = [resources.enter_context(reading.connect()) for _ in range(READERS)]
            except (sa.exc.DBAPIError, sqlite3.Error) as error:
                raise errors.CannotOpen(f"{path} cannot be opened: {error}") from error
            return cls(writer, readers, clock or steady(), resources.pop_all())

    def write(self, operation: Callable[[Transaction], R]) -> Future[R]:
        """Run it in the writer's next transaction; resolved once that is on disk.

        An operation may run twice, when another one spoils the transaction they share: it must do nothing but database
        work. The future raises what the operation raised, or ``StorageError`` and its kin.
        """
        return self._writing.put(operation)

    def read(self, operation: Callable[[Transaction], R]) -> Future[R]:
        """Run it on a read connection: it sees every write that was resolved before this call."""
        return self._reading.put(operation)

    def listen(self, callback: Callable[[Mapping[str, Any]], None]) -> None:
        """Call this with what each commit touched, news by topic, on the writer's thread: it must be quick."""
        self._listeners.append(callback)

    def close(self) -> None:
        """Finish what waits, fold the WAL into the file and let the directory go."""
        self._reading.close()
        self._writing.close()
        self._resources.close()  # the last connection to close folds and removes the WAL

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _serve(self, connection: sa.Connection, tasks: list[Task[Transaction]]) -> None:
        """Run a group in one transaction and resolve it; when one operation spoils it, each gets its own."""
        try:
            with connection.begin():
                transaction = Transaction(connection, self.clock())
                reached(Point.ROWS_BEGUN)
                outcomes = [_attempt(task, transaction) for task in tasks]
                reached(Point.ROWS_WRITTEN)
        except Exception as cause:  # noqa: BLE001 (whatever it is, it belongs to the callers)
            error = _ours(cause)
            if len(tasks) == 1 or isinstance(error, errors.StorageError | errors.DatabaseBusy):
                for task in tasks:
                    task.future.set_exception(error)
            else:
                for task in tasks:
                    self._serve(connection, [task])
            return
        reached(Point.ROWS_COMMITTED)
        for task, (result, refusal) in zip(tasks, outcomes, strict=True):
            if refusal is None:
                task.future.set_result(result)
            else:
                task.future.set_exception(refusal)
        reached(Point.ROWS_TOLD)
        if transaction.news:
            self._announce(transaction.news)

    def _announce(self, topics: Mapping[str, Any]) -> None:
        for listener in self._listeners:
            try:
                listener(topics)
            except Exception:
                log.exception("a listener of the queue failed")


def _attempt(task: Task[Transaction], transaction: Transaction) -> tuple[Any, errors.Refused | None]:
    try:
        return task.operation(transaction), None
    except errors.Refused as refusal:
        return None, refusal


def _engine(path: Path, begin: str, *pragmas: str) -> sa.Engine:
    """An engine that leaves BEGIN to us, as SQLAlchemy documents for sqlite3: the module's own comes too late."""
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), poolclass=sa.NullPool)

    @sa.event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {int(BUSY_SECONDS * 1000)}",
            "journal_mode = WAL",
            "synchronous = FULL",
            # The WAL is folded into the file every 1000 pages (4 MB) and written over from its start, which costs no
            # new blocks; after a burst, a longer one is cut back to this.
            f"journal_size_limit = {16 << 20}",
            "temp_store = MEMORY",  # a pod's root filesystem is read-only
            *pragmas,
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        # Past SQLAlchemy, whose way of executing costs more than this statement does.
        driver = cast(sqlite3.Connection, connection.connection.driver_connection)
        driver.execute(begin)

    return engine


def _migrate(connection: sa.Connection, path: Path) -> None:
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > tables.VERSION:
        raise errors.NewerSchema(path, found, tables.VERSION)
    if found == 0:
        tables.create(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {tables.VERSION}")


def _ours(cause: Exception) -> Exception:
    """The error in this package's words; anything that is not the database's is left as it is."""
    orig = cause.orig if isinstance(cause, sa.exc.DBAPIError) else cause
    if not isinstance(orig, sqlite3.Error):
        return cause
    error: errors.QueueError
    code = getattr(orig, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest its detail
    if code in _DISK:
        error = errors.StorageError(f"the disk refused: {orig}")
    elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        error = errors.DatabaseBusy(f"the database stayed locked: {orig}")
    elif isinstance(orig, sqlite3.IntegrityError):
        error = errors.Conflict(f"the tables refused it: {orig}")
    else:
        error = errors.QueueError(f"the database refused it: {orig}")
    error.__cause__ = cause
    return error
