"""The worker's desk and connection: when the worker takes work, when it ends, and what it does without a server."""

from __future__ import annotations

import json
import math
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.connection import Dismissed, Interrupted, Lease, RequestRejected, ServerConnection, ServerGone, unframe
from model.decoder import Decoder
from model.runtimes.base import Model, Runtime, read_model
from model.worker import AHEAD_MOST, Desk, Terms, predict
from tests.waiting import eventually

TERMS = Terms(idle=30, max_predictions=100, max_pixels=1000)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def lease(number: int) -> Lease:
    return Lease(id=f"p{number}", token=f"t{number}", top_k=5, renew=10.0, pictures=(memoryview(b"picture"),))


def result(one: Lease, milliseconds: float = 5.0) -> dict[str, object]:
    return {"id": one.id, "token": one.token, "model": "m@0", "results": [], "predict_ms": milliseconds}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(clock: Clock) -> Desk:
    return Desk(TERMS, clock)


def work_off(desk: Desk, count: int, milliseconds: float) -> None:
    for number in range(count):
        desk.put([lease(number)])
        taken = desk.next()
        assert taken is not None
        desk.finish(result(taken, milliseconds))
        desk.next_report()


def test_an_unknown_speed_takes_one(desk: Desk) -> None:
    assert desk.wanted() == (1, 20.0)


def test_a_fast_model_leases_ahead(desk: Desk) -> None:
    work_off(desk, 30, 5.0)
    assert desk.wanted() == (AHEAD_MOST, 20.0)


def test_a_slow_model_takes_nothing_that_another_could_begin(desk: Desk) -> None:
    work_off(desk, 30, 5000.0)
    assert desk.wanted()[0] == 1
    desk.put([lease(99)])
    asking = threading.Thread(target=desk.wanted, daemon=True)
    asking.start()
    asking.join(0.1)
    assert asking.is_alive()
    desk.stop("enough")
    asking.join(5)
    assert not asking.is_alive()


def test_it_ends_when_idle_for_long(desk: Desk, clock: Clock) -> None:
    clock.now = 29
    assert desk.wanted() == (1, 1.0)
    clock.now = 30
    assert desk.wanted() == (0, 0.0)
    assert desk.done == "idle for 30 s"
    assert desk.next() is None


def test_it_ends_after_its_last_prediction_with_every_result_handed_in(clock: Clock) -> None:
    desk = Desk(Terms(idle=30, max_predictions=3, max_pixels=1), clock)
    assert desk.wanted()[0] == 1
    desk.put([lease(1), lease(2), lease(3)])
    assert desk.wanted() == (0, 0.0)
    for _ in range(3):
        taken = desk.next()
        assert taken is not None
        desk.finish(result(taken))
    assert desk.next() is None
    desk.close()
    finished, _, closed = desk.next_report()
    assert ([one["id"] for one in finished], closed) == (["p1", "p2", "p3"], True)
    assert desk.leftovers() == []


def test_told_to_go_it_hands_back_what_it_has_not_begun(desk: Desk) -> None:
    desk.put([lease(1), lease(2)])
    begun = desk.next()
    desk.stop("told to", hand_back=True)
    desk.put([lease(3)])  # this picture was under way
    assert begun is not None
    desk.finish(result(begun))
    assert desk.next() is None
    desk.close()
    desk.next_report()
    assert desk.leftovers() == [("p2", "t2"), ("p3", "t3")]


def test_leases_are_renewed_each_heartbeat(desk: Desk, clock: Clock) -> None:
    desk.put([lease(1), lease(2)])
    clock.now = 10
    assert desk.next_report() == ([], [("p1", "t1"), ("p2", "t2")], False)
    desk.forget({"p1"})
    taken = desk.next()
    assert taken is not None
    assert taken.id == "p2"


def test_a_reporter_asleep_until_a_later_heartbeat_is_woken_for_an_earlier_one() -> None:
    desk = Desk(TERMS)
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(desk.next_report)
        eventually(told.running, 20, "the reporter waits")
        desk.put([replace(lease(1), renew=0.05)])
        assert told.result(timeout=10) == ([], [("p1", "t1")], False)


def test_the_last_result_is_handed_in_without_gathering(desk: Desk) -> None:
    desk.put([lease(1), lease(2)])
    for _ in range(2):
        one = desk.next()
        assert one is not None
        desk.finish(result(one))
    assert len(desk.next_report()[0]) == 2


class Failing(Runtime):
    """A runtime whose model gives the last class this score."""

    def __init__(self, score: float, classes: int) -> None:
        self.scores = np.full(classes, 0.1, np.float32)
        self.scores[-1] = score

    def setup(self, model: Model, variant: str, device: str = "cpu") -> None:
        pass

    def predict(self, batch: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return [self.scores for _ in batch]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_numbers_are_an_error_of_this_picture(models: Path, cat_bytes: bytes, score: float) -> None:
    model = read_model(models / "tf_efficientnet_lite0")
    one = replace(lease(1), pictures=(memoryview(cat_bytes),))
    with closing(Decoder(model.preprocessing, 1_000_000, 20)) as decoder:
        completion = predict(one, model, Failing(score, len(model.labels)), decoder)
    (found,) = completion["results"]
    assert found["error"]["code"] == "model_failed"
    json.dumps(completion, allow_nan=False)


def test_a_result_says_which_model_was_loaded(models: Path, cat_bytes: bytes) -> None:
    model = replace(read_model(models / "tf_efficientnet_lite0"), name="flowers", version="3f9a2c81")
    one = replace(lease(1), pictures=(memoryview(cat_bytes),))
    with closing(Decoder(model.preprocessing, 1_000_000, 20)) as decoder:
        completion = predict(one, model, Failing(0.5, len(model.labels)), decoder)
    assert completion["model"] == "flowers@3f9a2c81"


def test_a_frame_holds_every_picture_of_every_prediction() -> None:
    blobs = [struct.pack(">III", 2, 1, 3) + b"a" + b"bcd", struct.pack(">II", 1, 0)]
    entries = [
        {"id": f"p{i}", "token": "t", "top_k": i, "renew": 1.0, "size": len(blob)} for i, blob in enumerate(blobs)
    ]
    head = json.dumps({"predictions": entries}).encode()
    leases = unframe(struct.pack(">I", len(head)) + head + b"".join(blobs))
    assert [[bytes(picture) for picture in one.pictures] for one in leases] == [[b"a", b"bcd"], [b""]]


Script = list[tuple[int, bytes] | None]


@pytest.fixture
def scripted() -> Iterator[Callable[[Script], str]]:
    """Makes servers that answer each request with the next entry. None hangs up."""
    servers: list[ThreadingHTTPServer] = []

    def make(script: Script) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                entry = script.pop(0)
                if entry is None:
                    self.close_connection = True
                    return
                self.send_response(entry[0])
                self.send_header("Content-Length", str(len(entry[1])))
                self.end_headers()
                self.wfile.write(entry[1])

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def connect(url: str, clock: Clock) -> ServerConnection:
    return ServerConnection(url, lambda: "token", clock, clock.sleep)


def test_a_dropped_connection_and_a_server_error_are_tried_again(
    scripted: Callable[[Script], str], clock: Clock
) -> None:
    url = scripted([None, (503, b"{}"), (500, b"?"), (200, b'{"lost": ["p1"]}')])
    with closing(connect(url, clock)) as one:
        assert one.extend([("p1", "t")]) == {"p1"}
    assert clock.now > 0


@pytest.mark.parametrize("status", [401, 403, 410])
def test_a_worker_that_is_not_wanted_is_dismissed(scripted: Callable[[Script], str], clock: Clock, status: int) -> None:
    url = scripted([(status, b'{"detail": "who are you?"}')])
    with closing(connect(url, clock)) as one, pytest.raises(Dismissed, match="who are you"):
        one.lease(1, 0)


def test_a_server_that_takes_an_answer_for_wrong_ends_the_worker(
    scripted: Callable[[Script], str], clock: Clock
) -> None:
    url = scripted([(422, b'{"detail": "no labels"}')])
    with closing(connect(url, clock)) as one, pytest.raises(RequestRejected, match="no labels"):
        one.complete([])


def test_a_result_that_the_server_finds_invalid_is_logged_and_ends_nothing(
    scripted: Callable[[Script], str], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    url = scripted([(200, b'{"outcomes": ["accepted", "invalid"]}'), (200, b'{"lost": []}')])
    with closing(connect(url, clock)) as one:
        one.complete([result(lease(1)), result(lease(2))])
        assert caplog.messages == ["the server found the result of p2 invalid"]
        assert one.extend([]) == set()


def test_a_server_that_stays_away_is_gone(clock: Clock) -> None:
    with pytest.raises(ServerGone, match=r"127\.0\.0\.1"):
        connect("http://127.0.0.1:1", clock).lease(1, 0)
    assert clock.now >= 10


def test_a_connection_that_nobody_answers_is_given_up_long_before_a_reply(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.connection.CONNECT_SECONDS", 0.02)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        one = connect(f"http://127.0.0.1:{full.getsockname()[1]}", clock)
        with pytest.raises(ServerGone, match="timed out"):
            one.lease(1, 3600)


def test_an_interrupted_connection_begins_nothing(clock: Clock) -> None:
    one = connect("http://127.0.0.1:1", clock)
    one.interrupt()
    with pytest.raises(Interrupted):
        one.lease(1, 0)
