"""Models in the store of real servers: one is killed, one has a small disk, and two share a database and a bucket."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.small_disk import small_disk
from tests.postgres import Postgres, need_postgres
from tests.running import Client, Service, lacking, service
from tests.server.object_store import running
from tests.server.pushed_models import Pusher, record, sha256
from tests.service.conftest import PAUSED
from tests.service.pictures import CAT
from tests.waiting import eventually

MIB = 1024 * 1024
DISK_MIB = 96
SECONDS = 30.0


def operator(server: Service) -> Pusher:
    return Pusher(Client(server.internal_port), (server.state / "admin-token").read_text().strip())


def references(server: Service) -> list[str]:
    return [model["reference"] for model in operator(server).ask("GET", "models").json["models"]]


def store(server: Service) -> Path:
    return server.state / "data" / "store"


def begun(server: Service, data: bytes) -> http.client.HTTPConnection:
    """A connection on which the head of a file was sent, and nothing of its bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.internal_port, timeout=SECONDS)
    connection.putrequest("PUT", f"/v1/model-files/{sha256(data)}")
    for name, value in {**operator(server).headers, "Content-Length": str(len(data))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection


@pytest.fixture
def narrow(models: Path, tmp_path: Path) -> Iterator[Service]:
    """A server whose state is on a small disk."""
    with small_disk(tmp_path / "disk", DISK_MIB) as folder:
        if folder is None:
            lacking("only root can mount a small filesystem")
        else:
            with service(models, folder / "state", PAUSED) as found:
                yield found


def test_a_server_that_is_killed_in_a_push_has_nothing_of_it(models: Path, tmp_path: Path) -> None:
    data = random.Random(4).randbytes(8 * MIB)
    with service(models, tmp_path / "state", PAUSED) as server:
        kept = operator(server).push("kept", b"kept")
        connection = begun(server, data)
        connection.send(data[: 6 * MIB])
        name = f"{sha256(data)}.*"
        eventually(lambda: [path.stat().st_size for path in store(server).glob(name)], SECONDS, "bytes on disk", any)
        server.kill()
        connection.close()
        server.start()
        assert references(server) == [kept["reference"]]
        assert operator(server).ask("GET", f"model-files/{sha256(data)}").status == 404
        assert operator(server).ask("POST", "models", {"record": record("cut", data)}).json["code"] == "missing_file"
        operator(server).push("cut", data)


def test_a_push_does_not_fill_the_disk_of_the_pictures(narrow: Service) -> None:
    """12 MiB are the reserve of this disk, and as much the ballast; a push leaves four times the reserve."""
    first, second = (random.Random(number).randbytes(20 * MIB) for number in range(2))
    operator(narrow).push("first", first)
    connection = begun(narrow, second)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    assert (answer.status, told["code"]) == (507, "store_full")
    assert told["free_bytes"] - len(second) < told["reserve_bytes"]
    assert [path.name for path in store(narrow).iterdir()] == [sha256(first)]
    assert narrow.post("free", CAT, {"Prefer": "respond-async"}).status == 202
    assert references(narrow) == [operator(narrow).ask("GET", "models/first").json["reference"]]


def test_what_one_of_two_servers_is_given_the_other_has(models: Path, tmp_path: Path) -> None:
    need_postgres()
    data = random.Random(6).randbytes(9 * MIB)
    with Postgres() as postgres, running(tmp_path / "s3.log") as proxy, ExitStack() as stack:
        place = proxy.place()
        options = ["--database", postgres.url, "--blobs", f"s3://{place}"]
        first, second = (
            operator(stack.enter_context(service(models, tmp_path / name, PAUSED, options=options)))
            for name in ("first", "second")
        )
        first.send(data)
        answer = second.ask("POST", "models", {"record": record("flowers", data), "tags": ["best"]})
        assert answer.status == 201
        assert first.ask("GET", "models").json == second.ask("GET", "models").json
        assert [model["tags"] for model in first.ask("GET", "models").json["models"]] == [["best"]]
        assert second.ask("GET", f"model-files/{sha256(data)}").body == data
        assert proxy.names(place) == [f"models/{sha256(data)}"]
        assert first.ask("DELETE", f"models/{answer.json['reference']}").status == 200
        assert second.ask("GET", "models").json["models"] == []
