"""Some rows of the list of faults, one test each, and a short run with all faults at random."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.clients import ask
from tests.faults.conftest import Begin, work_in
from tests.faults.databases import Database
from tests.faults.evidence import disk
from tests.faults.faults_of_storage import BALLAST
from tests.faults.mixed import run
from tests.faults.pictures import POISON, Pictures
from tests.faults.small_disk import small_disk
from tests.faults.world import World
from tests.faults.zygote import Zygote
from tests.running import ROOT, Answer, Service, lacking
from tests.service.pictures import CAT
from tests.service.test_classify import is_cat
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

ASYNC = {"Prefer": "respond-async"}
PAUSED = "tiers.free.quota.pods=0"
SECONDS = 30.0
UPLOADS = 50
HOUR = 3600.0


def test_42_faults_at_random(models: Path, tmp_path: Path, each_database: Database, seed: int) -> None:
    figures = run(tmp_path, models, SECONDS, seed, each_database)
    print(figures.table())  # noqa: T201
    assert figures.violations == []
    assert sum(figures.injected.values()) > SECONDS / 3


@contextmanager
def no_fsync(world: World) -> Iterator[None]:
    """The database's log cannot be synced while the block lasts."""
    assert world.life is not None
    told = world.folder / "strace"
    log, what = world.state / "data" / "queue.db-wal", "fsync,fdatasync"
    words = ["-f", "-p", str(world.life.pid), "-P", str(log), "-e", f"trace={what}", "-e", f"inject={what}:error=EIO"]
    with told.open("wb") as file:
        strace = subprocess.Popen(["strace", *words], stderr=file)
    try:
        eventually(told.read_text, 30, "strace is attached", lambda text: "attached" in text)
        yield
    finally:
        strace.terminate()
        try:
            strace.wait(5)
        except subprocess.TimeoutExpired:
            strace.kill()
            strace.wait()


def test_03_a_disk_that_failed_in_the_commit_leaves_no_half_prediction(begin: Begin) -> None:
    if not shutil.which("strace"):
        lacking("no strace: apt-get install strace")
    world = begin(PAUSED)
    assert world.service.post("free", CAT, {**ASYNC, "Idempotency-Key": "before"}).status == 202
    with no_fsync(world):
        answer = world.service.post("free", CAT, {**ASYNC, "Idempotency-Key": "during"})
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        world.end(signal.SIGKILL)
    found = disk(world)
    assert found["missing"] == []
    assert found["broken"] == ""
    kept = {row[1] for row in found["rows"]}
    assert "before" in kept
    # A row whose sync failed may still be on the disk, but then the client was told that the outcome is unknown.
    assert "during" not in kept or answer.json["code"] == "outcome_unknown"
    world.start()
    assert world.wait_up()
    again = world.service.post("free", CAT, {**ASYNC, "Idempotency-Key": "during"}).json["id"]
    assert world.get(f"/v1/predictions/{again}").json["status"] == "queued"
    assert len(disk(world)["rows"]) == 2


def test_03_a_full_disk_refuses_keeps_and_recovers(begin: Begin, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as roomy:
        if roomy is None:
            lacking("only root can mount a small filesystem")
            return
        world = begin(PAUSED, folder=roomy / "world")
        kept = world.service.post("free", CAT, ASYNC).json["id"]
        ballast = roomy / BALLAST
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        answer = world.service.post("free", CAT, ASYNC)
        assert (answer.status, answer.json["code"]) == (503, "disk_full")
        assert world.get(f"/v1/predictions/{kept}").json["status"] == "queued"
        assert world.get("/healthz").status == 200
        ballast.unlink()
        eventually(lambda: world.service.post("free", CAT, ASYNC).status, 30, "it recovers", lambda seen: seen == 202)
        world.end(signal.SIGTERM)
        assert disk(world)["orphans"] == 0
        world.close()


def test_03_a_server_that_cannot_greet_ends_or_serves(models: Path, tmp_path: Path) -> None:
    """A server that cannot print its greeting must not keep its port and its data without answering anybody."""
    service = Service(tmp_path, models, [PAUSED])

    def look() -> int | Answer:
        """The status of its end, or its answer while it runs."""
        status: int | None = process.poll()
        return ask(("127.0.0.1", service.port), "GET", "/healthz", timeout=5) if status is None else status

    def settled(seen: int | Answer) -> bool:
        return isinstance(seen, int) or seen.status == 200

    with Path("/dev/full").open("wb") as full, (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen(service.command, cwd=ROOT, stdout=full, stderr=errors)
        try:
            eventually(look, 60, "it has ended, or answers", settled, (OSError,))
        finally:
            process.kill()
            process.wait()


def test_06_a_poisoned_picture_takes_no_neighbour_along(begin: Begin, pictures: Pictures, seed: int) -> None:
    world = begin("tiers.free.quota.pods=1", "tiers.free.limits.attempts=3", "server.tickSeconds=0.3", real=True)
    chance = random.Random(seed)
    assert is_cat(world.service.post("free", CAT))
    asked = [pictures.make(chance, POISON if number == 3 else bytes(len(POISON))) for number in range(8)]
    ids = [world.service.post("free", one.data, ASYNC).json["id"] for one in asked]
    ends = [world.get(f"/v1/predictions/{key}?wait=60").json for key in ids]
    for end, picture in zip(ends, asked, strict=True):
        if picture.mark == POISON:
            assert (end["status"], end["error"]["code"], end["attempts"]) == ("failed", "attempts_exhausted", 3)
            assert "SIGKILL" in end["error"]["detail"]
        else:
            assert end["status"] == "succeeded"
            assert end["results"][0]["labels"][0]["label"] == pictures.labels[picture.name]
            assert end["attempts"] <= 2


def test_12_a_sigterm_during_fifty_uploads_loses_none_that_was_accepted(begin: Begin) -> None:
    world = begin(PAUSED)
    half = threading.Barrier(UPLOADS + 1)
    head = f"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(CAT)}\r\n"

    def upload(number: int) -> tuple[int, str]:
        """Returns the status, or 0 if the connection broke, and the prediction's id."""
        key = f"Prefer: respond-async\r\nIdempotency-Key: upload-{number}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", world.service.port), timeout=30) as end:
            end.sendall((head + key).encode() + CAT[:5000])
            half.wait(30)
            time.sleep(number * 0.01)  # so that uploads end before, while and after the server stops to listen
            with suppress(OSError):
                end.sendall(CAT[5000:])
                response = http.client.HTTPResponse(end)
                response.begin()
                return response.status, str(json.loads(response.read()).get("id", ""))
        return 0, ""

    with ThreadPoolExecutor(UPLOADS) as pool:
        done = [pool.submit(upload, number) for number in range(UPLOADS)]
        half.wait(30)
        began = time.monotonic()
        life = world.end(signal.SIGTERM)
        took = time.monotonic() - began
        answers = [one.result() for one in done]
    assert life.status == 0
    assert took < 20
    assert {status for status, _ in answers} <= {0, 202, 503}, Counter(status for status, _ in answers)
    found = disk(world)
    assert (found["missing"], found["orphans"]) == ([], 0)
    assert {key for _, key in answers if key} <= {row[0] for row in found["rows"]}


def test_30_a_clock_that_jumps_ends_nothing_early(begin: Begin, zygote: Zygote) -> None:
    settings = ("server.tickSeconds=0.3", "server.lease.seconds=60", "server.lease.reclaimSeconds=0.3")
    world = begin(*settings, "tiers.free.waits.queueSeconds=1800", "tiers.premium.quota.pods=0")
    ids = [world.service.post("free", CAT, ASYNC).json["id"] for _ in range(3)]
    channel = work_in(world)
    channel.grant(1)
    (one,) = channel.lease()
    try:
        for jump in (HOUR, -HOUR, 0.0):
            zygote.shift(jump)
            late = world.service.post("premium", CAT, {"Cancel-After": "1s", "Prefer": "wait=30"})
            assert (late.status, late.json["code"]) == (504, "deadline_passed"), "a second is a second"
            states = Counter(world.get(f"/v1/predictions/{key}").json["status"] for key in ids)
            assert states == {"leased": 1, "queued": 2}
            assert channel.hold([one]) == []
    finally:
        zygote.shift(0.0)
    channel.grant(1)
    assert channel.lease()
    channel.close()


def test_43_a_full_queue_of_the_first_version_is_worked_off(begin: Begin, tmp_path: Path) -> None:
    """The data are a dump of the first version, with pictures for its rows."""
    data = tmp_path / "world" / "state" / "data"
    (data / "blobs").mkdir(parents=True)
    with sqlite3.connect(data / "queue.db") as connection:
        connection.executescript((ROOT / "tests/server/queue/dumps/sqlite-1.sql").read_text())
        connection.execute("UPDATE predictions SET owner = 'anonymous'")  # as in all data from before there were keys
        rows = connection.execute("SELECT id, status FROM predictions WHERE tier = 'free'").fetchall()
    connection.close()
    alive = [key for key, status in rows if status in ("queued", "leased")]
    assert alive
    for key in alive:
        (data / "blobs" / key).write_bytes(struct.pack(">II", 1, len(CAT)) + CAT)
    world = begin("server.tickSeconds=0.3", "tiers.premium.quota.pods=0", real=True)
    assert all(is_cat(world.get(f"/v1/predictions/{key}?wait=30")) for key in alive)
    (ended,) = (key for key, status in rows if status == "succeeded")
    assert world.get(f"/v1/predictions/{ended}").json["results"][0]["labels"]
    assert is_cat(world.service.post("free", CAT))
