"""Connections are bounded: the silent make room, the slow are ended, and each port keeps its share."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.http import connections, heads, listener, routes
from server.http.descriptors import Shares
from tests.running import ROOT
from tests.server.http import raw
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, Site, assert_problem, running
from tests.waiting import eventually

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
WAITING = b"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\n" + (
    b"Content-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE
)
MOST = 4


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site with few connections at once."""
    monkeypatch.setattr(routes, "shares", lambda: Shares(public=MOST, streams=MOST, internal=MOST, lingering=MOST))
    monkeypatch.setattr(listener, "FRESH_SECONDS", -1.0)
    with running(tmp_path) as found:
        yield found


def opened(port: int, held: ExitStack, source: str = "127.0.0.1") -> socket.socket:
    address = ("127.0.0.1", port)
    return held.enter_context(socket.create_connection(address, ANSWER_SECONDS, source_address=(source, 0)))


def asked(connection: socket.socket) -> int:
    connection.sendall(GET)
    return raw.read(connection).status


def kept_waiting(site: Site, held: ExitStack) -> socket.socket:
    """A connection whose request waits for its result."""
    connection, before = opened(site.port, held), len(site.services.underway)
    connection.sendall(WAITING)
    eventually(lambda: len(site.services.underway), ANSWER_SECONDS, "it is under way", lambda now: now > before)
    return connection


def uploading(site: Site, held: ExitStack, source: str = "127.0.0.1") -> socket.socket:
    """A connection whose body has not all come."""
    connection, before = opened(site.port, held, source), len(site.services.underway)
    connection.sendall(WAITING[:-1])
    eventually(lambda: len(site.services.underway), ANSWER_SECONDS, "it is under way", lambda now: now > before)
    return connection


def assert_closed(connection: socket.socket) -> None:
    assert raw.rest(connection) == b""


def test_the_connection_that_is_silent_longest_makes_room(narrow: Site, caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as held:
        first, second, third, fourth = (opened(narrow.port, held) for _ in range(MOST))
        assert [asked(one) for one in (first, second, third, fourth, first)] == [200] * 5
        begun = opened(narrow.port, held)
        begun.sendall(GET[:10])
        assert_closed(second)
        assert asked(opened(narrow.port, held)) == 200
        assert_closed(third)
        begun.sendall(GET[10:])
        assert [raw.read(begun).status, asked(first)] == [200, 200]
    assert [record.getMessage() for record in caplog.records] == [
        f"1 connections that waited for their clients were closed for new ones: {MOST} are served"
    ]


def test_a_request_under_way_is_never_closed_for_a_new_one(narrow: Site) -> None:
    with ExitStack() as held:
        waiting = kept_waiting(narrow, held)
        for _ in range(3 * MOST):
            assert asked(opened(narrow.port, held)) == 200
        narrow.call(narrow.services.wakeups.drain)
        assert raw.read(waiting).status == 202


def test_the_address_with_the_most_connections_makes_room(narrow: Site) -> None:
    with ExitStack() as held:
        modest = opened(narrow.port, held)  # has asked for nothing, so that no answer to it can still be under way
        greedy = [opened(narrow.port, held, "127.0.0.2") for _ in range(MOST - 1)]
        others = [opened(narrow.port, held, "127.0.0.3") for _ in range(2)]
        assert_closed(greedy[0])
        assert_closed(greedy[1])
        assert [asked(one) for one in (modest, greedy[2], *others)] == [200] * MOST


def test_what_was_accepted_just_now_does_not_make_room(narrow: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "FRESH_SECONDS", 2.0)
    with ExitStack() as held:
        old = opened(narrow.port, held)
        assert asked(old) == 200
        time.sleep(2.1)
        many = [opened(narrow.port, held, "127.0.0.2") for _ in range(MOST)]
        assert_closed(old)
        late = opened(narrow.port, held, "127.0.0.3")
        assert [asked(one) for one in many] == [200] * MOST
        assert asked(late) == 200
        assert_closed(many[0])


def test_an_address_that_has_many_uploads_makes_room_with_the_oldest(
    narrow: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "GREEDY_SHARE", 0.5)
    with ExitStack() as held:
        modest = uploading(narrow, held)
        greedy = [uploading(narrow, held, "127.0.0.2") for _ in range(MOST - 1)]
        assert asked(opened(narrow.port, held, "127.0.0.3")) == 200
        greedy[0].sendall(bytes(1024 * 1024))  # more than the kernel keeps of what nobody reads
        turned_away = raw.parsed(raw.rest(greedy[0]))
        assert_problem(turned_away, 503, "busy")
        assert turned_away.headers["Retry-After"] == "1"
        for _ in range(MOST):  # from now on the new ones make room for each other
            assert asked(opened(narrow.port, held, "127.0.0.3")) == 200
        for one in (modest, *greedy[1:]):
            one.sendall(WAITING[-1:])
        narrow.call(narrow.services.wakeups.drain)
        assert [raw.read(one).status for one in (modest, *greedy[1:])] == [202] * (MOST - 1)


def test_requests_that_wait_for_an_end_are_answered_early_when_they_leave_no_room(narrow: Site) -> None:
    with ExitStack() as held:
        waiting = [kept_waiting(narrow, held) for _ in range(MOST - 1)]
        late = opened(narrow.port, held)
        late.sendall(WAITING)
        assert [raw.read(one).status for one in waiting[:2]] == [202] * 2


def test_when_all_have_requests_under_way_a_new_one_waits_its_turn(
    narrow: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "GREEDY_SHARE", 1.0)
    with ExitStack() as held:
        waiting = [uploading(narrow, held) for _ in range(MOST)]
        late = opened(narrow.port, held)
        late.sendall(GET)
        late.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.recv(1)
        late.settimeout(ANSWER_SECONDS)
        assert narrow.internal.get("/healthz").status == 200
        waiting[0].close()
        assert raw.read(late).status == 200
        again = opened(narrow.port, held)
        assert asked(again) == 200
        assert_closed(late)


def test_a_full_public_port_leaves_the_internal_one_alone(narrow: Site) -> None:
    with ExitStack() as held:
        worker = opened(narrow.internal.port, held)
        assert asked(worker) == 200
        for _ in range(10 * MOST):
            opened(narrow.port, held)
        assert asked(worker) == 200
        assert narrow.get("/healthz").status == 200


def test_a_head_must_come_quickly_even_if_it_keeps_coming(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    with raw.connect(site.port) as connection, raw.connect(site.port) as silent:
        connection.sendall(GET[:10])
        answer = raw.parsed(raw.rest(connection))
        assert_problem(answer, 408, "head_too_slow")
        assert answer.json["limit_seconds"] == 0.1
        assert asked(silent) == 200
        silent.sendall(GET[:10])
        assert_problem(raw.parsed(raw.rest(silent)), 408, "head_too_slow")
    with raw.connect(site.port) as dripping:
        answered = eventually(
            lambda: dripped(dripping), ANSWER_SECONDS, "it is answered between two drips", lambda data: data != b""
        )
        assert answered.startswith(b"HTTP/1.1 408 ")


def dripped(connection: socket.socket) -> bytes:
    """Return what the server has sent until now; if that is nothing, send one more byte of a head.

    In this order: a byte that comes after the server has hung up resets the connection, and the next send would fail.
    """
    connection.setblocking(False)
    try:
        return connection.recv(65536)
    except BlockingIOError:
        connection.settimeout(ANSWER_SECONDS)
        connection.sendall(b"G")
        return b""
    finally:
        connection.settimeout(ANSWER_SECONDS)


def test_an_idle_connection_is_closed_and_a_waiting_request_is_not(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.1)
    with ExitStack() as held:
        waiting, fresh, used = kept_waiting(site, held), opened(site.port, held), opened(site.port, held)
        assert asked(used) == 200
        assert_closed(fresh)
        assert_closed(used)
        site.call(site.services.wakeups.drain)
        assert raw.read(waiting).status == 202


def test_who_takes_no_answers_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TAKING_SECONDS", 0.1)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", site.port))
        connection.settimeout(0.1)
        config = GET.replace(b"/healthz", b"/config").replace(
            b"\r\n\r\n", b"\r\nX-Request-Id: " + b"x" * 64 + b"\r\n\r\n"
        )
        with pytest.raises(OSError):  # when the buffers between the two are full
            while True:
                connection.sendall(100 * config)
        eventually(site.tasks, ANSWER_SECONDS, "the server has closed it", lambda tasks: tasks == [])


def test_the_limits_are_those_of_the_docs() -> None:
    text = " ".join((ROOT / "docs" / "limits.md").read_text().split())
    for said in (
        f"at most {heads.HEAD_BYTES // 1024} KiB and {heads.HEAD_LINES} lines",
        f"complete {connections.HEAD_SECONDS:g} s after its first byte",
        f"closed after {connections.IDLE_SECONDS:g} s without a request",
        f"takes nothing of an answer for {connections.TAKING_SECONDS:g} s",
    ):
        assert said in text
