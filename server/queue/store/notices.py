"""News between the servers on one PostgreSQL: told after each commit, heard on a thread of its own.

A NOTIFY inside a transaction would make the commits of all servers wait for each other. Whoever waits for news looks
again by itself from time to time, so that a notice that is lost only costs a moment. A notice is a JSON list: its
sender, then each news as a list of its kind and its fields.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa

from server.queue.facts.news import (
    Anything,
    AttemptLost,
    Available,
    Began,
    Ended,
    JobRecalled,
    KeysChanged,
    Listener,
    ModelsChanged,
    Moved,
    News,
)
from server.queue.facts.states import Status
from server.queue.store.sessions import CHANNEL, CONNECT_SECONDS

log = logging.getLogger(__name__)

NOTICE_BYTES = 7000  # PostgreSQL takes less than 8000 in one notification
LISTEN_SECONDS = 1.0  # how long ``close`` may have to wait for a listener that cannot be woken
RETRY_SECONDS = 1.0
_STATUSES = frozenset(Status)
WARN_SECONDS = 60.0  # any role may send any number of foreign notices, which must not fill the log


class Notices:
    """``engine`` gives connections that commit each statement; ``heard`` is called with the news of other servers."""

    def __init__(self, engine: sa.Engine, heard: Listener) -> None:
        self._engine, self._heard = engine, heard
        self._sender, self._channel = secrets.token_hex(8), ""
        self._stopping, self._hearing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hear, name="listener", daemon=True)
        self._warned_at = -math.inf

    def start(self) -> None:
        """Begin to listen; return once the news of others can be heard, or after a few seconds without a connection."""
        self._thread.start()
        self._hearing.wait(CONNECT_SECONDS)

    def send(self, news: Sequence[News]) -> None:
        """Tell the other servers. ``Began``, ``AttemptLost`` and ``Ended`` stay here.

        An end is large, and the ``Moved`` beside it says where to look.
        """
        try:
            with self._engine.connect() as connection:
                if not self._channel:
                    self._channel = connection.exec_driver_sql(CHANNEL).scalar_one()
                for payload in _payloads(self._sender, news):
                    connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (self._channel, payload))
        except sa.exc.DBAPIError as error:
            log.warning("other servers were not told: %s", _first_line(error.orig))

    def close(self) -> None:
        """Stop listening, and let the connections go."""
        self._stopping.set()
        self.send([])  # wakes the listener
        self._thread.join()
        self._engine.dispose()

    def _hear(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._engine.connect() as connection:
                    self._hear_on(connection)
            # Any role of the database may notify on this channel. The driver fails, for one, at bytes that are no text.
            except Exception as error:  # noqa: BLE001 (an end of this thread would go unnoticed)
                if not self._stopping.is_set():
                    log.warning("not hearing from other servers, trying again: %s", _first_line(error))
                    self._stopping.wait(RETRY_SECONDS)

    def _hear_on(self, connection: sa.Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        try:
            channel = connection.exec_driver_sql(CHANNEL).scalar_one()
            driver.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
            if self._hearing.is_set():
                self._heard([Anything()])  # news was missed while there was no connection
            self._hearing.set()
            while not self._stopping.is_set():
                for notice in driver.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                    if news := self._others(notice.payload):
                        self._heard(news)
        finally:
            connection.invalidate()  # back in the pool, it would go on listening and gather what nobody reads

    def _others(self, payload: str) -> list[News]:
        """The news in a notice of another server; none in a notice that no server wrote.

        Such a notice must not wake everybody: whoever can send one can send thousands. Nothing is lost by it, since all
        who wait look again by themselves.
        """
        try:
            told, *news = json.loads(payload)
            if isinstance(told, str) and all(isinstance(one, list) for one in news):
                return [] if told == self._sender else [_decoded(one) for one in news]
        except (ValueError, TypeError, RecursionError):
            pass
        if time.monotonic() - self._warned_at > WARN_SECONDS:
            self._warned_at = time.monotonic()
            log.warning("a notice on the channel of the servers is not theirs: %.80r", payload)
        return []


def _payloads(sender: str, news: Sequence[News]) -> Iterator[str]:
    """Notices that PostgreSQL takes; one without news when there is none."""
    page, size = [json.dumps(sender)], 0
    for one in news:
        if isinstance(one, Ended | Began | AttemptLost):
            continue
        text = json.dumps(_encoded(one), separators=(",", ":"))
        if size + len(text) > NOTICE_BYTES:
            yield f"[{','.join(page)}]"
            page, size = page[:1], 0
        page.append(text)
        size += len(text) + 1
    if len(page) > 1 or not news:
        yield f"[{','.join(page)}]"


def _encoded(news: Available | Moved | JobRecalled | KeysChanged | ModelsChanged | Anything) -> list[str]:
    match news:
        case Available(tier):
            return ["available", tier]
        case Moved(id=key, tier=tier, status=status):
            return ["moved", key, tier, status.value]
        case JobRecalled(job, tier, reason):
            return ["recalled", job, tier, reason]
        case KeysChanged():
            return ["keys"]
        case ModelsChanged():
            return ["models"]
    return ["anything"]


def _decoded(fields: Any) -> News:
    match fields:
        case ["available", str(tier)]:
            return Available(tier)
        case ["moved", str(key), str(tier), str(status)] if status in _STATUSES:
            return Moved(key, tier, Status(status))
        case ["recalled", str(job), str(tier), str(reason)]:
            return JobRecalled(job, tier, reason)
        case ["keys"]:
            return KeysChanged()
        case ["models"]:
            return ModelsChanged()
    return Anything()  # a server of a newer version may send news of another kind


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0]
