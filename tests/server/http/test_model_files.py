"""Files of models come and go whole or not at all, in little memory, and hold up nobody."""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from server.blobs import BlobError, BlobsFull
from server.http.internal.funnel import PIECE_BYTES, PIECES
from server.http.services import PUSHES, SENDS
from tests.running import Answer
from tests.server.http.http_site import (
    ADMIN_TOKEN,
    ANSWER_SECONDS,
    QUIET_SECONDS,
    Site,
    assert_problem,
)
from tests.server.http.store_site import MIB, connected, pusher, references, stored
from tests.server.pushed_models import record, sha256
from tests.waiting import eventually


def test_a_push_that_is_cut_in_the_middle_leaves_nothing(site: Site) -> None:
    data = random.Random(1).randbytes(5 * MIB)
    for sent in (0, 10, 3 * MIB, 5 * MIB - 1):
        connection = connected(site, "PUT", f"model-files/{sha256(data)}", {"Content-Length": len(data)})
        connection.send(data[:sent])
        connection.close()
        site.idle()
    eventually(lambda: stored(site), ANSWER_SECONDS, "nothing is left", lambda found: not found)
    assert pusher(site).ask("HEAD", f"model-files/{sha256(data)}").status == 404
    assert_problem(pusher(site).ask("POST", "models", {"record": record("flowers", data)}), 409, "missing_file")
    assert references(site) == []
    pusher(site).push("flowers", data)


def test_two_pushes_at_once_are_one_model(site: Site) -> None:
    data, operator = random.Random(2).randbytes(4 * MIB), pusher(site)
    both = [connected(site, "PUT", f"model-files/{sha256(data)}", {"Content-Length": len(data)}) for _ in range(2)]
    for part in (data[: 2 * MIB], data[2 * MIB :]):
        for connection in both:
            connection.send(part)
    assert [connection.getresponse().status in (200, 201) for connection in both] == [True, True]
    for connection in both:
        connection.close()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: operator.ask("POST", "models", {"record": record("a", data)}), range(2)))
    assert sorted(answer.status for answer in answers) == [200, 201]
    assert (len(references(site)), stored(site)) == (1, [sha256(data)])


def test_more_files_at_once_than_may_come_are_told_to_wait(site: Site) -> None:
    data = bytes(MIB)
    head = {"Content-Length": len(data)}
    slow = [connected(site, "PUT", f"model-files/{sha256(data)}", head) for _ in range(PUSHES)]
    eventually(site.services.pushes.locked, ANSWER_SECONDS, "all places are taken")
    answer = pusher(site).ask("PUT", f"model-files/{sha256(b'x')}", b"x")
    assert_problem(answer, 503, "busy")
    assert "Retry-After" in answer.headers
    for connection in slow:
        connection.close()
    eventually(site.services.pushes.locked, ANSWER_SECONDS, "the places are free", lambda locked: not locked)
    pusher(site).send(b"x")


@pytest.mark.parametrize("sent", [b"wrong", b"x" * (2 * MIB)])
def test_a_file_with_another_digest_is_not_kept(site: Site, sent: bytes) -> None:
    answer = pusher(site).ask("PUT", f"model-files/{sha256(b'right')}", sent)
    assert_problem(answer, 422, "wrong_digest")
    assert sha256(sent) in answer.json["detail"]
    assert stored(site) == []


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2Fdata%2Fqueue.db", "x", "A" * 64, "a" * 63 + "%0A", "a" * 65])
def test_no_name_of_a_file_leads_anywhere(shared: Site, name: str) -> None:
    for method in ("PUT", "GET", "HEAD"):
        answer = pusher(shared).ask(method, f"model-files/{name}", b"x" if method == "PUT" else None)
        assert answer.status == (422 if method == "PUT" else 404), answer
    assert stored(shared) == []


def test_a_file_needs_its_length(site: Site) -> None:
    connection = connected(site, "PUT", f"model-files/{sha256(b'x')}", {"Transfer-Encoding": "chunked"})
    connection.send(b"1\r\nx\r\n0\r\n\r\n")
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (411, "no_length")
    connection.close()
    assert_problem(pusher(site).ask("PUT", f"model-files/{sha256(b'')}", b""), 411, "no_length")
    assert stored(site) == []


class Sick:
    """Stands for a disk that does not take what comes."""

    def __init__(self, error: BlobError) -> None:
        self._error = error

    def __call__(self, *_: Any) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BlobsFull("no room", "disk_full", free_bytes=5, reserve_bytes=7), 507, "store_full"),
        (BlobsFull("the bucket is full", "bucket_full"), 507, "store_full"),
        (BlobError("the disk is sick"), 503, "storage_unavailable"),
    ],
)
@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_a_store_that_takes_nothing_says_so_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: BlobError, status: int, code: str, size: int
) -> None:
    """Also in the middle of a long file, of which the rest is not written."""
    monkeypatch.setattr(site.files, "put", Sick(error))
    data = bytes(size)
    connection = connected(site, "PUT", f"model-files/{sha256(data)}", {"Content-Length": size})
    connection.send(data[:5])
    answer = connection.getresponse() if size > 10 else None
    if answer is None:
        connection.send(data[5:])
        answer = connection.getresponse()
    told = json.loads(answer.read())
    assert (answer.status, told["code"]) == (status, code)
    if error.args[0] == "no room":
        assert (told["free_bytes"], told["reserve_bytes"]) == (5, 7)
    connection.close()


def test_a_reader_that_takes_nothing_holds_up_nobody(site: Site) -> None:
    data = random.Random(3).randbytes(8 * MIB)
    pusher(site).push("flowers", data)
    slow = socket.create_connection(("127.0.0.1", site.internal.port), timeout=ANSWER_SECONDS)
    head = f"GET /v1/model-files/{sha256(data)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
    slow.sendall(head.encode())

    def read(_: int) -> Answer:
        return pusher(site).ask("GET", f"model-files/{sha256(data)}")

    with ThreadPoolExecutor(8) as pool:
        assert all(answer.body == data for answer in pool.map(read, range(16)))
    slow.close()
    site.idle()


def test_more_readers_at_once_than_may_be_are_told_to_wait(site: Site) -> None:
    data = bytes(32 * MIB)
    pusher(site).push("flowers", data)
    head = {"Accept": "*/*"}
    slow = [connected(site, "GET", f"model-files/{sha256(data)}", head) for _ in range(SENDS)]
    eventually(site.services.sends.locked, ANSWER_SECONDS, "all places are taken")
    assert_problem(pusher(site).ask("GET", f"model-files/{sha256(data)}"), 503, "busy")
    for connection in slow:
        connection.close()
    eventually(site.services.sends.locked, ANSWER_SECONDS, "the places are free", lambda locked: not locked)
    assert pusher(site).ask("GET", f"model-files/{sha256(data)}").body == data


def test_a_file_that_cannot_be_read_to_its_end_is_broken_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(3 * MIB)
    pusher(site).push("flowers", data)
    whole = site.files.pieces

    def pieces(name: str) -> Iterator[bytes]:
        yield next(iter(whole(name)))
        raise BlobError("the disk is sick")

    monkeypatch.setattr(site.files, "pieces", pieces)
    connection = connected(site, "GET", f"model-files/{sha256(data)}", {})
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        connection.getresponse().read()
    connection.close()


def test_a_body_waits_for_the_disk_and_not_in_memory(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    size, released, whole = 40 * MIB, threading.Event(), site.files.put

    def slowly(name: str, size: int, chunks: Iterator[bytes]) -> None:
        assert released.wait(ANSWER_SECONDS)
        whole(name, size, chunks)

    monkeypatch.setattr(site.files, "put", slowly)
    data = bytes(size)
    connection = connected(site, "PUT", f"model-files/{sha256(data)}", {"Content-Length": size})
    with ThreadPoolExecutor(1) as pool, closing(connection):
        sending = pool.submit(connection.send, data)
        coming = eventually(lambda: list(site.services.slow_bodies.coming), ANSWER_SECONDS, "the body comes")
        try:
            most = (PIECES + 1) * PIECE_BYTES
            eventually(
                lambda: coming[0].body.received, ANSWER_SECONDS, "pieces", lambda size: size >= most - PIECE_BYTES
            )
            with pytest.raises(TimeoutError):
                sending.result(QUIET_SECONDS)
            assert coming[0].body.received <= most
        finally:
            released.set()
        sending.result(ANSWER_SECONDS)
        assert connection.getresponse().status == 201


def test_a_slow_body_is_ended(site: Site) -> None:
    connection = connected(site, "PUT", f"model-files/{sha256(bytes(MIB))}", {"Content-Length": MIB})
    connection.send(b"slow")
    eventually(lambda: site.services.slow_bodies.coming, ANSWER_SECONDS, "the body has begun")
    site.pace_clock.advance(60)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (408, "too_slow")
    connection.close()
    eventually(lambda: stored(site), ANSWER_SECONDS, "nothing is left", lambda found: not found)
