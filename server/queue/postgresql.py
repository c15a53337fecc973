"""The queue in PostgreSQL: for any number of servers, one of which dispatches at a time."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import sqlalchemy as sa

from server.queue import errors, tables
from server.queue.database import ANYTHING, READERS, Database
from server.queue.states import Clock

log = logging.getLogger(__name__)

DRIVER = "postgresql+psycopg"
CONNECT_SECONDS = 5
CLOCK_SECONDS = 60.0
RETRY_SECONDS = 1.0
NOTICE_BYTES = 7000  # PostgreSQL takes less than 8000 in one notification
LISTEN_SECONDS = 1.0  # how long closing may have to wait for a listener that cannot be woken
GOODBYE = "bye"

# A server or a network that is gone is noticed within some 11 s, on both sides: the lock of a lost dispatcher is free.
_CLIENT = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 11_000,
    "target_session_attrs": "read-write",
    "application_name": "tierserve",
}
_SESSION = """
    SET statement_timeout = '10s';
    SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '30s';
    SET tcp_keepalives_idle = 5;
    SET tcp_keepalives_interval = 2;
    SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = '11s';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
"""
# By the schema, so that several installations can share a database.
_CHANNEL = "SELECT 'tierserve_' || current_schema()"
_LOCK = "SELECT {}(hashtext('tierserve ' || current_schema()), {})"
_MIGRATING, _DISPATCHING = 1, 2


class PostgreSQL(Database):
    """A database that other servers may have open too: at most six connections from each."""

    @classmethod
    def open(cls, url: str, clock: Clock | None = None) -> PostgreSQL:
        """Connect by ``postgresql://...`` and make, or bring up, the tables in the connection's schema.

        ``clock`` stands in for the database's. Raises ``NewerSchema`` or ``CannotOpen``, whose texts are for an
        operator and never show the password.
        """
        try:
            parsed = sa.make_url(url).set(drivername=DRIVER)
        except sa.exc.ArgumentError as error:
            raise errors.CannotOpen("the database URL must look like postgresql://USER:PASSWORD@HOST/NAME") from error
        where = parsed.render_as_string(hide_password=True).replace(DRIVER, "postgresql")
        with contextlib.ExitStack() as resources:
            writers = _engine(parsed, 1)
            resources.callback(writers.dispose)
            readers = _engine(parsed, READERS, isolation_level="REPEATABLE READ")
            resources.callback(readers.dispose)
            follow = _FollowedClock()
            try:
                with writers.begin() as connection:
                    _migrate(connection, where)
                    follow.read(connection)
                    if connection.exec_driver_sql("SHOW fsync").scalar_one() == "off":
                        log.warning("%s runs with fsync off: it may lose what it has taken", where)
            except sa.exc.DBAPIError as error:
                raise errors.CannotOpen(f"{where} cannot be used: {str(error.orig).strip()}") from error
            listening = _engine(parsed, 2, isolation_level="AUTOCOMMIT")
            resources.callback(listening.dispose)
            return cls(writers, readers, listening, follow if clock is None else clock, resources.pop_all())

    def __init__(
        self,
        writers: sa.Engine,
        readers: sa.Engine,
        others: sa.Engine,
        clock: Clock,
        resources: contextlib.ExitStack,
    ) -> None:
        """Use ``PostgreSQL.open``."""
        self._name = secrets.token_hex(8)
        self._others = others
        self._notices = resources.enter_context(contextlib.closing(_Notices(others)))
        self._leadership = resources.enter_context(contextlib.closing(_Leadership(writers.url)))
        self._stopping, self._hearing = threading.Event(), threading.Event()
        self._listener = threading.Thread(target=self._hear_others, name="listener", daemon=True)
        resources.callback(self._listener.join)
        resources.callback(self._notices.send, self._name, [GOODBYE])  # wakes the listener
        resources.callback(self._stopping.set)
        write = functools.partial(_begin, writers, clock if isinstance(clock, _FollowedClock) else None)
        super().__init__(write, functools.partial(_begin, readers, None), clock, resources)
        self._listener.start()
        self._hearing.wait(CONNECT_SECONDS)

    def leads(self) -> bool:
        """Whether this process holds the one lock of dispatchers, or could just take it."""
        return self._leadership.held()

    def _passes(self, error: Exception) -> bool:
        return isinstance(error, errors.Collided | errors.Conflict | errors.Lost)

    def _ours(self, cause: Exception) -> Exception:
        if not isinstance(cause, sa.exc.DBAPIError):
            return cause
        error = _translated(cause.orig)
        error.__cause__ = cause
        return error

    def _tell_others(self, topics: Mapping[str, Any]) -> None:
        told = [topic for topic in topics if not topic.startswith("prediction:")]
        self._notices.send(self._name, told)

    def _hear_others(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._others.connect() as connection:
                    driver = connection.connection.driver_connection
                    assert isinstance(driver, psycopg.Connection)
                    channel = connection.exec_driver_sql(_CHANNEL).scalar_one()
                    driver.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
                    if self._hearing.is_set():
                        self._announce({ANYTHING: None})  # what was told while nobody listened
                    self._hearing.set()
                    while not self._stopping.is_set():
                        for notice in driver.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                            self._heard(notice.payload)
            except (psycopg.Error, sa.exc.DBAPIError) as error:
                if not self._stopping.is_set():
                    log.warning("not hearing from other servers, trying again: %s", str(error).splitlines()[0])
                    self._stopping.wait(RETRY_SECONDS)

    def _heard(self, payload: str) -> None:
        sender, *topics = json.loads(payload)
        if sender != self._name:
            self._announce(dict.fromkeys(topics))


class _FollowedClock:
    """The database's clock: read now and then, and in between followed by this machine's monotonic one."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._read_at = 0.0

    def __call__(self) -> float:
        return self._ahead + time.monotonic()

    def read(self, connection: sa.Connection) -> None:
        """Set it anew, unless that was done a short while ago."""
        before = time.monotonic()
        if self._read_at and before - self._read_at < CLOCK_SECONDS:
            return
        there = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar_one()
        self._read_at = time.monotonic()
        self._ahead = there - (before + self._read_at) / 2


class _Leadership:
    """A session of its own that holds a lock for as long as it lives: PostgreSQL frees the lock of a lost one."""

    def __init__(self, url: sa.URL) -> None:
        self._engine = _engine(url, 1, isolation_level="AUTOCOMMIT")
        self._session: sa.Connection | None = None

    def held(self) -> bool:
        try:
            if self._session is not None:
                self._session.exec_driver_sql("SELECT 1")
                return True
            session = self._engine.connect()
            if session.exec_driver_sql(_LOCK.format("pg_try_advisory_lock", _DISPATCHING)).scalar_one():
                self._session = session
                return True
            session.close()
        except sa.exc.DBAPIError as error:
            log.warning("not dispatching, the database is away: %s", str(error.orig).splitlines()[0])
            self.close()
        return False

    def close(self) -> None:
        if self._session is not None:
            self._session.invalidate()  # back in the pool, it would go on holding the lock
            self._session = None
        self._engine.dispose()


class _Notices:
    """Tells other servers which topics a commit touched, after the commit.

    A NOTIFY inside a transaction would make all servers' commits wait for each other. One that is lost costs its
    hearers a moment: they look again by themselves.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._channel = ""

    def send(self, sender: str, topics: list[str]) -> None:
        try:
            with self._engine.connect() as connection:
                if not self._channel:
                    self._channel = connection.exec_driver_sql(_CHANNEL).scalar_one()
                for payload in _payloads(sender, topics):
                    connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (self._channel, payload))
        except sa.exc.DBAPIError as error:
            log.warning("other servers were not told: %s", str(error.orig).splitlines()[0])

    def close(self) -> None:
        self._engine.dispose()


def _payloads(sender: str, topics: list[str]) -> Iterator[str]:
    page: list[str] = []
    for topic in topics:
        if sum(map(len, page)) + 8 * len(page) + len(topic) > NOTICE_BYTES:
            yield json.dumps([sender, *page])
            page = []
        page.append(topic)
    if page:
        yield json.dumps([sender, *page])


@contextlib.contextmanager
def _begin(engine: sa.Engine, clock: _FollowedClock | None) -> Iterator[sa.Connection]:
    with engine.begin() as connection:
        try:
            if clock is not None:
                clock.read(connection)
            yield connection
        except sa.exc.DBAPIError as error:
            if isinstance(_translated(error.orig), errors.StorageError):
                connection.invalidate(error)  # such as one to a server that has become a standby
            raise


def _engine(url: sa.URL, connections: int, **options: Any) -> sa.Engine:
    engine = sa.create_engine(
        url,
        connect_args={key: value for key, value in _CLIENT.items() if key not in url.query},
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        **options,
    )

    @sa.event.listens_for(engine, "connect")
    def connect(connection: psycopg.Connection[Any], _record: object) -> None:
        before, connection.autocommit = connection.autocommit, True
        connection.execute(_SESSION)
        connection.autocommit = before

    return engine


def _migrate(connection: sa.Connection, where: str) -> None:
    connection.exec_driver_sql(_LOCK.format("pg_advisory_xact_lock", _MIGRATING))
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)")
    found = connection.exec_driver_sql("SELECT version FROM schema_version").scalar() or 0
    if found > tables.VERSION:
        raise errors.NewerSchema(where, found, tables.VERSION)
    if found < tables.VERSION:
        tables.bring_up(connection, found)
        connection.exec_driver_sql("DELETE FROM schema_version")
        connection.exec_driver_sql("INSERT INTO schema_version VALUES (%s)", (tables.VERSION,))


def _translated(orig: BaseException | None) -> errors.QueueError:
    """By SQLSTATE (PostgreSQL's manual, appendix A); a broken connection has none."""
    code = getattr(orig, "sqlstate", None) or ""
    said = str(orig).strip().splitlines()[0] if orig else ""
    if code in ("40001", "40P01"):
        return errors.Collided(f"another server got in the way: {said}")
    if code.startswith("23"):
        return errors.Conflict(f"the tables refused it: {said}")
    if code == "53100":
        return errors.DiskFull(f"the database's disk refused: {said}")
    # 08 connection, 57P shutdown; 25006 read-only, 53 resources, 55P03 lock, 57014 time-out, 58 system
    if not code or code[:2] == "08" or code[:3] == "57P":
        return errors.ConnectionLost(f"the database is away: {said}")
    if code in ("25006", "55P03") or code[:2] in ("53", "57", "58", "XX"):
        return errors.StorageError(f"the database cannot: {said}")
    return errors.QueueError(f"the database refused it: {said}")
