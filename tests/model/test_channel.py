"""The worker's channel against a real WebSocket server: what is sent, what is read, and what is refused."""

from __future__ import annotations

import json
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from model.channel import Channel, ChannelLost, Dismissed, RequestRejected
from model.messages import unframe
from tests.model.channel_server import Visit, frame, serving


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The test's server logs every connection that is cut."""
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)


def test_the_opening_names_the_protocol_and_the_token() -> None:
    with serving(lambda visit: visit.end()) as server:
        with Channel(server.url, "secret") as channel:
            channel.send({"renew": []})
        headers = server.requests[0].headers
        assert server.requests[0].path == "/work/channel"
        assert headers["Authorization"] == "Bearer secret"
        assert headers["Sec-WebSocket-Protocol"] == "tierserve.work.3"
        assert "Sec-WebSocket-Extensions" not in headers


@pytest.mark.parametrize("status", [401, 403, 410])
def test_a_worker_that_is_not_wanted_is_dismissed(status: int) -> None:
    with serving((status, "who are you?")) as server, pytest.raises(Dismissed, match="who are you"):
        Channel(server.url, "secret")


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_for_good_is_told_in_the_servers_words(status: int) -> None:
    words = f"answered {status}: this server speaks tierserve.work.3"
    with (
        serving((status, "this server speaks tierserve.work.3")) as server,
        pytest.raises(RequestRejected, match=words),
    ):
        Channel(server.url, "secret")


@pytest.mark.parametrize("status", [200, 302, 429, 500, 503])
def test_other_answers_may_pass(status: int) -> None:
    with serving((status, "later")) as server, pytest.raises(ChannelLost, match=f"{status}: later"):
        Channel(server.url, "secret")


def test_a_server_that_chooses_no_protocol_is_rejected() -> None:
    words = r"does not speak tierserve\.work\.3"
    with serving(lambda visit: visit.end(), protocol=None) as server, pytest.raises(RequestRejected, match=words):
        Channel(server.url, "secret")


def test_a_connection_that_nobody_answers_is_given_up_long_before_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.channel.CONNECT_SECONDS", 0.02)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_connection(full.getsockname()),
        pytest.raises(ChannelLost, match="timed out"),
    ):
        Channel(f"http://127.0.0.1:{full.getsockname()[1]}", "secret")


def test_an_opening_that_is_not_answered_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.channel.REPLY_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(ChannelLost, match="timed out"):
        Channel(f"http://127.0.0.1:{mute.getsockname()[1]}", "secret")


def test_a_frame_holds_every_picture_of_every_prediction() -> None:
    blobs = [struct.pack(">III", 2, 1, 3) + b"a" + b"bcd", struct.pack(">II", 1, 0)]
    entries = [{"id": f"p{i}", "token": "t", "top_k": i, "size": len(blob)} for i, blob in enumerate(blobs)]
    head = json.dumps({"predictions": entries, "outcomes": [["p9", "accepted"]]}).encode()
    news = unframe(struct.pack(">I", len(head)) + head + b"".join(blobs))
    assert [[bytes(picture) for picture in one.pictures] for one in news.leases] == [[b"a", b"bcd"], [b""]]
    assert news.outcomes == [("p9", "accepted")]


def receive_one(say: Callable[[Visit], object]) -> Any:
    def visit(visit: Visit) -> None:
        say(visit)
        visit.end()

    with serving(visit) as server, Channel(server.url, "secret") as channel:
        channel.send({"renew": []})
        return channel.receive(20)


def test_a_large_frame_comes_in_several_messages_and_text_may_come_between() -> None:
    data = frame(["p1"], bytes(range(256)) * 100)

    def visit(visit: Visit) -> None:
        visit.connection.send(data[:1000])
        visit.say(lost=[])
        for begin in range(1000, len(data), 5000):
            visit.connection.send(data[begin : begin + 5000])
        visit.end()

    with serving(visit) as server, Channel(server.url, "secret") as channel:
        channel.send({"renew": []})
        assert channel.receive(20).lost == []
        (lease,) = channel.receive(20).leases
        assert bytes(lease.pictures[0]) == bytes(range(256)) * 100


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\5{",
        struct.pack(">I", 2) + b"{}",
        struct.pack(">I", 1 << 31) + b"{}",
        frame(["p1"]) + b"more",
        frame(["p1"]).replace(b'"size": 15', b'"size": -5'),
        frame(["p1"]).replace(struct.pack(">II", 1, 7), struct.pack(">II", 1, 8)),
        frame(["p1"]).replace(struct.pack(">II", 1, 7), struct.pack(">II", 1 << 30, 7)),
        "no JSON",
        "[]",
        '{"renew": "soon"}',
        '{"outcomes": [1]}',
    ],
)
def test_what_is_not_of_the_protocol_loses_the_channel(data: str | bytes) -> None:
    with pytest.raises(ChannelLost, match="not of the protocol"):
        receive_one(lambda visit: visit.connection.send(data))


def test_a_channel_on_which_nothing_comes_is_lost() -> None:
    with serving(lambda visit: visit.end()) as server, Channel(server.url, "secret") as channel:
        channel.send({"renew": []})
        with pytest.raises(ChannelLost, match="timed out"):
            channel.receive(0.05)


def test_pings_are_answered() -> None:
    def ask(visit: Visit) -> None:
        pong = visit.connection.ping()
        answered = pong.wait(20)
        visit.say(renew=1 if answered else 2)

    assert receive_one(ask).renew == 1
