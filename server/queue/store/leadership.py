"""Which of several servers on one PostgreSQL leads: the one whose session holds a lock."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from server.queue.store.sessions import LOCK, engine

log = logging.getLogger(__name__)

LEADING = 2  # the number of the leader's lock


class Leadership:
    """A session of its own that holds a lock for as long as it lives: PostgreSQL frees the lock of a lost one."""

    def __init__(self, url: sa.URL) -> None:
        # AUTOCOMMIT: PostgreSQL would end a session whose transaction is idle for 30 s (``sessions``).
        self._engine = engine(url, 1, isolation_level="AUTOCOMMIT")
        self._session: sa.Connection | None = None

    def held(self) -> bool:
        """Whether the lock is ours, or could just be taken."""
        try:
            if self._session is not None:
                # A session that still answers still holds its lock. But on a server that was demoted, the lock says
                # nothing about who leads on the new primary.
                if not self._session.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one():
                    return True
                self.close()
            session = self._engine.connect()
            if session.exec_driver_sql(LOCK.format("pg_try_advisory_lock", LEADING)).scalar_one():
                self._session = session
                return True
            session.close()
        except sa.exc.DBAPIError as error:
            log.warning("not leading, the database is away: %s", str(error.orig).splitlines()[0])
            self.close()
        return False

    def close(self) -> None:
        """Let the lock go."""
        if self._session is not None:
            self._session.invalidate()  # back in the pool, it would go on holding the lock
            self._session = None
        self._engine.dispose()
