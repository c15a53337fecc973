"""Writes the data of this version into ``dumps/DATABASE-VERSION.sql``, for the tests of all later versions.

Run it when the schema of a new version is settled: python -m tests.server.queue.dump
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from server.queue import Measured, Minute, Served, Serving, Status, StoredFile, StoredModel, TierView
from server.queue.store.migrations import VERSION
from tests.postgres import programs
from tests.server.queue.queue_world import PostgresWorld, World, pairs

DUMPS = Path(__file__).with_name("dumps")
KEYS = [f"p{number:034}" for number in range(13)]
RECALLED = "lent quota went back to premium"
NAMES = '[["photo","größe.jpg"]]'
SERVED = Served("flowers@11111111", "1" * 64, "onnx", "int8", 1_800_000_000.0)
MINUTE = Minute(30_000_000, 3, 2, 1, {40: 2})  # that of the world's clock
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MODEL = StoredModel("flowers", "11111111", "1" * 64, "{}", (StoredFile("a" * 64, 5),), 0.0)


def fill(world: World) -> None:
    """Write at least one row of each kind. The first five predictions are the same in every dump since version 1."""

    def submit(number: int, tier: str = "free") -> None:
        keyed = {"idempotency_key": f"k{number}", "fingerprint": f"f{number}"} if tier == "free" else {}
        assert world.submit(id=KEYS[number], tier=tier, **keyed) == KEYS[number]

    world.job()
    for number in range(4):
        submit(number)
    submit(4, "premium")
    done, _ = world.lease(most=2)
    world.complete(done)
    for number in (5, 6, 7, 8):
        submit(number, "ended")
    world.job("crashed", "ended")
    failed, released, lost = world.lease("crashed", most=3, tier="ended")
    world.complete(failed, "crashed", error={"code": "bad_image", "detail": "no picture"})
    world.queue.release("crashed", pairs([released])).result()
    world.queue.cancel(released.id).result()
    world.queue.end_job("crashed", "exit code 1").result()
    assert world.get(lost.id).reason == "exit code 1"
    assert {world.status(key) for key in KEYS[4:9]} == {Status.QUEUED, Status.FAILED, Status.CANCELED}
    world.queue.report("free", TierView(running=1, healthy=True, reason="")).result()
    models(world)
    world.queue.count([("free", MINUTE)]).result()  # since version 8
    world.submit(id=KEYS[11], tier="traced", function="none", trace=TRACE, request_id="mine")  # since version 9
    world.submit(id=KEYS[12], tier="named", names=NAMES)  # since version 10
    world.job("recalled", "lending")
    world.queue.recall_job("recalled", RECALLED).result()  # since version 11


def models(world: World) -> None:
    """Write what version 7 brought."""
    world.job("canary", "served", SERVED.key)
    for key in KEYS[9:11]:
        world.submit(id=key, tier="served", canary=True)
    assert len(world.lease("canary", most=1, tier="served", canary=True)) == 1
    world.queue.add_model(MODEL, ["best"]).result()
    world.queue.serve("served", Serving(canary=SERVED, percent=5.0)).result()
    world.queue.measure([("served", SERVED.key, Measured(1, 1, 0, 1, {12: 1}))]).result()


def sqlite_dump(directory: Path) -> str:
    with World(directory) as world:
        fill(world)
    with closing(sqlite3.connect(world.file)) as connection:
        return "\n".join([*connection.iterdump(), f"PRAGMA user_version = {VERSION};", ""])


def postgresql_dump(directory: Path) -> str:
    """What pg_dump writes, without its commands for psql and the session, and without the schema's name."""
    with PostgresWorld(directory) as world:
        fill(world)
        address, _, schema = world.url.partition("?options=-csearch_path%3D")
        command = [str((programs() or Path()) / "pg_dump"), address, f"--schema={schema}"]
        options = ["--inserts", "--no-owner", "--no-privileges"]
        text = subprocess.run([*command, *options], capture_output=True, text=True, check=True).stdout
    unwanted = re.compile(r"^(--|\\|SET |SELECT pg_catalog\.set_config|CREATE SCHEMA )")
    lines = [line for line in text.splitlines() if not unwanted.match(line)]
    return re.sub(r"\n{2,}", "\n\n", "\n".join(lines).replace(f"{schema}.", "")).strip() + "\n"


def main() -> None:
    """Write the dumps of this version. A dump that exists is never replaced, because released data must stay."""
    for database, dump in (("sqlite", sqlite_dump), ("postgresql", postgresql_dump)):
        path = DUMPS / f"{database}-{VERSION}.sql"
        if path.exists():
            sys.exit(f"{path} is there already: delete it only if version {VERSION} was never released")
        with TemporaryDirectory() as directory:
            path.write_text(dump(Path(directory)))


if __name__ == "__main__":
    main()
