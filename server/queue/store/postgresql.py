"""The queue in PostgreSQL: for any number of servers, one of which leads at a time."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

import psycopg
import sqlalchemy as sa

from server.queue.facts import errors
from server.queue.facts.news import News
from server.queue.facts.states import Clock, Ids
from server.queue.store.database import READERS, Database, since_boot
from server.queue.store.leadership import Leadership
from server.queue.store.migrations import VERSION, bring_up, shared_key
from server.queue.store.notices import Notices
from server.queue.store.sessions import LOCK, engine
from server.queue.store.statements import Cursor, Statements
from server.redaction import redacted, shown

log = logging.getLogger(__name__)

DRIVER = "postgresql+psycopg"
MIGRATING = 1  # the lock of whoever makes the tables
CLOCK_SECONDS = 60.0
SLOTS = 64  # of the tables of counts; the triggers compute the same
# What libpq says, without a code, when no server that it may connect to takes writes (``target_session_attrs``).
_STANDBY = re.compile("session is read-only|server is in hot standby mode")


class PostgreSQL(Database):
    """A database that other servers may have open too: at most six connections from each."""

    @classmethod
    def open(cls, url: str, clock: Clock | None = None) -> PostgreSQL:
        """Connect by ``postgresql://...`` and make, or bring up, the tables in the connection's schema.

        ``clock`` stands in for the database's. Raises ``DatabaseAway``, ``NewerSchema`` or ``CannotOpen``, whose texts
        are for an operator and show no secret of the URL, wherever it stands.
        """
        try:
            parsed = sa.make_url(url).set(drivername=DRIVER)
            writers = engine(parsed, 1)
        except (sa.exc.ArgumentError, ValueError):
            # Without its cause, which may quote the URL.
            raise errors.CannotOpen("the database URL must look like postgresql://USER:PASSWORD@HOST/NAME") from None
        where = shown(url)
        with contextlib.ExitStack() as resources:
            resources.callback(writers.dispose)
            # So that all statements of a read see one state, as they do in SQLite.
            readers = engine(parsed, READERS, isolation_level="REPEATABLE READ")
            resources.callback(readers.dispose)
            follow = _FollowedClock()
            try:
                with writers.begin() as connection:
                    _migrate(connection, where)
                    ids = Ids(shared_key(connection))  # under the lock that ``_migrate`` took
                    follow.read(connection)
                    if connection.exec_driver_sql("SHOW fsync").scalar_one() == "off":
                        log.warning("%s runs with fsync off: it may lose what it has taken", where)
            except sa.exc.DBAPIError as error:
                away = isinstance(_translated(error.orig), errors.ConnectionLost)
                refusal = errors.DatabaseAway if away else errors.CannotOpen
                raise refusal(f"{where} cannot be used: {redacted(str(error.orig).strip(), url)}") from None
            listening = engine(parsed, 2, isolation_level="AUTOCOMMIT")
            resources.callback(listening.dispose)
            return cls(writers, readers, listening, follow if clock is None else clock, ids, resources.pop_all())

    def __init__(
        self,
        writers: sa.Engine,
        readers: sa.Engine,
        others: sa.Engine,
        clock: Clock,
        ids: Ids,
        resources: contextlib.ExitStack,
    ) -> None:
        """Use ``PostgreSQL.open``."""
        self._replace = readers.dispose
        self._notices = Notices(others, lambda news: self._announce(news, self._listeners))
        self._leadership = resources.enter_context(contextlib.closing(Leadership(writers.url)))
        resources.callback(self._notices.close)
        write = functools.partial(_begin, writers, clock if isinstance(clock, _FollowedClock) else None)
        read = functools.partial(_begin, readers, None)
        super().__init__(write, read, Statements(writers.dialect), clock, ids, resources)
        self._notices.start()

    def leads(self) -> bool:
        """Whether this process holds the leader's lock, or could just take it."""
        return self._leadership.held()

    def _passes(self, error: Exception) -> bool:
        # Another server may have been in the way. For instance, both inserted the same idempotency key: the second try
        # finds the other's row.
        return isinstance(error, errors.Collided | errors.Conflict | errors.Lost)

    def _ours(self, cause: Exception) -> Exception:
        if not isinstance(cause, sa.exc.DBAPIError | psycopg.Error):
            return cause
        error = _translated(_driver_error(cause))
        if isinstance(error, errors.ReadOnly):
            self._replace()  # the server was demoted: what other sessions read there may be out of date
        error.__cause__ = cause
        return error

    def _slot(self, cursor: Cursor) -> int:
        return cast(psycopg.Cursor[Any], cursor).connection.info.backend_pid % SLOTS

    def _tell_others(self, news: Sequence[News]) -> None:
        self._notices.send(news)


class _FollowedClock:
    """The database's clock: read now and then, and in between followed by this machine's steady one."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._read_at = 0.0

    def __call__(self) -> float:
        return self._ahead + since_boot()

    def read(self, connection: sa.Connection) -> None:
        """Set it anew, unless that was done a short while ago."""
        before = since_boot()
        if self._read_at and before - self._read_at < CLOCK_SECONDS:
            return
        there = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar_one()
        self._read_at = since_boot()
        self._ahead = there - (before + self._read_at) / 2  # it was read about half-way between question and answer


@contextlib.contextmanager
def _begin(engine: sa.Engine, clock: _FollowedClock | None) -> Iterator[psycopg.Cursor[Any]]:
    with engine.begin() as connection:
        try:
            if clock is not None:
                clock.read(connection)
            driver = cast(psycopg.Connection[Any], connection.connection.driver_connection)
            with driver.cursor() as cursor:
                yield cursor
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            refusal = _translated(_driver_error(error))
            if isinstance(refusal, errors.ConnectionLost):
                engine.dispose()  # what else is in the pool was lost with it
            if isinstance(refusal, errors.StorageError):
                connection.invalidate(error)  # the database may have become a standby: a new one finds the primary
            raise


def _migrate(connection: sa.Connection, where: str) -> None:
    # Servers that start together would otherwise all make the tables.
    connection.exec_driver_sql(LOCK.format("pg_advisory_xact_lock", MIGRATING))
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)")
    found = connection.exec_driver_sql("SELECT version FROM schema_version").scalar() or 0
    if bring_up(connection, found, where):
        connection.exec_driver_sql("DELETE FROM schema_version")
        connection.exec_driver_sql("INSERT INTO schema_version VALUES (%s)", (VERSION,))


def _driver_error(error: Exception) -> BaseException | None:
    return error.orig if isinstance(error, sa.exc.DBAPIError) else error


def _translated(orig: BaseException | None) -> errors.QueueError:
    """By SQLSTATE (PostgreSQL's manual, appendix A); a broken connection has none."""
    code = getattr(orig, "sqlstate", None) or ""
    said = redacted(str(orig).strip().partition("\n")[0]) if orig else ""
    if code in ("40001", "40P01"):
        return errors.Collided(f"another server got in the way: {said}")
    if code.startswith("23"):
        return errors.Conflict(f"the tables refused it: {said}")
    if code == "53100":
        return errors.DiskFull(f"the database's disk refused: {said}")
    if code == "25006" or (not code and _STANDBY.search(str(orig))):
        return errors.ReadOnly(f"the database can only be read: {said}")
    broken = not code and isinstance(orig, psycopg.OperationalError | psycopg.InterfaceError)
    # 08 connection, 57P shutdown; 53 resources, 55P03 lock, 57014 time-out, 58 system
    if broken or code[:2] == "08" or code[:3] == "57P":
        return errors.ConnectionLost(f"the database is away: {said}")
    if code == "55P03" or code[:2] in ("53", "57", "58", "XX"):
        return errors.StorageError(f"the database cannot: {said}")
    return errors.QueueError(f"the database refused it: {said}")
