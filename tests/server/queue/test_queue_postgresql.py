"""The queue when its PostgreSQL goes away, fails, refuses, or has no connection left."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from server import points
from server.points import Point
from server.queue import (
    Anything,
    Available,
    CannotOpen,
    NewerSchema,
    News,
    OutcomeUnknown,
    Queue,
    ReadOnly,
    Status,
    StorageError,
)
from server.queue.store.migrations import VERSION
from server.queue.store.notices import Notices
from server.queue.store.postgresql import DRIVER, PostgreSQL
from server.queue.store.sessions import engine
from tests.postgres import Postgres, need_postgres
from tests.server.given import submission
from tests.server.queue.queue_world import MANY, PostgresWorld, flat
from tests.waiting import eventually


@pytest.fixture(scope="module")
def fragile() -> Iterator[Postgres]:
    """A server that tests may stop and break, if they repair it afterwards."""
    need_postgres()
    with Postgres(max_connections="20") as server:
        yield server


@pytest.fixture
def database(fragile: Postgres) -> Iterator[PostgreSQL]:
    with fragile.schema("spoiled") as url, closing(PostgreSQL.open(url)) as database:
        yield database


def test_a_server_that_lost_its_session_leads_no_more(fragile: Postgres, database: PostgreSQL) -> None:
    with closing(PostgreSQL.open(str(url_of(fragile)))) as other:
        assert database.leads()
        with fragile.connect() as connection:
            held = connection.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory'").fetchone()
            assert held is not None
            connection.execute("SELECT pg_terminate_backend(%s)", held)
        eventually(other.leads, 20, "the other one leads")
        assert not database.leads()


def test_a_database_that_goes_and_comes_back(fragile: Postgres, database: PostgreSQL) -> None:
    queue, heard = Queue(database), list[Sequence[News]]()
    queue.listen(heard.append)
    before = queue.submit(submission(database.clock), MANY).result().prediction
    assert database.leads()
    fragile.stop()
    with pytest.raises(StorageError, match="away"):
        queue.submit(submission(database.clock), MANY).result()
    with pytest.raises(StorageError):
        queue.get(before.id).result()
    assert not database.leads()
    fragile.start()
    found = queue.get(before.id).result()
    assert found is not None
    queue.submit(submission(database.clock), MANY).result()
    assert queue.depths().result()["free"].queued == 2
    assert database.leads()
    eventually(lambda: flat(heard), 20, "that anything may have happened is heard", lambda news: Anything() in news)


class Stumbling(Notices):
    """Fails at one notice as the driver does when the bytes of a notice are no text."""

    def _others(self, payload: str) -> list[News]:
        if payload == "no text":
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return super()._others(payload)


def test_a_notice_that_cannot_be_read_ends_no_listener(fragile: Postgres) -> None:
    heard: list[Sequence[News]] = []
    with fragile.schema("spoiled") as url, fragile.connect() as stranger:
        sessions = engine(sa.make_url(url).set(drivername=DRIVER), 2, isolation_level="AUTOCOMMIT")
        with closing(Stumbling(sessions, heard.append)) as notices:
            notices.start()
            stranger.execute("SELECT pg_notify('tierserve_spoiled', 'no text')")
            eventually(lambda: flat(heard), 20, "it listens anew", lambda news: Anything() in news)
            stranger.execute("""SELECT pg_notify('tierserve_spoiled', '["x", ["available", "free"]]')""")
            eventually(lambda: flat(heard), 20, "it hears the next one", lambda news: Available("free") in news)


def test_what_was_acknowledged_survives_a_crash_of_the_database(fragile: Postgres, database: PostgreSQL) -> None:
    queue = Queue(database)
    futures = [queue.submit(submission(database.clock), MANY) for _ in range(300)]
    futures[100].result()
    fragile.kill()
    kept = {future.result().prediction.id for future in futures if future.exception() is None}
    fragile.start()
    assert len(kept) > 100
    assert queue.alive(kept).result() == kept


def test_a_connection_lost_in_the_commit_leaves_its_outcome_open(fragile: Postgres, database: PostgreSQL) -> None:
    queue = Queue(database)
    queue.submit(submission(database.clock), MANY).result()

    def cut(point: Point) -> None:
        if point is Point.ROWS_WRITTEN and threading.current_thread().name.startswith("writer"):
            points.watch(lambda _: None)
            with fragile.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'tierserve' AND state LIKE 'idle in transaction%'"
                )

    points.watch(cut)
    try:
        with pytest.raises(OutcomeUnknown):
            queue.submit(submission(database.clock), MANY).result()
    finally:
        points.watch(lambda _: None)
    queue.submit(submission(database.clock), MANY).result()


def test_a_database_that_became_read_only_refuses_and_recovers(fragile: Postgres, database: PostgreSQL) -> None:
    queue = Queue(database)

    def read_only(value: str) -> None:
        with fragile.connect() as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            connection.execute("SELECT pg_reload_conf()")
            wanted = "SELECT setting FROM pg_file_settings WHERE name = 'default_transaction_read_only' AND applied"
            eventually(lambda: connection.execute(wanted).fetchone(), 20, f"it is {value}", lambda row: row == (value,))

    def error() -> BaseException | None:
        return queue.submit(submission(database.clock), MANY).exception()

    read_only("on")
    eventually(error, 20, "it refuses", lambda found: isinstance(found, ReadOnly))
    for _ in range(3):  # with the old session, and with new ones
        assert isinstance(error(), ReadOnly)
        assert isinstance(queue.try_out().exception(), ReadOnly)
    assert queue.take_doubt()
    assert not queue.take_doubt()
    read_only("off")
    eventually(error, 20, "it takes predictions again", lambda found: not isinstance(found, StorageError))
    queue.try_out().result()
    assert queue.views().result() == {}, "trying it out leaves no trace"


def test_connections_are_bounded(fragile: Postgres, database: PostgreSQL) -> None:
    queue = Queue(database)
    for future in [queue.submit(submission(database.clock), MANY) for _ in range(200)]:
        future.result()
    for asked in [queue.depths() for _ in range(200)]:
        asked.result()
    database.leads()
    with fragile.connect() as connection:
        found = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tierserve'")
        assert found.fetchone() == (6,)


def test_a_server_without_a_free_connection_is_told(fragile: Postgres, database: PostgreSQL) -> None:
    with ExitStack() as taken:
        for _ in range(20):
            try:
                taken.enter_context(fragile.connect())
            except Exception:  # noqa: BLE001 (any error means that all connections are taken)
                break
        with pytest.raises(CannotOpen, match="connection"):
            PostgreSQL.open(str(url_of(fragile)))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda url: url.replace("not-a-secret", "hunter2"), "password authentication failed"),
        (lambda url: url.replace("127.0.0.1", "127.0.0.1:1/x?y=").replace(":1/x?y=:", ":1/x?a="), "cannot be used"),
        (lambda url: "not a url", "must look like"),
    ],
)
def test_what_cannot_be_opened_says_why_and_tells_no_secret(fragile: Postgres, spoil: Any, said: str) -> None:
    with pytest.raises(CannotOpen, match=said) as refusal:
        PostgreSQL.open(spoil(fragile.url))
    assert "hunter2" not in str(refusal.value)
    assert "not-a-secret" not in str(refusal.value)


def test_servers_that_start_at_once_make_the_tables_once(fragile: Postgres) -> None:
    with fragile.schema("fresh") as url, ThreadPoolExecutor(3) as threads:
        for database in threads.map(lambda _: PostgreSQL.open(url), range(3)):
            database.close()


def test_data_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with PostgresWorld(tmp_path) as world:
        one = world.submit()
        world.stop()
        engine = sa.create_engine(sa.make_url(world.url).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE schema_version SET version = 99")
        with pytest.raises(NewerSchema, match="99"):
            world.open()
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE schema_version SET version = {VERSION}")
        engine.dispose()
        world.start()
        assert world.status(one) is Status.QUEUED


def url_of(server: Postgres) -> str:
    return f"{server.url}?options=-csearch_path%3Dspoiled"
