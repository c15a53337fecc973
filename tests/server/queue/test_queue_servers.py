"""Several servers on one PostgreSQL: each hears what the others commit, one leads, and none blocks another."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from server.queue import Anything, Available, Began, JobRecalled, Moved, News, Queue, Status
from server.queue.operations.jobs import RECALL_CHARACTERS
from server.queue.store.tables import predictions
from server.queue.store.transactions import Transaction
from tests.server.queue.queue_world import MANY, TwoServersWorld, completion, flat
from tests.waiting import eventually


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TwoServersWorld]:
    with TwoServersWorld(tmp_path) as world:
        yield world


def test_what_one_server_commits_is_heard_at_another(world: TwoServersWorld) -> None:
    heard: list[Sequence[News]] = []
    world.second.listen(heard.append)
    queue = Queue(world.database)
    one = queue.submit(world.submission(), MANY).result().prediction
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


def test_a_recall_is_heard_at_the_server_that_has_the_workers_channel(world: TwoServersWorld) -> None:
    heard: list[Sequence[News]] = []
    world.second.listen(heard.append)
    queue, reason = Queue(world.database), "\N{SPARKLES}" * 2000
    queue.open_job("job", "free", "run").result()
    queue.recall_job("job", reason).result()
    told = JobRecalled("job", "free", reason[:RECALL_CHARACTERS])
    eventually(lambda: flat(heard), 20, "the recall is heard", [told].__eq__)
    assert Queue(world.second).recalled().result() == {"job": told.reason}


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


def test_the_start_of_a_worker_is_heard_where_it_asked(world: TwoServersWorld) -> None:
    heard: list[Sequence[News]] = []
    world.second.listen(heard.append)
    queue = Queue(world.database)
    queue.open_job("job", "free", "run", "").result()
    queue.take_up("free", "job", [], 30).result()
    queue.submit(world.submission(), MANY).result()
    eventually(lambda: flat(heard), 20, "what was committed later is heard", [Available("free")].__eq__)
    assert world.heard() == [Began("free", 0.0), Available("free")]


def notify(world: TwoServersWorld, payload: str) -> None:
    with psycopg.connect(world.url, autocommit=True) as connection:
        connection.execute("SELECT pg_notify('tierserve_' || current_schema(), %s)", (payload,))


@pytest.mark.parametrize("payload", ['["x", ["moved", "a", "free", "lost"]]', '["x", ["newer"]]', '["x", [[]]]'])
def test_a_notice_of_a_newer_server_may_stand_for_anything(world: TwoServersWorld, payload: str) -> None:
    heard: list[Sequence[News]] = []
    world.second.listen(heard.append)
    notify(world, payload)
    eventually(lambda: flat(heard), 20, "it is heard as anything", lambda news: Anything() in news)


FOREIGN = [
    *("", " ", "{", "7", "{}", "[]", "null", "[" * 5000, '"moved"', f"[{'9' * 5000}]", '[{"a": 1}, []]', "\x7f"),
    *('["x", 5]', '["x", "available"]', '["\\ud800", "\\udfff"]', '[["x"], ["available", "free"]]', "[1e999]"),
]


def test_a_notice_that_no_server_wrote_disturbs_nobody(
    world: TwoServersWorld, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Sequence[News]] = []
    world.second.listen(heard.append)
    for payload in FOREIGN:
        notify(world, payload)
    Queue(world.database).submit(world.submission(), MANY).result()
    eventually(lambda: flat(heard), 20, "the listener goes on", lambda news: Available("free") in news)
    assert flat(heard) == [Available("free")]
    assert len([line for line in caplog.messages if "not theirs" in line]) == 2, "one line for each of the two servers"


def test_one_server_leads_until_it_goes(world: TwoServersWorld) -> None:
    assert world.database.leads()
    assert not world.second.leads()
    assert world.database.leads()
    third = world.open()
    world.database.close()
    eventually(world.second.leads, 20, "the second one leads")  # PostgreSQL ends a session a moment after its client
    assert not third.leads()
    third.close()
    world.database = world.open()


def test_the_same_key_at_two_servers_at_once_is_one_prediction(world: TwoServersWorld) -> None:
    queues = [Queue(world.database), Queue(world.second)]
    for number in range(50):
        wanted = {"idempotency_key": f"key-{number}", "fingerprint": "f"}
        futures = [queue.submit(world.submission(**wanted), MANY) for queue in queues]
        one, other = (future.result().prediction for future in futures)
        assert one.id == other.id
        assert sum(future.result().new for future in futures) == 1
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


def test_leases_go_through_any_server(world: TwoServersWorld) -> None:
    first, second = Queue(world.database), Queue(world.second)
    one = first.submit(world.submission(), MANY).result().prediction
    first.open_job("job", "free", "run").result()
    (leased,) = second.lease("free", "job", 1, MANY, 30.0).result().leased
    assert first.extend("job", [(leased.id, leased.token)], 30.0).result() == []
    done = completion(leased.id, leased.token)
    assert first.complete("job", [done]).result() == ["accepted"]
    assert second.complete("job", [done]).result() == ["duplicate"]
    found = second.get(one.id).result()
    assert found is not None
    assert found.status is Status.SUCCEEDED
