"""Opening data of older versions: ``dumps/DATABASE-N.sql`` is what version N of the schema wrote (see ``dump``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.queue import Lane, Measured, Queue, Status
from server.queue.store import triggers
from server.queue.store.migrations import STEPS, VERSION, Step
from tests.server.queue.dump import DUMPS, KEYS, MINUTE, MODEL, NAMES, RECALLED, SERVED, TRACE
from tests.server.queue.queue_world import RESULTS, PostgresWorld, World, completion
from tests.server.queue.schema import postgresql_schema, sqlite_schema

FREE = KEYS[:4]
KINDS: dict[str, type[World]] = {"sqlite": World, "postgresql": PostgresWorld}
RELEASED = [f"sqlite-{number}" for number in range(1, VERSION + 1)]
RELEASED += [f"postgresql-{number}" for number in range(2, VERSION + 1)]  # PostgreSQL came with version 2

TURNS, MODELS, MINUTES, TRACES, NAMED, RECALLS = 6, 7, 8, 9, 10, 11  # the versions that brought them


@pytest.fixture(params=RELEASED)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    database, _, _ = request.param.partition("-")
    with KINDS[database](tmp_path, (DUMPS / f"{request.param}.sql").read_text()) as world:
        yield world


def schema(world: World) -> set[str]:
    return postgresql_schema(world.url) if isinstance(world, PostgresWorld) else sqlite_schema(world.file)


def test_there_is_a_dump_of_every_version_and_no_other() -> None:
    assert sorted(path.stem for path in DUMPS.iterdir()) == sorted(RELEASED)


def test_every_step_follows_the_one_before_it() -> None:
    assert [step.number for step in STEPS] == list(range(2, VERSION + 1))


@pytest.mark.parametrize("database", KINDS)
def test_both_databases_have_every_step(database: str) -> None:
    for step in STEPS:
        assert step.statements(database) or step.unneeded
    assert triggers.CREATE[database]
    assert triggers.DROP[database]


@pytest.mark.parametrize(("sqlite", "postgresql"), [((), ("SELECT 1",)), (("SELECT 1",), ())])
def test_a_step_that_forgets_a_database_is_refused(sqlite: tuple[str, ...], postgresql: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="step 3 has nothing for one of the databases"):
        Step(3, sqlite, postgresql)
    Step(3, sqlite, postgresql, unneeded="the other database can do without")


def test_the_schema_is_that_of_a_new_database(world: World, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with type(world)(tmp_path / "new") as new:
        assert schema(world) == schema(new)


def test_what_was_accepted_is_worked_off(world: World) -> None:
    world.clock.now = 1_800_000_010.0
    assert [world.status(key) for key in FREE[:3]] == [Status.SUCCEEDED, Status.LEASED, Status.QUEUED]
    assert world.get(FREE[0]).results == RESULTS
    depths = world.queue.depths().result()
    assert (depths["free"].queued, depths["free"].leased, depths["premium"].queued) == (2, 1, 1)
    assert (depths["free"].bytes, depths["premium"].bytes) == (3000, 1000)
    query = f"SELECT token FROM predictions WHERE id = '{FREE[1]}'"
    token = world.database.read(lambda tx: tx.cursor.execute(query).fetchone()[0]).result()
    assert world.queue.complete("job", [completion(FREE[1], token)]).result() == ["accepted"]
    for leased in world.lease():
        assert world.complete(leased) == "accepted"
    assert {world.status(key) for key in FREE} == {Status.SUCCEEDED}
    assert (world.queue.depths().result()["free"].queued, world.queue.depths().result()["free"].bytes) == (0, 0)
    found = world.queue.find_key("anna", "k2", "f2").result()
    assert found is not None
    assert found.id == FREE[2]


def test_every_row_can_still_be_read(world: World) -> None:
    assert {world.get(key).tier for key in KEYS[:5]} == {"free", "premium"}
    assert world.queue.alive(KEYS[:5]).result() == set(KEYS[1:5])
    assert "job" in [row.name for row in world.queue.jobs().result()]
    assert world.queue.views().result()["free"].running == 1


@pytest.mark.parametrize("world", [name for name in RELEASED if int(name.partition("-")[2]) < TURNS], indirect=True)
def test_what_waited_before_there_were_turns_comes_first(world: World) -> None:
    ids = [world.submit(), world.submit(caller="owner:new")]
    waiting = [key for key in FREE if world.status(key) is Status.QUEUED]
    found = [world.queue.position(key).result() for key in (*waiting, *ids)]
    assert [one and one.position for one in found] == [1, 2, 3, 4]
    assert [one.id for one in world.lease()] == [*waiting, *ids]


@pytest.mark.parametrize("world", [name for name in RELEASED if int(name.partition("-")[2]) < MODELS], indirect=True)
def test_what_came_before_there_were_canaries_goes_to_the_main_model(world: World) -> None:
    assert {world.get(key).canary for key in KEYS[:5]} == {False}
    assert world.queue.depths().result()["free"].canary is None
    assert {row.model for row in world.queue.jobs().result()} == {""}
    one = world.submit(canary=True)
    assert world.lease()
    assert world.queue.depths().result()["free"].canary == Lane(1, 0, world.clock.now)
    assert world.queue.end_canary("free").result() == 1
    assert [leased.id for leased in world.lease()] == [one]


@pytest.mark.parametrize("world", [name for name in RELEASED if int(name.partition("-")[2]) >= MODELS], indirect=True)
def test_models_and_canaries_are_still_there(world: World) -> None:
    assert world.queue.depths().result()["served"].canary == Lane(1, 1, 1_800_000_000.0)
    kept = replace(MODEL, record="", tags=("best",), latest=True, pushed_at=1_800_000_000.0)
    assert world.queue.models().result() == [kept]
    assert world.queue.serving().result()["served"].canary == SERVED
    assert world.queue.measured().result()["served", SERVED.key] == Measured(1, 1, 0, 1, {12: 1})
    assert SERVED.key in {row.model for row in world.queue.jobs().result()}
    assert [one.id for one in world.lease("canary", tier="served", canary=True)] == [KEYS[10]]


@pytest.mark.parametrize("world", [name for name in RELEASED if int(name.partition("-")[2]) >= MINUTES], indirect=True)
def test_what_happened_within_the_last_hour_is_still_there(world: World) -> None:
    assert world.queue.minutes("free").result() == [MINUTE]


@pytest.mark.parametrize("world", RELEASED, indirect=True)
def test_what_was_accepted_before_there_were_functions_gets_probabilities(world: World) -> None:
    assert {(one.function, one.trace, one.request_id) for one in map(world.get, KEYS[:5])} == {("softmax", None, None)}


@pytest.mark.parametrize("world", [name for name in RELEASED if int(name.partition("-")[2]) >= TRACES], indirect=True)
def test_functions_and_traces_are_still_there(world: World) -> None:
    one = world.get(KEYS[11])
    assert (one.function, one.trace, one.request_id) == ("none", TRACE, "mine")


@pytest.mark.parametrize("world", [name for name in RELEASED if int(name.partition("-")[2]) >= NAMED], indirect=True)
def test_the_names_of_pictures_are_still_there(world: World) -> None:
    assert (world.get(KEYS[12]).names, world.get(KEYS[11]).names) == (NAMES, None)


@pytest.mark.parametrize("world", [name for name in RELEASED if int(name.partition("-")[2]) >= RECALLS], indirect=True)
def test_recalled_jobs_are_still_known(world: World) -> None:
    assert world.queue.recalled().result() == {"recalled": RECALLED}


@pytest.mark.parametrize("world", [name for name in RELEASED if int(name.partition("-")[2]) < RECALLS], indirect=True)
def test_jobs_from_before_there_were_recalls_can_be_recalled(world: World) -> None:
    assert world.queue.recalled().result() == {}
    assert world.queue.recall_job("job", "lent").result()
    assert world.queue.recalled().result() == {"job": "lent"}


def test_it_is_brought_up_once(world: World) -> None:
    world.submit()
    world.restart()
    assert Queue(world.database).depths().result()["free"].queued == 3


@pytest.mark.parametrize("kind", KINDS)
def test_of_one_key_in_two_tiers_the_oldest_prediction_stays_with_it(kind: str, tmp_path: Path) -> None:
    """Until version 3 a key was unique in each tier; from version 4 on it is unique with each fingerprint."""
    dump = (DUMPS / f"{kind}-2.sql").read_text()
    copied = "', 'premium', 'lite0', 'queued', 1, 1000, 5, 0, 'anna', 'k2', 'f2', 1800000000.0, 1800000600.0)"
    columns = "id, tier, model, status, images, size, top_k, priority, owner, idempotency_key, fingerprint, accepted_at"
    dump += f"INSERT INTO predictions (seq, {columns}, deadline_at) VALUES (90, '{'q' * 35}{copied};\n"
    with KINDS[kind](tmp_path, dump) as world:
        found = world.queue.find_key("anna", "k2", "f2").result()
        assert found is not None
        assert found.id == FREE[2]
        assert world.get("q" * 35).tier == "premium"
