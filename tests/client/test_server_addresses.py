"""A URL that cannot be right, and whatever answers there instead of a server, is explained in one sentence."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.running import free_port
from tierserve import AsyncClient, Client, Misconfigured, Refused, TierserveError, connecting
from tierserve.addresses import server_url
from tierserve.keys import Keys

REFUSAL = json.dumps({"code": "too_large", "detail": "too large"}).encode()
REFUSED = b"HTTP/1.1 413 Large\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(REFUSAL), REFUSAL)
TIERS = b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 12\r\n\r\n{"tiers":[]}'
Serve = Callable[[socket.socket], None]


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        (" https://classify.example.org/path/\n", "https://classify.example.org/path"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("127.0.0.2", "http://127.0.0.2"),
        ("localhost", "http://localhost"),
        ("localhost:9000/", "http://localhost:9000"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("http://user:word@[::1]:9000", "http://user:word@[::1]:9000"),
    ],
)
def test_the_scheme_can_be_left_out_for_this_machine(given: str, url: str) -> None:
    assert server_url(given) == url


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("classify.example.org", "https://classify.example.org, or http://classify.example.org if nobody else can"),
        ("user:hunter2@10.0.0.1:80", "https://10.0.0.1:80, or"),
        *((url, "is like http://127.0.0.1:8080") for url in ("", "http:", "http://", ":8080", "ftp://x", "file:///x")),
        *(
            (url, "is like http://127.0.0.1:8080")
            for url in ("http://x?y", "http://x#y", "http://[::1", "http://x:99999")
        ),
    ],
)
def test_what_cannot_be_the_url_of_a_server_is_refused(given: str, said: str) -> None:
    for ask in (server_url, lambda url: Keys(url, "token")):
        with pytest.raises(Misconfigured, match="the URL") as refused:
            ask(given)
        assert said in str(refused.value)
        assert "hunter2" not in str(refused.value)


@contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """A port on which each connection is served so, and then reset."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    serve(connection)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def saying(answer: bytes) -> Serve:
    """Read a request, give this answer, and close in good order."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)

    return serve


def error_at(url: str) -> str:
    """What is said when the tiers of a server are asked for, and what is said to operators."""

    async def ask() -> None:
        async with AsyncClient(url, "") as client:
            await client.tiers()

    with pytest.raises(TierserveError) as first:
        asyncio.run(ask())
    with pytest.raises(TierserveError) as second:
        Keys(url, "token").keys()
    assert "\n" not in f"{first.value}{second.value}"
    if "answered" not in str(first.value):
        assert str(first.value) == str(second.value)
    return str(first.value)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """What a server of TLS needs, with a certificate of its own."""
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -subj /CN=x"
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_tls_on_one_side_only_is_told(tls: ssl.SSLContext) -> None:
    def encrypted(connection: socket.socket) -> None:
        tls.wrap_socket(connection, server_side=True).close()

    with serving(encrypted) as port:
        assert "If it speaks TLS, its URL begins with https" in error_at(f"http://127.0.0.1:{port}")
        said = error_at(f"https://127.0.0.1:{port}")
        assert "is not accepted: self-signed certificate" in said
        assert "SSL_CERT_FILE" in said
    with serving(saying(b"HTTP/1.1 400 Bad\r\n\r\n")) as port:
        said = error_at(f"https://127.0.0.1:{port}")
        assert "does not speak TLS" in said
        assert "may begin with http" in said


def test_a_port_with_nothing_or_something_else_is_told() -> None:
    said = error_at(f"http://127.0.0.1:{free_port()}")
    assert said.startswith("no server answers at http://127.0.0.1:")
    assert "(Connection refused). On a laptop, start one: make run." in said
    with serving(saying(b"220 mail.example.org ESMTP\r\n")) as port:
        assert "does not speak HTTP" in error_at(f"http://127.0.0.1:{port}")
    with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")) as port:
        assert "answered 200, and not as a server" in error_at(f"http://127.0.0.1:{port}")
    with serving(saying(b"")) as port:
        assert "was closed without an answer" in error_at(f"http://127.0.0.1:{port}")
    assert "there is no host 'no.invalid'" in error_at("http://no.invalid")


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "MOST_ANSWER_BYTES", 1_000_000)

    def endless(kind: bytes) -> Serve:
        def serve(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n")
            while True:
                connection.sendall(b" " * 65536)

        return serve

    with serving(endless(b"multipart/x-mixed-replace; boundary=frame")) as port:
        assert "answered 200, and not as a server" in error_at(f"http://127.0.0.1:{port}")
    with serving(endless(b"application/json")) as port:
        assert "an answer has more than 1000000 bytes" in error_at(f"http://127.0.0.1:{port}")


def early(connection: socket.socket) -> None:
    """Refuse a picture in the middle of it, and reset the connection at once."""
    if connection.recv(65536).startswith(b"GET"):
        connection.sendall(TIERS)
        return
    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    left = 600_000
    while left > 0 and (part := connection.recv(65536)):
        left -= len(part)
    connection.sendall(REFUSED)


def at_once(connection: socket.socket) -> None:
    """Refuse a picture by its head, and reset the connection at once."""
    connection.sendall(TIERS if connection.recv(65536).startswith(b"GET") else REFUSED)


@pytest.mark.parametrize("serve", [early, at_once])
@pytest.mark.parametrize("size", [900_000, 5_000_000, 20_000_000])
def test_a_refusal_is_read_though_the_connection_breaks(serve: Serve, size: int) -> None:
    async def ask(url: str) -> None:
        for _ in range(5):
            async with AsyncClient(url, "", patience=0) as client:
                await client.tiers()
                with pytest.raises(Refused, match="too_large"):
                    await client.classify(b"x" * size)

    with serving(serve) as port:
        asyncio.run(ask(f"http://127.0.0.1:{port}"))


def test_a_password_in_the_url_is_never_shown() -> None:
    url = f"http://user:hunter2@127.0.0.1:{free_port()}"
    with (
        Client(url, "") as client,
        pytest.raises(TierserveError, match=r"no server answers at http://127\.") as refused,
    ):
        client.tiers()
    assert "hunter2" not in str(refused.value)
    with pytest.raises(Misconfigured, match="has no user name and no password"):
        Keys(url, "token")


def test_a_broken_connection_says_how_much_was_sent() -> None:
    def hang_up(connection: socket.socket) -> None:
        if connection.recv(65536).startswith(b"GET"):
            connection.sendall(TIERS)

    async def ask(url: str) -> str:
        async with AsyncClient(url, "", patience=0) as client:
            await client.tiers()
            with pytest.raises(TierserveError) as broken:
                await client.classify(b"x" * 500_000)
        return str(broken.value)

    with serving(hang_up) as port:
        assert "while 500000 bytes were sent: they may be too many for a proxy" in asyncio.run(
            ask(f"http://127.0.0.1:{port}")
        )
