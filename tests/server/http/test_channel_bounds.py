"""What a channel may cost: its messages, frames and silences are bounded, and it is one connection of its port."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from server.access.workers import Worker
from server.http import connections, routes
from server.http.descriptors import Shares
from server.http.internal import wire
from server.http.internal.messages import longest_message
from server.http.services import WORK_BYTES
from server.settings.live import Live
from server.settings.sources import Files
from tests.channel import Channel
from tests.server.http.http_site import (
    ANSWER_SECONDS,
    PICTURE,
    QUIET_SECONDS,
    Reviews,
    Site,
    completion,
    running,
    waits,
)
from tests.waiting import eventually

PORT = 4  # connections of the internal port
STANDSTILL_SECONDS = 2.0
MORE_THAN_THE_KERNEL_KEEPS = 32_000_000  # in both directions
LARGE = PICTURE + bytes(7_000_000)  # more than the kernel keeps for a connection whose client reads nothing


def masked(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


BAD_FRAMES = {
    "binary": masked(Opcode.BINARY, b"{}"),
    "a fragment": masked(Opcode.TEXT, b"{}", fin=False),
    "a continuation": masked(Opcode.CONT, b"{}"),
    "unmasked": Frame(Opcode.TEXT, b"{}").serialize(mask=False),
    "compressed": bytes([0xC1]) + masked(Opcode.TEXT, b"{}")[1:],
    "an unknown opcode": bytes([0x83]) + masked(Opcode.TEXT, b"{}")[1:],
    "an unknown control": bytes([0x8B]) + masked(Opcode.TEXT, b"{}")[1:],
    "a long ping": bytes([0x89]) + masked(Opcode.TEXT, bytes(126))[1:],
    "2**63 bytes": b"\x81\xff" + (1 << 63).to_bytes(8) + bytes(4),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_frames_that_no_worker_sends_end_the_channel_in_words(shared: Site, name: str) -> None:
    channel = shared.channel(shared.job("frames"))
    channel.hold()
    channel.socket.socket.sendall(BAD_FRAMES[name])
    closed = channel.ended()
    assert closed.code == wire.BAD_MESSAGE
    assert closed.reason


def test_no_message_is_compressed(shared: Site) -> None:
    token = shared.job("deflating")
    with shared.channel(token, {"Sec-WebSocket-Extensions": "permessage-deflate"}) as channel:
        assert channel.hold() == []
        response = channel.socket.response
    assert response is not None
    assert "Sec-WebSocket-Extensions" not in response.headers


@pytest.mark.parametrize("data", [b"", b"\x03", b"\x03\xe8", b"\x03\xe8\xff\xff", b"\x00\x00no code", b"\xff" * 125])
def test_a_close_may_say_anything(shared: Site, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    channel = shared.channel(shared.job("closing"))
    channel.hold()
    channel.socket.socket.sendall(masked(Opcode.CLOSE, data))
    channel.ended()
    no_channel_is_left(shared)
    assert not caplog.records


def no_channel_is_left(site: Site) -> None:
    """Nobody is connected, and nothing is remembered of those who were."""

    def left() -> tuple[int, int]:
        seats = len(list(site.services.handout._seats))
        return seats, len(site.services.silence._heard)

    eventually(lambda: site.call(left), ANSWER_SECONDS, "no channel is left", lambda found: found == (0, 0))


def test_pings_are_answered(shared: Site) -> None:
    channel = shared.channel(shared.job("pings"))
    channel.hold()
    assert channel.socket.ping(b"are you there").wait(ANSWER_SECONDS)


def test_a_flood_of_messages_leaves_others_their_turns(site: Site) -> None:
    channel = site.channel(site.job())
    channel.hold()
    flood = 2000 * masked(Opcode.TEXT, b'{"release": []}') + 2000 * masked(Opcode.PING)
    sending = site.callers.submit(channel.socket.socket.sendall, 5 * flood)
    assert site.internal.get("/healthz").status == 200
    sending.result(ANSWER_SECONDS)
    assert channel.hold() == []


def test_long_messages_are_counted_while_they_come(site: Site) -> None:
    """Of one worker, so that the others have room; the message that finds none ends its channel, and can come again."""
    size = longest_message(8)
    head = b"\x81\xff" + size.to_bytes(8) + bytes(4)
    channels = [site.channel(site.job(f"long{number}")) for number in range(WORK_BYTES // size + 2)]
    for channel in channels:
        channel.hold()
        channel.socket.socket.sendall(head)
    assert site.call(site.services.work.used) < size, "nothing is held for what is only announced"
    for channel in channels:
        channel.socket.socket.sendall(bytes(size - 1))
    assert {channel.ended().code for channel in channels if is_closed(channel)} == {wire.BUSY}
    for channel in channels:
        channel.break_off()
    eventually(lambda: site.call(site.services.work.used), ANSWER_SECONDS, "all is free", lambda used: used == 0)


def is_closed(channel: Channel) -> bool:
    try:
        channel.ended(QUIET_SECONDS)
    except TimeoutError:
        return False
    return True


def test_a_worker_that_says_nothing_for_a_lease_is_hung_up_on(site: Site) -> None:
    silent, alive = (site.channel(site.job(name)) for name in ("silent", "alive"))
    silent.hold()
    after_the_turn(site)
    site.pace_clock.advance(20)
    alive.hold()
    after_the_turn(site)
    site.pace_clock.advance(11)
    site.call(site.services.silence.look)
    assert silent.ended().code == wire.SILENT
    assert alive.hold() == []


def after_the_turn(site: Site) -> None:
    """Return when the loop has ended the turn in which it answered: only then does the silence begin."""
    site.call(lambda: None)


def test_a_message_that_does_not_end_is_silence_too(site: Site) -> None:
    channel = site.channel(site.job())
    channel.hold()
    after_the_turn(site)
    channel.socket.socket.sendall(b"\x81\xfe\xff\xff" + bytes(4) + bytes(100))
    site.pace_clock.advance(31)
    site.call(site.services.silence.look)
    assert channel.ended().code == wire.SILENT


def test_a_new_length_of_the_heartbeat_and_another_log_are_told(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("{}\n")
    live = Live(Files((values,)), patience=30)
    with running(tmp_path, live) as site:
        channel = site.worker(site.job())
        assert channel.renew == 10
        assert channel.log == "off"
        values.write_text("server: {accessLog: json, lease: {heartbeatSeconds: 5}}\n")
        assert live.refresh(lambda manifest: None)
        site.call(site.services.silence.look)
        channel.receive_until(lambda: channel.renew == 5)
        assert channel.log == "json"


class Raw:
    """A worker that reads only what it is told to."""

    def __init__(self, site: Site, token: str) -> None:
        self.connection = socket.socket()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.connection.settimeout(ANSWER_SECONDS)
        self.connection.connect(("127.0.0.1", site.internal.port))
        head = [
            "GET /work/channel HTTP/1.1",
            "Host: localhost",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: tierserve.work.3",
            f"Authorization: Bearer {token}",
        ]
        self.connection.sendall("\r\n".join([*head, "", ""]).encode())
        self.say(f'{{"renew": [], "token": "{token}"}}')

    def say(self, text: str) -> None:
        self.connection.sendall(masked(Opcode.TEXT, text.encode()))


@contextmanager
def raw(site: Site, token: str) -> Iterator[Raw]:
    found = Raw(site, token)
    with found.connection:
        yield found


def test_a_worker_that_does_not_read_gets_one_frame(site: Site) -> None:
    keys = [site.submit(body=LARGE).json["id"] for _ in range(3)]
    with raw(site, site.job()) as worker:
        worker.say('{"credits": 3}')
        eventually(lambda: waits(site, leased=True), ANSWER_SECONDS, "one is leased", lambda many: many == 1)
        worker.say('{"release": []}')
        assert (waits(site), waits(site, leased=True)) == (2, 1)
    eventually(lambda: waits(site), ANSWER_SECONDS, "all of them wait again", lambda many: many == 3)
    assert [site.get(f"/v1/predictions/{key}").json["attempts"] for key in keys] == [0, 0, 0]
    no_channel_is_left(site)


def test_a_frame_of_the_lobby_that_was_not_read_waits_again_at_once(site: Site) -> None:
    with raw(site, site.job()) as worker:
        worker.say('{"credits": 1}')
        asking = site.callers.submit(site.post, "free", LARGE, {"Prefer": "wait=60"})
        eventually(lambda: waits(site, leased=True), ANSWER_SECONDS, "it is leased", lambda many: many == 1)
    eventually(lambda: waits(site), ANSWER_SECONDS, "it waits again", lambda many: many == 1)
    token = site.job("another")
    (one,) = site.lease(token)
    assert site.complete(one, token) == ["accepted"]
    answer = asking.result(ANSWER_SECONDS)
    assert (answer.status, answer.json["attempts"]) == (200, 1)


def test_a_worker_that_takes_nothing_is_hung_up_on_though_it_talks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TAKING_SECONDS", 0.5)
    site.submit(body=LARGE)
    with raw(site, site.job()) as worker, pytest.raises(OSError):
        worker.say('{"credits": 1}')
        while True:
            worker.say('{"release": []}')
    eventually(lambda: waits(site), ANSWER_SECONDS, "it waits again", lambda many: many == 1)
    no_channel_is_left(site)


def test_a_worker_that_reads_no_answers_is_listened_to_no_longer(site: Site) -> None:
    """Else its answers would fill the server's memory."""
    token = site.job()
    long = ", ".join(f'["{number:064}", "t"]' for number in range(64))
    renewal = f'{{"renew": [{long}], "token": "{token}"}}'
    with raw(site, token) as worker, pytest.raises(TimeoutError):
        worker.connection.settimeout(STANDSTILL_SECONDS)
        for _ in range(MORE_THAN_THE_KERNEL_KEEPS // len(renewal)):
            worker.say(renewal)
    no_channel_is_left(site)


class Gated(Reviews):
    """Reviews that wait until ``released`` is set."""

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        self.asked, self.released = threading.Event(), threading.Event()

    def check(self, token: str) -> Worker:
        self.asked.set()
        assert self.released.wait(ANSWER_SECONDS)
        return super().check(token)


def test_a_worker_that_hangs_up_before_it_is_recognized_leaves_nothing(tmp_path: Path) -> None:
    gated = Gated(b"secret")
    with running(tmp_path, tokens=gated) as site:
        with raw(site, site.job()):
            assert gated.asked.wait(ANSWER_SECONDS)
        gated.released.set()
        eventually(site.tasks, ANSWER_SECONDS, "nothing is done any more", lambda tasks: tasks == [])
        no_channel_is_left(site)


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(routes, "shares", lambda: Shares(public=64, streams=64, internal=PORT, lingering=1))
    with running(tmp_path) as found:
        yield found


def test_channels_count_as_connections_of_their_port(narrow: Site) -> None:
    channels = [narrow.channel(narrow.job(f"job{number}")) for number in range(PORT)]
    asking = narrow.callers.submit(narrow.internal.get, "/healthz")
    for channel in channels:
        assert channel.hold() == []
    assert not asking.done(), "there is no room, and no channel makes room"
    channels[0].close()
    assert asking.result(ANSWER_SECONDS).status == 200


def test_a_silent_client_makes_room_before_any_channel(narrow: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 1000.0)
    channels = [narrow.channel(narrow.job(f"job{number}")) for number in range(PORT - 1)]
    with closing(http.client.HTTPConnection("127.0.0.1", narrow.internal.port, timeout=ANSWER_SECONDS)) as silent:
        silent.request("GET", "/healthz")
        assert silent.getresponse().read()
        assert narrow.internal.get("/healthz").status == 200
        for channel in channels:
            assert channel.hold() == []
        assert silent.sock.recv(1) == b""


def test_a_channel_is_no_request_under_way(site: Site) -> None:
    channel = site.worker(site.job())
    site.idle()
    assert channel.hold() == []


def test_frames_and_answers_are_not_held_up_for_others(site: Site) -> None:
    """With Nagle's algorithm a small message waits for the acknowledgement of the last one, some 40 ms."""
    site.worker(site.job())

    def delays() -> list[int]:
        streams = [connection.stream for connection in site.servers[1]._connections]
        return [stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for stream in streams]

    assert site.call(delays) == [1]


def test_long_results_are_parsed_and_stored(site: Site) -> None:
    key, token = site.keep(images=100), site.job()
    (one,) = site.lease(token)
    labels = [{"label": os.urandom(100).hex(), "score": 0.5} for _ in range(5)]
    assert site.hand_in([completion(one, 100 * [{"labels": labels}])], token) == ["accepted"]
    assert site.get(f"/v1/predictions/{key}").json["results"][99]["labels"] == labels
