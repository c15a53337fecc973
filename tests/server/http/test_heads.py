"""A head that cannot be read is answered as a problem with a stable code, whatever it is, and costs no traceback."""

from __future__ import annotations

import logging
import re
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tornado.httputil import HTTPServerRequest, parse_request_start_line

from server.http import heads
from server.problems import Problem
from tests.server.http import raw
from tests.server.http.http_site import PICTURE, Site, assert_problem

POST = b"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nPrefer: respond-async\r\n"
FREE = POST + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(PICTURE)
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ALL = raw.BAD_HEADS | {
    f"{place} {name}": (head + lines + b"\r\n\r\n", status, code)
    for place, head in {"POST": POST, "GET": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"}.items()
    for name, (lines, status, code) in raw.LENGTHS.items()
}


@pytest.mark.parametrize("name", ALL)
def test_a_head_that_cannot_be_read_is_answered_as_a_problem(
    shared: Site, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data, status, code = ALL[name]
    for port in (shared.port, shared.internal.port):
        answer = raw.parsed(raw.send(port, data))
        assert_problem(answer, status, code)
        assert answer.headers["Connection"] == "close"
        assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert caplog.records == []


KEY = b"tsk_0123456789ab_0123456789abcdefghjkmnpqrstvwxyz"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/predictions/%s\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n" % KEY,
        b"%s\r\n\r\n" % KEY,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\x01\r\n\r\n" % KEY,
        b"GET / HTTP/1.1\r\nHost: %s/\r\n\r\n" % KEY,
    ],
    ids=["target", "request line", "header", "host"],
)
def test_no_key_comes_back_in_what_is_said_of_a_head(shared: Site, head: bytes) -> None:
    answer = raw.parsed(raw.send(shared.port, head))
    assert answer.status == 400
    assert KEY[-20:] not in answer.body


def test_a_head_that_is_too_large_names_the_limit(shared: Site) -> None:
    too_long, too_many = (raw.BAD_HEADS[name][0] for name in ("17 KB in a header", "101 lines"))
    assert raw.parsed(raw.send(shared.port, too_long)).json["limit_bytes"] == 16384
    assert raw.parsed(raw.send(shared.port, too_many)).json["limit_lines"] == 100


def test_the_largest_head_is_served_however_it_comes(shared: Site) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nA: "
    head += b"b" * (16384 - len(head) - 4) + b"\r\n\r\n"
    assert len(head) == heads.HEAD_BYTES
    assert raw.parsed(raw.send(shared.port, head)).status == 200
    with raw.connect(shared.port) as connection:
        for start in range(0, len(head), 1000):
            connection.sendall(head[start : start + 1000])
        assert raw.parsed(raw.rest(connection)).status == 200


def test_what_was_answered_before_a_bad_head_stays_answered(shared: Site) -> None:
    good = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    data = raw.send(shared.port, 2 * good + b"nonsense\r\n\r\n" + good)
    assert re.findall(rb"HTTP/1\.1 (\d+)", data) == [b"200", b"200", b"400"]


def test_refused_heads_are_counted_by_their_codes(site: Site) -> None:
    raw.send(site.port, b"nonsense\r\n\r\n")
    body = site.internal.get("/metrics").body
    assert b'tierserve_rejected_requests_total{code="bad_request_line",tier=""} 1.0' in body
    assert b'tierserve_http_requests_total{method="other",route="other",status="400"} 1.0' in body


BROKEN_CHUNKS = [b"xyz\r\n", b"-5\r\n", b"\r\n", b"1\r\nab\r\n", b"0\r\nTrailer: x\r\n\r\n", b"f" * 5000]


@pytest.mark.parametrize("body", BROKEN_CHUNKS)
def test_a_body_in_broken_chunks_is_answered_as_a_problem(
    shared: Site, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = raw.parsed(raw.send(shared.port, CHUNKED + body))
    assert_problem(answer, 400, "bad_chunk")
    shared.idle()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_request_that_is_taken_gets_its_100_before_its_body_is_sent(site: Site) -> None:
    with raw.connect(site.port) as connection:
        connection.sendall(FREE)
        assert raw.read(connection).status == 100
        connection.sendall(PICTURE + FREE)
        assert raw.read(connection).status == 202
        assert raw.read(connection).status == 100
        connection.sendall(PICTURE)
        assert raw.read(connection).status == 202


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (FREE.replace(b"/free", b"/gold"), 404),
        (FREE.replace(b"localhost", b"evil.example"), 421),
        (POST + b"Content-Type: image/jpeg\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n", 413),
        (FREE.replace(b"POST", b"PURR"), 405),
    ],
)
def test_a_request_that_is_refused_from_its_head_gets_no_100(shared: Site, head: bytes, status: int) -> None:
    with raw.connect(shared.port) as connection:
        connection.sendall(head)
        assert raw.read(connection).status == status
        connection.shutdown(socket.SHUT_WR)
        assert raw.rest(connection) == b""


def test_only_who_expects_it_gets_a_100(shared: Site) -> None:
    for other in (b"HTTP/1.0", b"HTTP/1.1\r\nX-Expect: 100-continue"):
        head = FREE.replace(b"HTTP/1.1", other, 1)
        if b"X-Expect" in other:
            head = head.replace(b"\r\nExpect: 100-continue", b"")
        with raw.connect(shared.port) as connection:
            connection.sendall(head + PICTURE)
            assert raw.read(connection).status == 202
    empty = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n"
    with raw.connect(shared.port) as connection:
        connection.sendall(empty)
        assert raw.read(connection).status == 200


PIECES = (
    b"GET|POST| |/|*|http://a/|?a&b|%00|%ff|HTTP/1.1|HTTP/1.0|HTTP/2.0|\r\n|\n|\r|Host|: |:|localhost|[::1]:80|,|\t|"
    b"Content-Length|Transfer-Encoding|chunked|-1|\x00|\xff|Expect|100-continue|Origin|null"
)
tokens = st.sampled_from([*PIECES.split(b"|"), b"9" * 5000])


@given(st.lists(tokens | st.binary(max_size=20), max_size=30).map(b"".join))
@example(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
def test_any_head_is_read_or_refused_and_tornado_takes_what_is_read(data: bytes) -> None:
    for given_head in (data + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n" + data + b"\r\n\r\n"):
        try:
            line, headers = heads.read(given_head)
        except Problem as problem:
            assert problem.status in (400, 431)
            continue
        HTTPServerRequest(start_line=parse_request_start_line(line), headers=headers)
