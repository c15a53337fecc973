"""Every statement of the queue finds its rows by the index made for it, without scans and without sorting."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.queue import Arrival, Measured, Minute, Serving, StoredModel, Use
from server.queue.store.statements import Prepared, Statements
from tests.server.queue.queue_world import MANY, PostgresWorld, World, pairs

USE = Use("free", "owner:anna", 1, 1, 1, 0.0)
MODEL = StoredModel("lite0", "3f9a2c81", "3f9a2c81" * 8, "{}", (), 0.0)
Run = Callable[[World], object]
# How each operation is run, and which indexes its statements on ``predictions`` and ``jobs`` must use.
OPERATIONS: dict[str, tuple[Run, set[str]]] = {
    "submit": (lambda world: world.submit(idempotency_key="k", fingerprint="f"), {"predictions_key"}),
    "refuse": (lambda world: world.queue.submit(world.submission(), 0).exception(), {"predictions_oldest"}),
    "bounded": (
        lambda world: world.queue.submit(world.submission(), MANY, MANY, 0.0, 99, 99999).result(),
        {"predictions_caller"},
    ),
    "find_key": (lambda world: world.queue.find_key("anna", "k", "f").result(), {"predictions_key"}),
    "key_used": (lambda world: world.queue.key_used("anna", "k").result(), {"predictions_key"}),
    "get": (lambda world: world.queue.get("p0").result(), {"id"}),
    "alive": (lambda world: world.queue.alive(["p0", "p1"]).result(), {"id"}),
    "ended": (lambda world: world.queue.ended(["p0", "p1"]).result(), {"id"}),
    "position": (lambda world: world.queue.position(world.submit()).result(), {"id", "predictions_queue"}),
    "whereabouts": (
        lambda world: world.queue.whereabouts([world.submit(), "p0"]).result(),
        {"id", "predictions_queue"},
    ),
    "listing": (lambda world: world.queue.listing("anna", 3).result(), {"predictions_listed"}),
    "listing, a further page": (
        lambda world: world.queue.listing("anna", 3, tiers=["free"], since=1.0, after=(2e9, "p0")).result(),
        {"predictions_listed", "id"},
    ),
    "cancel": (lambda world: world.queue.cancel(world.lease()[0].id).result(), {"id", "seq", "predictions_queue"}),
    "lease": (lambda world: world.lease(), {"predictions_queue", "predictions_holder", "seq", "name"}),
    "lease of a canary": (
        lambda world: world.lease(canary=True),
        {"predictions_queue", "predictions_holder", "seq", "name"},
    ),
    "extend": (lambda world: world.queue.extend("job", pairs(world.lease()), 9).result(), {"id", "seq"}),
    "release": (lambda world: world.queue.release("job", pairs(world.lease())).result(), {"id", "seq"}),
    "complete": (lambda world: world.complete(world.lease()[0]), {"id", "seq", "predictions_queue"}),
    "complete of a canary": (
        lambda world: world.complete(world.lease(canary=True)[0]),
        {"id", "seq", "predictions_queue"},
    ),
    "depths": (lambda world: world.queue.depths().result(), {"predictions_oldest"}),
    "end_canary": (lambda world: world.queue.end_canary("free").result(), {"predictions_queue", "seq"}),
    "pace": (lambda world: world.queue.pace("free").result(), {"predictions_completed"}),
    "reclaim": (lambda world: expire(world), {"predictions_lease", "predictions_deadline", "seq"}),
    "abort_tier": (
        lambda world: world.queue.abort_tier("free", "gone", "gone").result(),
        {"predictions_lease", "predictions_queue", "seq"},
    ),
    "purge": (lambda world: finish(world), {"predictions_completed", "seq"}),
    "forget_jobs": (lambda world: world.queue.forget_jobs().result(), {"jobs_ended", "name"}),
    "forget_counts": (lambda world: world.queue.forget_counts().result(), set()),
    "forget_shares": (lambda world: world.queue.forget_shares().result(), {"predictions_caller"}),
    "keep": (lambda world: world.queue.keep(Arrival(world.submission(), 0.0, 9.0), 3, 30.0).result(), set()),
    "got_work": (lambda world: world.queue.got_work("job", "free", 9).result(), {"name"}),
    "use": (lambda world: world.queue.use([USE]).result(), set()),
    "take_pictures": (lambda world: world.queue.take_pictures(USE, 1, 9).result(), set()),
    "waiting_of": (lambda world: world.queue.waiting_of("free", "owner:anna", 9).result(), {"predictions_caller"}),
    "forget_uses": (lambda world: world.queue.forget_uses().result(), set()),
    "open_job": (lambda world: world.job("new"), set()),
    "end_job": (lambda world: crash(world), {"predictions_holder", "seq", "name"}),
    "recall_job": (lambda world: world.queue.recall_job("job", "lent").result(), {"name"}),
    "recalled": (lambda world: world.queue.recalled().result(), {"jobs_live"}),
    "loads": (lambda world: world.queue.loads().result(), {"jobs_live", "predictions_holder"}),
    "jobs": (lambda world: world.queue.jobs().result(), {"jobs_live"}),
    "strikes": (lambda world: world.queue.strikes("free").result(), {"jobs_tier"}),
    "strikes of a model": (lambda world: world.queue.strikes("free", "lite0@1").result(), {"jobs_model"}),
    "add_model": (lambda world: [world.queue.add_model(MODEL, ["best"]).result() for _ in range(2)], set()),
    "remove_model": (lambda world: world.queue.remove_model("lite0", "0").result(), set()),
    "tag_model": (lambda world: world.queue.tag_model("lite0", "best", "0").result(), set()),
    "model": (lambda world: world.queue.model("lite0", "0").result(), set()),
    "serve": (lambda world: [world.queue.serve("free", Serving()).result() for _ in range(2)], set()),
    "latest_predictions": (
        lambda world: world.queue.latest_predictions("free", 3).result(),
        {"predictions_completed", "predictions_lease", "predictions_oldest"},
    ),
    "latest_jobs": (lambda world: world.queue.latest_jobs("free", 3).result(), {"jobs_live", "jobs_tier"}),
    "count": (lambda world: [world.queue.count([("free", Minute(1, 1))]).result() for _ in range(2)], set()),
    "minutes": (lambda world: world.queue.minutes("free").result(), set()),
    "latest_minutes": (lambda world: world.queue.latest_minutes(["free", "premium"], 2).result(), set()),
    "measure": (lambda world: world.queue.measure([("free", "lite0@1", Measured(1))]).result(), set()),
}


def expire(world: World) -> None:
    world.submit(deadline=1)
    world.lease(most=2)
    world.submit(deadline=1)
    world.clock.advance(100)
    world.queue.reclaim({"free": 3}).result()


def finish(world: World) -> None:
    world.queue.cancel(world.submit()).result()
    world.clock.advance(100)
    world.queue.purge({"free": 1}).result()


def crash(world: World) -> None:
    world.lease()
    world.queue.end_job("job", "crashed").result()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        fill(world)
        yield world


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[World]:
    with PostgresWorld(tmp_path) as world:
        fill(world)
        yield world


def fill(world: World) -> None:
    world.job()
    for number in range(10):
        world.submit(canary=number % 2 == 1)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []
    prepare = Statements.__call__

    def note(*asked: Any) -> tuple[Prepared, Any]:
        prepared, given = prepare(*asked)
        seen.append((prepared.text, given))
        return prepared, given

    monkeypatch.setattr(Statements, "__call__", note)
    return seen


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_statement_uses_its_index(world: World, statements: list[tuple[str, Any]], operation: str) -> None:
    run, expected = OPERATIONS[operation]
    statements.clear()
    run(world)
    ran = list(statements)

    def explain(tx: Any) -> list[str]:
        return [
            row[3]
            for statement, parameters in ran
            for row in tx.cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
        ]

    plan = world.database.read(explain).result()
    reads = [line for line in plan if re.search(r"\b(predictions|jobs|asked)\b", line)]
    counts = [line for line in plan if re.search(r"\b(waiting|shares|depths|minutes)\b", line)]
    assert not [line for line in counts if not line.startswith("SEARCH") and operation != "depths"]
    assert not [line for line in plan if "TEMP B-TREE" in line]
    # A scan of the index jobs_live is right: it contains only the wanted rows, in the right order.
    assert not [line for line in reads if line.startswith("SCAN") and "USING INDEX jobs_live" not in line]
    used = {index_of(line) for line in reads}
    assert used >= expected
    assert not any(index.startswith("auto") for index in used)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_statement_can_use_an_index_of_postgresql(
    postgres: World, statements: list[tuple[str, Any]], operation: str
) -> None:
    """PostgreSQL prefers scans for so few rows. They are forbidden here, so that it scans only if no index helps."""
    statements.clear()
    OPERATIONS[operation][0](postgres)
    ran = list(statements)

    def explain(tx: Any) -> list[str]:
        for way in ("seqscan", "sort", "bitmapscan"):
            tx.cursor.execute(f"SET LOCAL enable_{way} = off")
        return [
            row[0]
            for statement, parameters in ran
            for row in tx.cursor.execute(f"EXPLAIN {statement}", parameters).fetchall()
        ]

    plan = postgres.database.write(explain).result()
    names = ("predictions", "jobs", "waiting", "shares", "minutes")
    assert not [line for line in plan if any(f"Seq Scan on {name}" in line for name in names)]
    assert not [line for line in plan if line.lstrip().startswith(("Sort ", "->  Sort "))]


def index_of(line: str) -> str:
    """The index that a line of a plan names, or for a key its column."""
    if "INTEGER PRIMARY KEY" in line:
        return "seq"
    name = re.search(r"INDEX (\w+)", line)
    assert name, line
    return {"sqlite_autoindex_predictions_1": "id", "sqlite_autoindex_jobs_1": "name"}.get(name[1], name[1])


def test_counting_a_deep_queue_never_reads_its_rows(world: World, statements: list[tuple[str, Any]]) -> None:
    last = world.submit()
    statements.clear()
    world.queue.position(last).result()
    world.queue.submit(world.submission(), MANY).result()
    (count,) = [found for found in statements if "count(" in found[0]]

    def explain(tx: Any) -> list[str]:
        return [row[3] for row in tx.cursor.execute(f"EXPLAIN QUERY PLAN {count[0]}", count[1]).fetchall()]

    (first, *rest) = world.database.read(explain).result()
    assert first.startswith("SEARCH asked USING INDEX sqlite_autoindex_predictions_1")
    plan = [line for line in rest if "predictions" in line or "waiting" in line]
    assert len(plan) == 6  # for the position; a submit reads a counter
    assert all("COVERING INDEX predictions_queue" in line for line in plan if "predictions" in line)
    assert all(line.startswith("SEARCH waiting USING PRIMARY KEY") for line in plan if "waiting" in line)
