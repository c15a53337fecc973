"""Refusals arrive, at clients that send all of a request before they read.

How they could get lost: a socket is closed while bytes come, so that its system resets the connection; the rest is
received for too short a time, or not at all once the client has sent more than it announced; a server that stops takes
the last answers with it. And how the remedy could be abused: connections linger for ever, or in any number, or one
address drives out the others; their bytes are kept, or taken so fast that others wait.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError

import pytest

from server.http.bodies import PIECES_FREE
from server.http.lingering import LINGER_BYTES, LINGER_SECONDS, SILENT_SECONDS, Lingering
from server.http.slow_bodies import GRACE_SECONDS
from tests.server.given import HandClock
from tests.server.http import raw
from tests.server.http.http_site import ADMIN_TOKEN, ANSWER_SECONDS, PICTURE, Site, running
from tests.waiting import eventually

MIB = 1024 * 1024
JPEG = {"Content-Type": "image/jpeg"}


def picture(size: int) -> bytes:
    """So many bytes that begin like a picture."""
    return PICTURE + bytes(size - len(PICTURE))


def by_urllib(site: Site, path: str, size: int) -> int:
    asked = urllib.request.Request(f"http://127.0.0.1:{site.port}{path}", picture(size), JPEG)
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=ANSWER_SECONDS)
    refused.value.read()
    refused.value.close()
    return refused.value.code


def in_chunks(site: Site, path: str, size: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=ANSWER_SECONDS)
    pieces = iter([PICTURE, *[bytes(MIB)] * (size // MIB)])
    connection.request("POST", path, pieces, JPEG | {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def by_http_1_0(site: Site, path: str, size: int) -> int:
    with site.connected() as connection:
        connection.sendall(
            f"POST {path} HTTP/1.0\r\nContent-Type: image/jpeg\r\nContent-Length: {size}\r\n\r\n".encode()
            + picture(size)
        )
        return raw.parsed(raw.rest(connection)).status


def by_curl(site: Site, path: str, size: int, folder: Path) -> int:
    file = folder / f"{size}"
    file.write_bytes(picture(size))
    url = f"http://127.0.0.1:{site.port}{path}"
    asking = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect:", "-H", "Content-Type: image/jpeg"]
    command = [*asking, "--data-binary", f"@{file}", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS)
    return int(done.stdout)


@pytest.mark.parametrize("send", [by_urllib, in_chunks, by_http_1_0])
@pytest.mark.parametrize(("tier", "status"), [("free", 413), ("gold", 404)])
def test_a_refusal_reaches_a_client_that_sends_all_before_it_reads(
    shared: Site, send: Callable[[Site, str, int], int], tier: str, status: int
) -> None:
    sizes = [11 * MIB, 20 * MIB, 60 * MIB]
    assert [send(shared, f"/img-classification/{tier}", size) for size in sizes] == [status] * len(sizes)


def test_a_refusal_reaches_curl(shared: Site, tmp_path: Path) -> None:
    for size in (5 * MIB, 60 * MIB):
        assert by_curl(shared, "/img-classification/gold", size, tmp_path) == 404


def test_refusals_reach_forty_of_forty_at_once(shared: Site) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda _: by_urllib(shared, "/img-classification/free", 11 * MIB), range(40))
        assert list(found) == [413] * 40


def posted(tier: str, size: int) -> bytes:
    """The head of a POST of so many bytes."""
    head = f"POST /img-classification/{tier} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    return f"{head}Content-Length: {size}\r\n\r\n".encode()


@pytest.mark.parametrize("token", ["", ADMIN_TOKEN])
def test_a_refused_file_of_a_model_learns_why(shared: Site, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = shared.internal.ask("PUT", "/v1/model-files/no-digest", bytes(20 * MIB), headers)
    assert answer.json["code"] == ("wrong_digest" if token else "bad_admin_token")


def test_a_client_that_is_too_slow_reads_it_after_all_that_it_sent(site: Site) -> None:
    size = 12 * MIB
    with site.connected() as connection:
        connection.sendall(posted("premium", 10 * MIB) + PICTURE)
        eventually(lambda: site.call(lambda: len(site.services.slow_bodies.coming)), ANSWER_SECONDS, "the body comes")
        site.pace_clock.advance(GRACE_SECONDS + 1)
        site.idle()
        connection.sendall(bytes(size))
        assert raw.parsed(raw.rest(connection)).json["code"] == "too_slow"


def test_a_slow_but_steady_upload_is_taken_however_long_it_takes(site: Site) -> None:
    size, step = 2 * MIB, 256 * 1024
    body = picture(size)
    with site.connected() as connection:
        connection.sendall(posted("free", size).replace(b"Host", b"Prefer: respond-async\r\nHost"))
        for sent in range(0, size, step):
            connection.sendall(body[sent : sent + step])
            if sent + step < size:
                received_by(site, sent + step)
                site.pace_clock.advance(12.0)  # so the whole takes more than 60 s
                site.call(site.services.slow_bodies.look)
        assert raw.read(connection).status == 202


def received_by(site: Site, size: int) -> None:
    """Return when the only request under way has sent so much of its body."""

    def received() -> list[int]:
        return [request.body.received for request in site.services.slow_bodies.coming]

    eventually(lambda: site.call(received), ANSWER_SECONDS, f"{size} bytes have come", lambda sizes: sizes == [size])


def test_a_client_that_sends_tiny_chunks_reads_it_after_all_that_it_sent(shared: Site) -> None:
    head = posted("free", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with shared.connected() as connection:
        connection.sendall(head + 100 * PIECES_FREE * b"1\r\nx\r\n" + b"0\r\n\r\n")
        assert raw.parsed(raw.rest(connection)).status in (400, 415)


def test_a_head_that_is_too_long_is_answered_after_all_of_it(shared: Site) -> None:
    with shared.connected() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nCookie: " + 20 * MIB * b"x")
        assert raw.parsed(raw.rest(connection)).status == 431


def test_a_server_that_stops_waits_until_its_last_answer_is_read(tmp_path: Path) -> None:
    with ExitStack() as held:
        site = held.enter_context(running(tmp_path))
        connection = held.enter_context(site.connected())
        connection.sendall(posted("gold", 20 * MIB) + bytes(MIB))
        eventually(
            lambda: site.call(lambda: sum(s.lingering.count for s in site.servers)), ANSWER_SECONDS, "it lingers"
        )
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(site.end_connections)
            connection.sendall(bytes(19 * MIB))
            assert raw.parsed(raw.rest(connection)).status == 404
            connection.close()
            ended.result(ANSWER_SECONDS)


def test_an_upload_that_a_server_which_stops_cannot_wait_for_is_told_so(tmp_path: Path) -> None:
    with running(tmp_path) as site, site.connected() as connection:
        connection.sendall(posted("free", 9 * MIB) + picture(MIB))
        received_by(site, MIB)
        closing: list[asyncio.Task[None]] = []

        def stop() -> None:
            site.services.slow_bodies.stop()
            closing.append(asyncio.ensure_future(site.servers[0].close_all_connections()))

        site.call(stop)
        connection.sendall(bytes(8 * MIB))
        answer = raw.parsed(raw.rest(connection))
        assert (answer.status, answer.json["code"], answer.headers["Retry-After"]) == (503, "busy", "1")


class World:
    """Connections that linger, and their clients."""

    def __init__(self, most: int, held: ExitStack) -> None:
        self.clock = HandClock()
        self.lingering, self._held = Lingering(most, self.clock), held

    def take(self, address: str = "10.0.0.1") -> socket.socket:
        """Let one more linger; returns its client's end."""
        client, server = socket.socketpair()
        self._held.enter_context(client)
        client.setblocking(False)
        server.setblocking(False)
        self.lingering.take(server, address)
        server.close()
        return client


def ended(client: socket.socket) -> bool:
    """Whether nobody takes any more what a client sends."""
    try:
        client.send(b"x")
    except OSError:
        return True
    return False


def test_those_that_linger_are_bounded_in_number_and_by_address() -> None:
    async def linger(held: ExitStack) -> None:
        world = World(3, held)
        modest, *greedy = (world.take(address) for address in ("10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.2"))
        assert world.lingering.count == 3
        assert [ended(client) for client in (modest, *greedy)] == [False, True, False, False]
        last = world.take("10.0.0.3")
        assert [ended(client) for client in (modest, *greedy)] == [False, True, True, False]
        for client in (modest, greedy[2], last):
            client.close()
        await world.lingering.stop()
        assert world.lingering.count == 0

    with ExitStack() as held:
        asyncio.run(linger(held))


def test_those_that_linger_are_bounded_in_time_and_silence() -> None:
    async def linger(held: ExitStack) -> None:
        world, counts, pause = World(3, held), [], SILENT_SECONDS - 1
        world.take()  # its client says nothing
        sending = world.take()
        for _ in range(int(LINGER_SECONDS / pause) + 1):
            sending.send(b"x")
            for _ in range(2):  # turns of the loop, which finds out in one what has come, and takes it in the next
                await asyncio.sleep(0)
            world.clock.advance(pause)
            world.lingering.look()
            counts.append(world.lingering.count)
        assert counts == [2, *[1] * (len(counts) - 2), 0]

    with ExitStack() as held:
        asyncio.run(linger(held))


def test_a_connection_that_lingers_is_bounded_in_bytes_and_ends_with_its_client() -> None:
    async def linger(held: ExitStack) -> None:
        world, sent = World(3, held), 0
        endless, leaving = world.take(), world.take()
        leaving.close()
        loop = asyncio.get_running_loop()
        with pytest.raises(OSError):
            while sent < 2 * LINGER_BYTES:
                await loop.sock_sendall(endless, bytes(MIB))
                sent += MIB
        assert LINGER_BYTES <= sent < LINGER_BYTES + 4 * MIB
        assert world.lingering.count == 0

    with ExitStack() as held:
        asyncio.run(linger(held))
