"""Data that an older version wrote: ``queue-N.sql`` is what version N of the tables held, as SQLite dumps it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from server.queue import Completion, Queue, SQLite, Status
from server.queue.store.sqlite import FILE
from server.queue.store.tables import VERSION, metadata
from tests.server.queue.queue_world import RESULTS, World

DUMPS = sorted(Path(__file__).parent.glob("queue-*.sql"))
FREE = [f"p{number:034}" for number in range(4)]


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    (tmp_path / "data").mkdir()
    with sqlite3.connect(tmp_path / "data" / FILE) as connection:
        connection.executescript(request.param.read_text())
    connection.close()
    return World(tmp_path)


def test_there_is_a_dump_of_every_earlier_version() -> None:
    assert [path.stem for path in DUMPS] == [f"queue-{number}" for number in range(1, VERSION)]


def test_what_was_accepted_is_worked_off(world: World) -> None:
    with world:
        world.clock.now = 1_800_000_010.0
        assert [world.status(key) for key in FREE[:3]] == [Status.SUCCEEDED, Status.LEASED, Status.QUEUED]
        assert world.get(FREE[0]).results == RESULTS
        depths = world.queue.depths().result()
        assert (depths["free"].queued, depths["free"].leased, depths["premium"].queued) == (2, 1, 1)
        held = world.database.read(lambda tx: tx._connection.exec_driver_sql("SELECT token FROM predictions").all())
        token = held.result()[1][0]
        assert world.queue.complete("job", [Completion(FREE[1], token, RESULTS, None, 8.0)]).result() == ["accepted"]
        for leased in world.lease():
            assert world.complete(leased) == "accepted"
        assert {world.status(key) for key in FREE} == {Status.SUCCEEDED}
        assert world.queue.depths().result()["free"].queued == 0
        found = world.queue.find_key("anna", "free", "k2").result()
        assert found is not None
        assert found.id == FREE[2]


def test_the_tables_are_those_of_a_new_database(world: World, tmp_path: Path) -> None:
    def shape(path: Path) -> dict[str, set[tuple[object, ...]]]:
        with sqlite3.connect(path) as connection:
            columns = {name: set(connection.execute(f"PRAGMA table_info({name})")) for name in metadata.tables}
            others = connection.execute("SELECT type, name, tbl_name FROM sqlite_master WHERE type <> 'table'")
            return {
                **{name: {(row[1], row[2], row[3], row[5]) for row in rows} for name, rows in columns.items()},
                "others": set(others),
            }

    world.stop()
    SQLite.open(tmp_path / "new").close()
    assert shape(world.directory / "data" / FILE) == shape(tmp_path / "new" / FILE)


def test_it_is_brought_up_once(world: World) -> None:
    world.submit()
    world.restart()
    with world:
        assert Queue(world.database).depths().result()["free"].queued == 3
