"""Sessions of PostgreSQL: how they are made, and those that outlive transactions: who leads, who is told."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import psycopg
import sqlalchemy as sa

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5
DISPATCHING = 2  # the lock of the one that dispatches
NOTICE_BYTES = 7000  # PostgreSQL takes less than 8000 in one notification

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
CHANNEL = "SELECT 'tierserve_' || current_schema()"
LOCK = "SELECT {}(hashtext('tierserve ' || current_schema()), {})"


class Leadership:
    """A session of its own that holds a lock for as long as it lives: PostgreSQL frees the lock of a lost one."""

    def __init__(self, url: sa.URL) -> None:
        self._engine = engine(url, 1, isolation_level="AUTOCOMMIT")
        self._session: sa.Connection | None = None

    def held(self) -> bool:
        """Whether the lock is ours, or could just be taken."""
        try:
            if self._session is not None:
                self._session.exec_driver_sql("SELECT 1")
                return True
            session = self._engine.connect()
            if session.exec_driver_sql(LOCK.format("pg_try_advisory_lock", DISPATCHING)).scalar_one():
                self._session = session
                return True
            session.close()
        except sa.exc.DBAPIError as error:
            log.warning("not dispatching, the database is away: %s", str(error.orig).splitlines()[0])
            self.close()
        return False

    def close(self) -> None:
        """Let the lock go."""
        if self._session is not None:
            self._session.invalidate()  # back in the pool, it would go on holding the lock
            self._session = None
        self._engine.dispose()


class Notices:
    """Tells other servers which topics a commit touched, after the commit.

    A NOTIFY inside a transaction would make all servers' commits wait for each other. One that is lost costs its
    hearers a moment: they look again by themselves.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._channel = ""

    def send(self, sender: str, topics: list[str]) -> None:
        """Tell them; ``sender`` is whom not to answer."""
        try:
            with self._engine.connect() as connection:
                if not self._channel:
                    self._channel = connection.exec_driver_sql(CHANNEL).scalar_one()
                for payload in _payloads(sender, topics):
                    connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (self._channel, payload))
        except sa.exc.DBAPIError as error:
            log.warning("other servers were not told: %s", str(error.orig).splitlines()[0])

    def close(self) -> None:
        """Let the connections go."""
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


def engine(url: sa.URL, connections: int, **options: Any) -> sa.Engine:
    """A pool of so many connections; parameters in the URL go before ours."""
    made = sa.create_engine(
        url,
        connect_args={key: value for key, value in _CLIENT.items() if key not in url.query},
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        **options,
    )

    @sa.event.listens_for(made, "connect")
    def connect(connection: psycopg.Connection[Any], _record: object) -> None:
        before, connection.autocommit = connection.autocommit, True
        connection.execute(_SESSION)
        connection.autocommit = before

    return made
