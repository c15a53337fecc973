"""Backups as docs/operations.md describes them: a server on restored data finishes the predictions that waited."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.postgres import NAME, Postgres, need_postgres, programs
from tests.running import Service, service
from tests.service.conftest import PAUSED
from tests.service.pictures import CAT
from tests.service.test_classify import is_cat

ASYNC = {"Prefer": "respond-async"}


def some(server: Service) -> tuple[str, list[str]]:
    """Make one prediction that is done and some that wait; returns their URLs."""
    done = server.post("premium", CAT)
    assert is_cat(done)
    return done.headers["Location"], [server.post("free", CAT, ASYNC).headers["Location"] for _ in range(3)]


def test_a_copy_of_the_data_directory(models: Path, tmp_path: Path) -> None:
    with service(models, tmp_path / "state", PAUSED) as server:
        done, waiting = some(server)
    shutil.copytree(tmp_path / "state" / "data", tmp_path / "restored" / "data")
    with service(models, tmp_path / "restored") as restored:
        assert is_cat(restored.get(done))
        assert all(is_cat(restored.get(f"{url}?wait=30")) for url in waiting)


def test_a_dump_of_postgresql_beside_its_blobs(models: Path, tmp_path: Path) -> None:
    need_postgres()
    blobs = ["--blobs", str(tmp_path / "blobs")]
    with Postgres() as postgres:

        def of(database: str) -> str:
            return postgres.url.removesuffix(NAME) + database

        def pg(program: str, *words: str) -> None:
            command = [str((programs() or Path()) / program), "--dbname", of(words[0]), *words[1:]]
            subprocess.run(command, check=True, timeout=60)

        dump = str(tmp_path / "tierserve.dump")
        with service(models, tmp_path / "state", PAUSED, options=["--database", postgres.url, *blobs]) as server:
            done, waiting = some(server)
            pg("pg_dump", NAME, "--format=custom", f"--file={dump}")
        with postgres.connect() as connection:
            connection.execute("CREATE DATABASE restored")
        pg("pg_restore", "restored", dump)
        with service(models, tmp_path / "restored", options=["--database", of("restored"), *blobs]) as restored:
            assert is_cat(restored.get(done))
            assert all(is_cat(restored.get(f"{url}?wait=30")) for url in waiting)
