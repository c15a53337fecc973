"""Bytes to a port, and the answers in what comes back."""

from __future__ import annotations

import socket
from contextlib import suppress

from tests.running import Answer
from tests.server.http.http_site import ANSWER_SECONDS

BAD_HEADS = {
    "no request": (b"\x00\xff\x01 \r\n\r\n", 400, "bad_request_line"),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", 400, "bad_request_line"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_http_version"),
    "HTTP/3": (b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 400, "bad_http_version"),
    "no version": (b"GET / HTTP/x\r\nHost: localhost\r\n\r\n", 400, "bad_request_line"),
    "method in two words": (b"GET it / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_request_line"),
    "empty target": (b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_request_line"),
    "NUL in the target": (b"GET /a\x00b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_request_line"),
    "target in Latin-1": (b"GET /\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_target"),
    "URL of no web": (b"GET ftp://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_target"),
    "URL without a host": (b"GET http:///healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_target"),
    "URL with a user": (b"GET http://me@localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_target"),
    "URL and no Host": (b"GET http://localhost/healthz HTTP/1.1\r\n\r\n", 400, "bad_host"),
    "asterisk": (b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_target"),
    "authority": (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_target"),
    "a hundred fields": (b"GET /?" + b"a&" * 100 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_target"),
    "no Host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "bad_host"),
    "empty Host": (b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", 400, "bad_host"),
    "two Hosts": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400, "bad_host"),
    "broken Host": (b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "bad_host"),
    "user in Host": (b"GET /healthz HTTP/1.1\r\nHost: me@localhost\r\n\r\n", 400, "bad_host"),
    "header without a colon": (b"GET / HTTP/1.1\r\nHost: localhost\r\nnothing\r\n\r\n", 400, "bad_header"),
    "folded header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n", 400, "bad_header"),
    "NUL in a header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\x00\r\n\r\n", 400, "bad_header"),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost: localhost\r\nA : b\r\n\r\n", 400, "bad_header"),
    "17 KB in a header": (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 17000 + b"\r\n\r\n",
        431,
        "head_too_large",
    ),
    "17 KB without an end": (b"GET /" + b"b" * 17000, 431, "head_too_large"),
    "3 MB without an end": (b"GET /" + b"b" * 3_000_000, 431, "head_too_large"),
    "101 lines": (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431, "head_too_large"),
}
LENGTHS = {
    "a word": (b"Content-Length: ten", 400, "bad_length"),
    "nothing": (b"Content-Length:", 400, "bad_length"),
    "a power": (b"Content-Length: \xb2", 400, "bad_length"),
    "negative": (b"Content-Length: -1", 400, "bad_length"),
    "a sign": (b"Content-Length: +1", 400, "bad_length"),
    "hexadecimal": (b"Content-Length: 0x10", 400, "bad_length"),
    "underscore": (b"Content-Length: 1_0", 400, "bad_length"),
    "5,000 digits": (b"Content-Length: " + b"9" * 5000, 400, "bad_length"),
    "two": (b"Content-Length: 3\r\nContent-Length: 4", 400, "bad_length"),
    "the same twice": (b"Content-Length: 3\r\nContent-Length: 3", 400, "bad_length"),
    "a list": (b"Content-Length: 3, 3", 400, "bad_length"),
    "beside chunks": (b"Content-Length: 3\r\nTransfer-Encoding: chunked", 400, "bad_length"),
    "an unknown coding": (b"Transfer-Encoding: gzip", 400, "bad_transfer_encoding"),
    "two codings": (b"Transfer-Encoding: gzip, chunked", 400, "bad_transfer_encoding"),
    "chunks twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, "bad_transfer_encoding"),
    "an identity": (b"Transfer-Encoding: identity", 400, "bad_transfer_encoding"),
}


def connect(port: int) -> socket.socket:
    """A connection to a port of this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)


def send(port: int, data: bytes) -> bytes:
    """Send bytes and return everything that comes until the server closes the connection."""
    with connect(port) as connection:
        with suppress(OSError):
            connection.sendall(data)
        return rest(connection)


def rest(connection: socket.socket) -> bytes:
    """Everything that comes until the server closes the connection."""
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer


def read(connection: socket.socket) -> Answer:
    """The next answer on a connection; its length must be in its head."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(1)
        assert part, data
        data += part
    length = int(parsed(data).headers.get("Content-Length", "0"))
    while len(data) < data.index(b"\r\n\r\n") + 4 + length:
        data += connection.recv(65536)
    return parsed(data)


def parsed(data: bytes) -> Answer:
    """The one answer that these bytes are."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin1").split("\r\n")
    assert first.startswith("HTTP/1.1 "), data
    return Answer(int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body)
