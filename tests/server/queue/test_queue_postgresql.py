"""PostgreSQL under the queue: several servers on one database, and a database that fails them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from server import points
from server.points import Point
from server.queue import (
    Anything,
    Available,
    CannotOpen,
    Completion,
    Moved,
    NewerSchema,
    News,
    OutcomeUnknown,
    Queue,
    Status,
    StorageError,
    Submission,
    new_id,
)
from server.queue.store.postgresql import PostgreSQL
from server.queue.store.tables import predictions
from server.queue.store.transactions import Transaction
from tests.postgres import Postgres, need_postgres
from tests.server.queue.queue_world import MANY, RESULTS, PostgresWorld, TwoServersWorld
from tests.waiting import eventually


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TwoServersWorld]:
    with TwoServersWorld(tmp_path) as world:
        yield world


@pytest.fixture(scope="module")
def fragile() -> Iterator[Postgres]:
    """A server that tests may stop and spoil, as long as they mend it."""
    need_postgres()
    with Postgres(max_connections="20") as server:
        yield server


@pytest.fixture
def database(fragile: Postgres) -> Iterator[PostgreSQL]:
    with fragile.schema("spoiled") as url, closing(PostgreSQL.open(url)) as database:
        yield database


def submission(database: PostgreSQL, **changes: Any) -> Submission:
    given = {"idempotency_key": None, "fingerprint": None} | changes
    return Submission(new_id(database.clock), "free", "lite0", 1, 1000, 5, 0, 600.0, owner="anna", **given)


def flat(told: Sequence[Sequence[News]]) -> list[News]:
    return [news for one in told for news in one]


def test_what_one_server_commits_is_heard_at_another(world: TwoServersWorld) -> None:
    heard: list[Sequence[News]] = []
    world.second.listen(heard.append)
    queue = Queue(world.database)
    one, _ = queue.submit(world.submission(), MANY).result()
    eventually(lambda: flat(heard), 20, "the commit is heard", [Available("free")].__eq__)
    queue.cancel(one.id).result()
    ended = [Available("free"), Moved(one.id, "free", Status.CANCELED)]
    eventually(lambda: flat(heard), 20, "its end is heard", ended.__eq__)


def test_a_server_hears_its_own_commits_once(world: TwoServersWorld) -> None:
    Queue(world.database).submit(world.submission(), MANY).result()
    heard: list[Sequence[News]] = []
    world.second.listen(heard.append)
    Queue(world.database).submit(world.submission(), MANY).result()
    eventually(lambda: heard, 20, "the commit is heard")
    assert world.heard() == [Available("free"), Available("free")]


def test_who_asks_for_its_own_commits_hears_no_others(world: TwoServersWorld) -> None:
    heard, own = list[Sequence[News]](), list[Sequence[News]]()
    world.second.listen(heard.append)
    world.second.listen(own.append, own=True)
    Queue(world.database).submit(world.submission(), MANY).result()
    eventually(lambda: heard, 20, "the other's commit is heard")
    assert own == []
    Queue(world.second).submit(world.submission(), MANY).result()
    eventually(lambda: own, 20, "its own commit is heard")


def test_much_news_is_told_in_several_notices(world: TwoServersWorld) -> None:
    heard: list[Sequence[News]] = []
    world.second.listen(heard.append)
    news = [Moved(f"{number:040}", "free", Status.EXPIRED) for number in range(1000)]

    def tell(tx: Transaction) -> None:
        for one in news:
            tx.tell(one)

    world.database.write(tell).result()
    eventually(lambda: flat(heard), 20, "all news is heard", news.__eq__)
    assert len(heard) > 1


@pytest.mark.parametrize(
    "payload", ["", "{", "7", "{}", '["x", ["moved", "a", "free", "lost"]]', '["x", ["newer"]]', "[" * 5000]
)
def test_a_notice_that_is_none_of_ours_may_stand_for_anything(world: TwoServersWorld, payload: str) -> None:
    heard: list[Sequence[News]] = []
    world.second.listen(heard.append)
    with psycopg.connect(world.url, autocommit=True) as connection:
        connection.execute("SELECT pg_notify('tierserve_' || current_schema(), %s)", (payload,))
    eventually(lambda: flat(heard), 20, "it is heard as anything", lambda news: Anything() in news)
    Queue(world.database).submit(world.submission(), MANY).result()
    eventually(lambda: flat(heard), 20, "the listener goes on", lambda news: Available("free") in news)


def test_one_server_leads_until_it_goes(world: TwoServersWorld) -> None:
    assert world.database.leads()
    assert not world.second.leads()
    assert world.database.leads()
    third = world.open()
    world.database.close()
    eventually(world.second.leads, 20, "the second one leads")  # PostgreSQL ends the session a moment after its client
    assert not third.leads()
    third.close()
    world.database = world.open()


def test_a_server_that_lost_its_session_leads_no_more(fragile: Postgres, database: PostgreSQL) -> None:
    with closing(PostgreSQL.open(str(url_of(fragile)))) as other:
        assert database.leads()
        with fragile.connect() as connection:
            held = connection.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory'").fetchone()
            assert held is not None
            connection.execute("SELECT pg_terminate_backend(%s)", held)
        eventually(other.leads, 20, "the other one leads")
        assert not database.leads()


def test_the_same_key_at_two_servers_at_once_is_one_prediction(world: TwoServersWorld) -> None:
    queues = [Queue(world.database), Queue(world.second)]
    for number in range(50):
        wanted = {"idempotency_key": f"key-{number}", "fingerprint": "f"}
        futures = [queue.submit(world.submission(**wanted), MANY) for queue in queues]
        (one, _), (other, _) = (future.result() for future in futures)
        assert one.id == other.id
        assert sum(created for _, created in (future.result() for future in futures)) == 1
    assert queues[0].depths().result()["free"].queued == 50


def test_a_deadlock_between_two_servers_is_nobodys_error(world: TwoServersWorld) -> None:
    ids = [world.submit(), world.submit()]
    barrier = threading.Barrier(2)

    def change(order: list[str]) -> Any:
        first = [True]

        def operation(tx: Transaction) -> None:
            for step, key in enumerate(order):
                rows = sa.select(predictions.c.seq).where(predictions.c.id == sa.bindparam("key")).with_for_update()
                tx.rows(rows, key=key)
                if step == 0 and first:
                    first.clear()
                    barrier.wait(10)

        return operation

    futures = [world.database.write(change(ids)), world.second.write(change(ids[::-1]))]
    for future in futures:
        future.result(20)


def test_a_database_that_goes_and_comes_back(fragile: Postgres, database: PostgreSQL) -> None:
    queue, heard = Queue(database), list[Sequence[News]]()
    queue.listen(heard.append)
    before, _ = queue.submit(submission(database), MANY).result()
    assert database.leads()
    fragile.stop()
    with pytest.raises(StorageError, match="away"):
        queue.submit(submission(database), MANY).result()
    with pytest.raises(StorageError):
        queue.get(before.id).result()
    assert not database.leads()
    fragile.start()
    found = queue.get(before.id).result()
    assert found is not None
    queue.submit(submission(database), MANY).result()
    assert queue.depths().result()["free"].queued == 2
    assert database.leads()
    eventually(lambda: flat(heard), 20, "that anything may have happened is heard", lambda news: Anything() in news)


def test_what_was_acknowledged_survives_a_crash_of_the_database(fragile: Postgres, database: PostgreSQL) -> None:
    queue = Queue(database)
    futures = [queue.submit(submission(database), MANY) for _ in range(300)]
    futures[100].result()
    fragile.kill()
    kept = {future.result()[0].id for future in futures if future.exception() is None}
    fragile.start()
    assert len(kept) > 100
    assert queue.known(kept).result() == kept


def test_a_connection_lost_in_the_commit_leaves_its_outcome_open(fragile: Postgres, database: PostgreSQL) -> None:
    queue = Queue(database)
    queue.submit(submission(database), MANY).result()

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
            queue.submit(submission(database), MANY).result()
    finally:
        points.watch(lambda _: None)
    queue.submit(submission(database), MANY).result()


def test_a_database_that_became_read_only_refuses_and_recovers(fragile: Postgres, database: PostgreSQL) -> None:
    queue = Queue(database)

    def read_only(value: str) -> None:
        with fragile.connect() as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            connection.execute("SELECT pg_reload_conf()")
            wanted = "SELECT setting FROM pg_file_settings WHERE name = 'default_transaction_read_only' AND applied"
            eventually(lambda: connection.execute(wanted).fetchone(), 20, f"it is {value}", lambda row: row == (value,))

    def error() -> BaseException | None:
        return queue.submit(submission(database), MANY).exception()

    read_only("on")
    eventually(error, 20, "it refuses", lambda found: isinstance(found, StorageError))
    read_only("off")
    eventually(error, 20, "it takes predictions again", lambda found: not isinstance(found, StorageError))


def test_connections_are_bounded(fragile: Postgres, database: PostgreSQL) -> None:
    queue = Queue(database)
    for future in [queue.submit(submission(database), MANY) for _ in range(200)]:
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
            except Exception:  # noqa: BLE001 (all are taken)
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
            connection.exec_driver_sql("UPDATE schema_version SET version = 2")
        engine.dispose()
        world.start()
        assert world.status(one) is Status.QUEUED


def test_leases_go_through_any_server(world: TwoServersWorld) -> None:
    first, second = Queue(world.database), Queue(world.second)
    one, _ = first.submit(world.submission(), MANY).result()
    first.open_job("job", "free", "run").result()
    (leased,) = second.lease("free", "job", 1, MANY, 30.0).result()
    assert first.extend("job", [(leased.id, leased.token)], 30.0).result() == []
    done = Completion(leased.id, leased.token, RESULTS, None, 8.0)
    assert first.complete("job", [done]).result() == ["accepted"]
    assert second.complete("job", [done]).result() == ["duplicate"]
    found = second.get(one.id).result()
    assert found is not None
    assert found.status is Status.SUCCEEDED


def url_of(server: Postgres) -> str:
    return f"{server.url}?options=-csearch_path%3Dspoiled"
