"""Opening a database: which one is opened, and that SQLite does not need PostgreSQL's driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from server.queue import SQLite, open_database
from server.queue.store.postgresql import PostgreSQL
from server.queue.store.sqlite import FILE
from tests.server.given import HandClock
from tests.server.queue.queue_world import PostgresWorld

WITHOUT_DRIVER = """
import sys
from pathlib import Path
sys.modules["psycopg"] = None  # as if it were not installed
from server.queue import CannotOpen, open_database
open_database(Path(sys.argv[1])).close()
try:
    open_database(Path(sys.argv[1]), "postgresql://somebody@127.0.0.1:1/nothing")
except CannotOpen as error:
    print(error)
"""


def test_a_server_on_sqlite_needs_no_driver_of_postgresql(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_DRIVER, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith("PostgreSQL needs psycopg: pip install tierserve[postgresql]")


def test_without_a_url_it_is_a_file_in_the_directory(tmp_path: Path) -> None:
    clock = HandClock()
    with open_database(tmp_path, clock=clock) as database:
        assert isinstance(database, SQLite)
        assert database.clock is clock
    assert (tmp_path / FILE).is_file()


def test_with_a_url_it_is_postgresql(tmp_path: Path) -> None:
    clock = HandClock()
    with PostgresWorld(tmp_path) as world, open_database(tmp_path, world.url, clock) as database:
        assert isinstance(database, PostgreSQL)
        assert database.clock is clock
