"""Bodies take no memory and no time that was not granted: they are bounded by route, and counted while they arrive."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.http import lingering
from server.http.bodies import SMALL_BYTES, SOON_BYTES
from server.http.internal.messages import MESSAGE_LEAST, longest_message
from server.http.internal.wire import BAD_MESSAGE
from server.intake.texts import MARKS_MOST
from tests.running import MODEL, Answer, Client
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, Site, assert_problem, running
from tests.waiting import eventually

MEGABYTE = 1024 * 1024
HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
HEAD = b"POST /img-classification/free" + HOST + b"Content-Type: image/jpeg\r\nPrefer: respond-async\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
START = b"%x\r\n%b\r\n" % (len(PICTURE), PICTURE)
CHUNK = b"100000\r\n" + bytes(MEGABYTE) + b"\r\n"
FORM = HEAD.replace(b"image/jpeg", b"multipart/form-data; boundary=XX") + b"Transfer-Encoding: chunked\r\n\r\n"
PART = b'--XX\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
CHUNKED_POST = b"POST %b HTTP/1.1\r\nHost: localhost\r\n%bTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def connected(client: Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", client.port), timeout=ANSWER_SECONDS)


def answer_of(connection: socket.socket) -> tuple[int, str, dict[str, object]]:
    """The status, the head and the problem that come on a connection."""
    data = b""
    while not data.endswith(b"}"):
        part = connection.recv(65536)
        assert part, data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), json.loads(body)


def assert_all_memory_is_free(site: Site) -> None:
    site.idle()
    eventually(
        lambda: site.call(lambda: site.services.uploads.used() + site.services.work.used()),
        ANSWER_SECONDS,
        "no memory is held",
        lambda used: used == 0,
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 413),
        ("POST", "/nope", 413),
        ("GET", "/v1/tiers", 413),
        ("DELETE", "/v1/predictions/" + "p" + 34 * "0", 413),
        ("PUT", "/config", 405),
        ("GET", "/img-classification/free", 405),
        ("POST", "/img-classification/gold", 404),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_route_without_a_body_drops_a_small_one_and_takes_no_large_one(
    shared: Site, method: str, path: str, status: int, chunked: bool
) -> None:
    def ask(body: bytes) -> Answer:
        if chunked:
            return shared.ask(method, path, chunk(body) + b"0\r\n\r\n", {"Transfer-Encoding": "chunked"})
        return shared.ask(method, path, body)

    assert ask(b"abc").status == shared.ask(method, path).status
    answer = ask(bytes(SMALL_BYTES + 1))
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json.get("limit_bytes", SMALL_BYTES) == SMALL_BYTES


@pytest.mark.parametrize("internal", [False, True])
@pytest.mark.parametrize("path", [b"/nope", b"/work/lease", b"/img-classification/gold", b"/metrics"])
def test_a_refused_body_that_does_not_end_is_cut_off_on_every_route(
    shared: Site, internal: bool, path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "LINGER_BYTES", MEGABYTE)
    with connected(shared.internal if internal else shared) as connection:
        connection.sendall(CHUNKED_POST % (path, b"") + chunk(bytes(SMALL_BYTES + 1)))
        assert answer_of(connection)[0] in (401, 404, 405, 410, 413)
        sent = 0
        with pytest.raises(OSError):
            while sent < 100 * MEGABYTE:
                connection.sendall(CHUNK)
                sent += len(CHUNK)
    assert_all_memory_is_free(shared)


def test_a_stranger_on_the_internal_port_is_refused_before_its_body(shared: Site) -> None:
    head = (
        b"GET /work/channel HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nContent-Length: 1000000\r\n\r\n"
    )
    with connected(shared.internal) as connection:
        connection.sendall(head)
        status, _, problem = answer_of(connection)
        assert (status, problem["code"]) == (401, "bad_worker_token")
    assert_all_memory_is_free(shared)


def test_an_older_worker_is_dismissed_though_its_results_are_long(shared: Site) -> None:
    assert_problem(shared.internal.ask("POST", "/work/complete", bytes(MEGABYTE)), 410, "other_worker_protocol")
    assert_all_memory_is_free(shared)


def test_the_messages_of_workers_are_bounded(shared: Site) -> None:
    longest = longest_message(8)
    text = '{"credits": 1' + (longest - 14) * " " + "}"
    token = shared.job("bounded")
    channel = shared.worker(token)
    channel.say(text)
    assert channel.hold() == []
    closed = shared.rejected(token, text + " ")
    assert (closed.code, str(longest) in closed.reason) == (BAD_MESSAGE, True)
    assert_all_memory_is_free(shared)


def test_results_may_be_as_long_as_those_of_several_large_predictions(shared: Site) -> None:
    labels = [{"label": 200 * "x", "score": 0.123456789} for _ in range(100)]
    result = {"id": "p" * 35, "token": "t" * 35, "model": MODEL, "results": 8 * [{"labels": labels}], "predict_ms": 8}
    assert shared.hand_in(8 * [result], shared.job("long")) == 8 * ["unknown"]
    assert longest_message(1) == MESSAGE_LEAST
    assert_all_memory_is_free(shared)


def test_a_picture_without_a_length_is_refused_as_soon_as_it_is_too_long(shared: Site) -> None:
    status, _, problem = exchange(shared, CHUNKED + START + 11 * CHUNK)
    assert (status, problem["code"], problem["limit_bytes"]) == (413, "too_many_bytes", 10 * MEGABYTE)
    assert_all_memory_is_free(shared)


def exchange(site: Site, data: bytes) -> tuple[int, str, dict[str, object]]:
    with site.connected() as connection:
        connection.sendall(data)
        return answer_of(connection)


def test_json_that_is_not_pictures_is_refused_after_a_few_of_its_bytes(shared: Site) -> None:
    head = CHUNKED_POST % (b"/img-classification/free", b"")
    with shared.connected() as connection:
        connection.sendall(head + chunk(b'{"inputs":[' + 40_000 * b"[],"))
        status, _, problem = answer_of(connection)
    assert (status, problem["code"], problem["limit_marks"]) == (400, "bad_json", MARKS_MOST)
    assert_all_memory_is_free(shared)


def test_silent_uploads_hold_no_memory(shared: Site) -> None:
    head = HEAD.replace(b"image/jpeg", b"multipart/form-data; boundary=XX") + b"Content-Length: 80000000\r\n\r\n"
    with ExitStack() as held:
        for _ in range(8):
            held.enter_context(shared.connected()).sendall(head)
        eventually(lambda: len(shared.services.underway) == 8, ANSWER_SECONDS, "they are under way")
        assert shared.call(shared.services.uploads.used) == 0
        assert shared.submit().status == 202
    assert_all_memory_is_free(shared)


@pytest.mark.parametrize("head", [HEAD + b"Content-Length: 5000\r\n\r\n" + PICTURE, CHUNKED + START])
def test_what_a_client_sent_before_it_hung_up_is_free_again(site: Site, head: bytes) -> None:
    with site.connected() as connection:
        connection.sendall(head)
        eventually(lambda: site.call(site.services.uploads.used), ANSWER_SECONDS, "it is counted")
        assert site.call(site.services.uploads.used) == len(PICTURE)
    assert_all_memory_is_free(site)
    assert list(site.blobs.older_than(-3600)) == []
    eventually(site.tasks, ANSWER_SECONDS, "no task waits for the rest", lambda tasks: tasks == [])


def test_every_way_of_an_upload_gives_its_memory_back(site: Site) -> None:
    answers: list[Answer] = [
        site.submit(),
        site.submit(headers={"Idempotency-Key": "a"}),
        site.submit(headers={"Idempotency-Key": "a"}),
        site.submit(headers={"Idempotency-Key": "a"}, body=PICTURE + b"x"),
        site.submit(headers={"Cancel-After": "never"}),
        site.submit(body=b"no picture"),
        site.submit("gold"),
    ]
    assert [answer.status for answer in answers] == [202, 202, 202, 202, 400, 415, 404]
    assert_all_memory_is_free(site)


NAME_BYTES = 2  # of the picture in ``PART``, which take memory, too
SHARE = 2 * MEGABYTE  # of a tier, and of an address in it, where all uploads have twice as much


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Site]:
    """A site with little memory for uploads."""
    with running(tmp_path, upload_bytes=2 * SHARE) as site:
        yield site


def flood(site: Site, held: ExitStack, tier: bytes) -> socket.socket:
    """Send as much as an address may hold, but for the end."""
    connection = held.enter_context(site.connected())
    connection.sendall(FORM.replace(b"free", tier) + chunk(PART + PICTURE))
    connection.sendall(CHUNK + chunk(bytes(MEGABYTE - len(PICTURE) - NAME_BYTES)))
    return connection


def held_now(site: Site, size: int) -> None:
    used = site.services.uploads.used
    eventually(lambda: site.call(used), ANSWER_SECONDS, f"{size} bytes are held", lambda held: held == size)


def test_a_flood_of_one_tier_leaves_the_other_alone(small: Site) -> None:
    with ExitStack() as held:
        flood(small, held, b"free")
        flood(small, held, b"premium")
        held_now(small, 2 * SHARE)
    assert_all_memory_is_free(small)


def test_a_flood_gives_way_to_a_picture_even_of_its_own_address(small: Site) -> None:
    with ExitStack() as held:
        connection = flood(small, held, b"free")
        held_now(small, SHARE)
        assert small.submit().status == 202
        status, head, problem = answer_of(connection)
        assert (status, problem["code"], problem["limit_bytes"]) == (503, "busy", SHARE)
        assert "Retry-After: 1" in head
        held_now(small, 0)
    assert_all_memory_is_free(small)


def test_the_smaller_of_two_requests_is_taken(small: Site) -> None:
    with ExitStack() as held:
        first = flood(small, held, b"free")
        held_now(small, SHARE)
        second = held.enter_context(small.connected())
        second.sendall(FORM + chunk(PART + PICTURE) + CHUNK + chunk(b"\r\n--XX--\r\n") + b"0\r\n\r\n")
        assert answer_of(first)[0] == 503
        assert second.recv(100).startswith(b"HTTP/1.1 202 ")
    assert_all_memory_is_free(small)


def test_a_request_that_never_finds_a_place_is_told_so(small: Site) -> None:
    status, _, problem = exchange(small, FORM + chunk(PART + PICTURE) + 2 * CHUNK)
    assert (status, problem["code"], problem["limit_bytes"]) == (413, "too_many_bytes", SHARE)
    assert_all_memory_is_free(small)


@pytest.mark.parametrize(("length", "closes"), [(SOON_BYTES, False), (SOON_BYTES + 1, True)])
def test_a_connection_outlives_a_refused_body_that_is_not_too_long(shared: Site, length: int, closes: bool) -> None:
    head = HEAD.replace(b"/free", b"/gold") + b"Content-Length: %d\r\n\r\n" % length
    with shared.connected() as connection:
        connection.sendall(head)
        status, head_of_answer, _ = answer_of(connection)
        assert (status, "Connection: close" in head_of_answer) == (404, closes)
        connection.sendall(bytes(length))
        if closes:
            assert connection.recv(10) == b""
        else:
            connection.sendall(b"GET /healthz" + HOST + b"\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
