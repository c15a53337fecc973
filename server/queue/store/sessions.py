"""Sessions of PostgreSQL: how they are made, and the names of the channel and the locks that servers share."""

from __future__ import annotations

from typing import Any

import psycopg
import sqlalchemy as sa

CONNECT_SECONDS = 5

# A server or a network that is gone is noticed within some 11 s, on both sides: the lock of a lost leader is free.
_CLIENT = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 11_000,
    "target_session_attrs": "read-write",
    "application_name": "tierserve",
}
# With synchronous_commit off, a client would be told that its prediction is kept before it is on disk. All other values
# wait for the disk.
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
# The schema is part of the names, so that several installations can share a database.
CHANNEL = "SELECT 'tierserve_' || current_schema()"
LOCK = "SELECT {}(hashtext('tierserve ' || current_schema()), {})"


def engine(url: sa.URL, connections: int, **options: Any) -> sa.Engine:
    """A pool of so many connections; parameters in the URL go before ours."""
    made = sa.create_engine(
        url,
        connect_args={key: value for key, value in _CLIENT.items() if key not in url.query},
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        paramstyle="format",  # by position, as in SQLite: what ``Statements`` fills in
        **options,
    )

    @sa.event.listens_for(made, "connect")
    def connect(connection: psycopg.Connection[Any], _record: object) -> None:
        # Outside a transaction: a rollback would undo a SET.
        before, connection.autocommit = connection.autocommit, True
        connection.execute(_SESSION)
        connection.autocommit = before

    return made
