"""Bodies that come too slowly, or in pieces that are too small, are ended."""

from __future__ import annotations

import pytest

from server.http.bodies import PIECE_BYTES, PIECES_FREE
from server.http.slow_bodies import GRACE_SECONDS, SLOWEST_BYTES
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, Site
from tests.server.http.test_uploads import (
    CHUNK,
    CHUNKED,
    CHUNKED_POST,
    HEAD,
    MEGABYTE,
    START,
    answer_of,
    assert_all_memory_is_free,
    chunk,
    connected,
)
from tests.waiting import eventually


def test_an_upload_that_is_too_slow_ends_with_408(site: Site) -> None:
    with site.connected() as slow, site.connected() as fast:
        slow.sendall(CHUNKED + START)
        fast.sendall(CHUNKED + START + CHUNK)
        eventually(lambda: site.call(site.services.uploads.used) > MEGABYTE, ANSWER_SECONDS, "both have begun")
        site.pace_clock.advance(GRACE_SECONDS + 1)
        status, head, problem = answer_of(slow)
        assert (status, problem["code"]) == (408, "too_slow")
        assert (problem["limit_bytes_per_second"], problem["received_bytes"]) == (SLOWEST_BYTES, len(PICTURE))
        assert "Connection: close" in head
        assert slow.recv(10) == b""
        fast.sendall(b"0\r\n\r\n")
        assert fast.recv(100).startswith(b"HTTP/1.1 20")
    assert_all_memory_is_free(site)


def body_is_awaited(site: Site) -> None:
    eventually(lambda: site.call(lambda: len(site.services.slow_bodies.coming)), ANSWER_SECONDS, "a body is awaited")


@pytest.mark.parametrize("internal", [False, True])
def test_a_slow_body_is_ended_on_every_route(site: Site, internal: bool) -> None:
    with connected(site.internal if internal else site) as connection:
        connection.sendall(CHUNKED_POST % (b"/nope", b"") + b"1\r\nx\r\n")
        eventually(lambda: set(site.services.underway), ANSWER_SECONDS, "it is under way")
        body_is_awaited(site)
        site.pace_clock.advance(GRACE_SECONDS + 1)
        assert answer_of(connection)[0] == 408


def test_a_refused_client_that_stays_silent_is_hung_up_on(site: Site) -> None:
    with site.connected() as connection:
        connection.sendall(HEAD.replace(b"/free", b"/gold") + b"Content-Length: 5000\r\n\r\n")
        assert answer_of(connection)[0] == 404
        body_is_awaited(site)
        site.pace_clock.advance(GRACE_SECONDS + 1)
        assert connection.recv(10) == b""
    site.idle()


def test_a_request_that_waits_for_its_result_is_not_too_slow(site: Site) -> None:
    with site.connected() as connection:
        connection.sendall(CHUNKED.replace(b"respond-async", b"wait=60") + START + b"0\r\n\r\n")
        token = site.job()
        (leased,) = site.lease(token)
        assert site.call(lambda: list(site.services.slow_bodies.coming)) == []
        site.complete(leased, token)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", [b"/img-classification/free", b"/nope"])
def test_a_body_in_tiny_chunks_is_refused(shared: Site, path: bytes) -> None:
    with shared.connected() as connection:
        connection.sendall(CHUNKED_POST % (path, b"") + START + (PIECES_FREE + 100) * b"1\r\nx\r\n")
        status, _, problem = answer_of(connection)
        assert (status, problem["code"], problem["limit_bytes"]) == (400, "tiny_pieces", PIECE_BYTES)
    assert_all_memory_is_free(shared)


def test_a_picture_in_small_chunks_is_taken(shared: Site) -> None:
    with shared.connected() as connection:
        connection.sendall(CHUNKED + START + 3000 * chunk(300 * b"x") + b"0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 20")


def test_a_client_that_waits_to_send_is_refused_at_once(shared: Site) -> None:
    head = HEAD.replace(b"/free", b"/gold") + b"Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n"
    with shared.connected() as connection:
        connection.sendall(head)
        status, head_of_answer, _ = answer_of(connection)
        assert (status, "Connection: close" in head_of_answer) == (404, True)
        assert connection.recv(10) == b""


def test_a_body_may_come_in_some_pieces_of_any_size(shared: Site) -> None:
    with shared.connected() as connection:
        connection.sendall(CHUNKED + START + (PIECES_FREE - 10) * chunk(b"x") + b"0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 20")


def test_the_speed_of_a_body_does_not_count_at_first(site: Site) -> None:
    with site.connected() as connection:
        connection.sendall(CHUNKED + START)
        body_is_awaited(site)
        site.pace_clock.advance(GRACE_SECONDS - 1)
        site.call(site.services.slow_bodies.look)
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 20")
