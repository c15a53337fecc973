"""A worker process whose decoder does not answer: it renews its leases, ends in time, and hands back what it holds."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.model.channel_server import Visit, serving
from tests.model.pictures import PICTURES
from tests.model.test_decoder import SMALL, children, is_alive
from tests.waiting import eventually

CAT = (PICTURES / "cat.jpg").read_bytes()
RECALLED = "lent quota went back to premium"
# The libraries of a worker take some time at the end of their process, here a minute: a worker does not wait for that.
RUN = """
import atexit, signal, sys, time
atexit.register(time.sleep, 60)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
import model.worker
model.worker.PICTURE_SECONDS = float(sys.argv.pop(1))
model.worker.LAST_SECONDS = float(sys.argv.pop(1))
import model.__main__
sys.exit(model.__main__.main())
"""


class Site:
    """Gives a worker the predictions of the test, and keeps what the worker sends."""

    def __init__(self) -> None:
        self.url = ""
        self.renew = 0.1  # seconds
        self.received: list[dict[str, Any]] = []
        self._visit: queue.Queue[Visit] = queue.Queue()

    def visit(self, visit: Visit) -> int | None:
        """Keep and answer all that the worker says; return the code with which it closed the channel."""
        self.received.append(visit.first)
        visit.say(renew=self.renew, lost=[])
        self._visit.put(visit)
        try:
            while True:
                message = visit.hear()
                self.received.append(message)
                outcomes = [[one["id"], "accepted"] for one in message.get("completions", ())]
                visit.say(outcomes=outcomes, **({"lost": []} if "renew" in message else {}))
        except ConnectionClosed:
            return visit.connection.close_code

    def give(self, *keys: str, picture: bytes = SMALL) -> None:
        visit = self._visit.get(timeout=30)
        visit.give(*keys, picture=picture)
        self._visit.put(visit)

    def set_renew(self, seconds: float) -> None:
        visit = self._visit.get(timeout=30)
        visit.say(renew=seconds)
        self._visit.put(visit)

    def retire(self) -> None:
        visit = self._visit.get(timeout=30)
        visit.say(retire=RECALLED)
        self._visit.put(visit)

    def renewals(self) -> int:
        """How often the worker has renewed its lease of the slow picture."""
        return sum(["slow", "t-slow"] in message.get("renew", ()) for message in list(self.received))

    def released(self) -> list[list[str]]:
        return [one for message in self.received for one in message.get("release", ())]

    def result(self, key: str) -> dict[str, Any]:
        """Wait for the result of a prediction with one picture."""

        def look() -> list[Any]:
            sent = [one for message in list(self.received) for one in message.get("completions", ())]
            return [one["results"][0] for one in sent if one["id"] == key]

        found: dict[str, Any] = eventually(look, 30, f"the result of {key}")[0]
        return found


@pytest.fixture
def server() -> Iterator[Site]:
    site = Site()
    with serving(site.visit) as made:
        site.url = made.url
        yield site


@contextmanager
def working(server: Site, models: Path, seconds: float = 20.0, last: float = 0.5) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the smallest model; decoding a picture may take it so many ``seconds``, and its end ``last``."""
    model = ["--model", "tf_efficientnet_lite0", "--variant", "int8"]
    command = [sys.executable, "-c", RUN, str(seconds), str(last), "work", *model]
    environment = {
        **os.environ,
        "TIERSERVE_SERVER": server.url,
        "TIERSERVE_TOKEN": "token",
        "TIERSERVE_MODELS": str(models),
    }
    worker = subprocess.Popen(command, env=environment)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def freeze_decoder(server: Site, worker: subprocess.Popen[bytes]) -> int:
    """Let the worker start its decoder, and stop that process: from now on it takes for ever."""
    server.give("first")
    assert "labels" in server.result("first")
    (decoder,) = children(worker.pid)
    os.kill(decoder, signal.SIGSTOP)
    return decoder


def test_leases_are_renewed_while_a_picture_is_decoded_for_long(server: Site, models: Path) -> None:
    with working(server, models) as worker:
        decoder = freeze_decoder(server, worker)
        server.give("slow")

        eventually(server.renewals, 20, "five renewals", enough=lambda seen: seen >= 5)
        os.kill(decoder, signal.SIGCONT)
        assert "labels" in server.result("slow")


def test_a_picture_that_takes_too_long_is_a_failed_result_and_the_worker_goes_on(server: Site, models: Path) -> None:
    with working(server, models, seconds=0.5) as worker:
        decoder = freeze_decoder(server, worker)
        server.give("slow")
        assert server.result("slow")["error"]["code"] == "image_too_slow"
        assert not is_alive(decoder)
        for key, picture in (("photograph", CAT), ("drawing", SMALL)):
            server.give(key, picture=picture)
            assert "labels" in server.result(key)
        worker.terminate()
        assert worker.wait(20) == 0


def test_a_worker_that_must_end_cuts_a_slow_picture_short_and_hands_it_back(server: Site, models: Path) -> None:
    with working(server, models) as worker:
        decoder = freeze_decoder(server, worker)
        server.give("slow")
        eventually(server.renewals, 20, "the worker holds it")
        worker.terminate()
        assert worker.wait(15) == 0
        assert server.released() == [["slow", "t-slow"]]
        assert not is_alive(decoder)


def test_a_worker_that_must_end_hands_back_at_once_what_it_has_not_begun(server: Site, models: Path) -> None:
    with working(server, models, last=20) as worker:
        decoder = freeze_decoder(server, worker)
        server.give("slow", "next")
        eventually(server.renewals, 20, "the worker holds both")
        server.set_renew(60)  # so that nothing else makes the worker send anything
        worker.terminate()
        eventually(server.released, 10, "a prediction handed back", enough=lambda seen: seen == [["next", "t-next"]])
        os.kill(decoder, signal.SIGCONT)
        assert "labels" in server.result("slow")
        assert worker.wait(15) == 0


def test_a_worker_that_is_told_to_retire_finishes_what_it_has_begun_and_ends(server: Site, models: Path) -> None:
    with working(server, models) as worker:
        decoder = freeze_decoder(server, worker)
        server.give("slow", "next")
        eventually(server.renewals, 20, "the worker holds both")
        server.set_renew(60)  # so that nothing else makes the worker send anything
        server.retire()
        eventually(server.released, 10, "a prediction handed back", enough=lambda seen: seen == [["next", "t-next"]])
        os.kill(decoder, signal.SIGCONT)
        assert "labels" in server.result("slow")
        assert worker.wait(15) == 0
        assert not is_alive(decoder)


def test_a_worker_that_is_told_to_retire_when_it_comes_ends_at_once(server: Site, models: Path) -> None:
    with working(server, models) as worker:
        server.retire()
        assert worker.wait(15) == 0
        assert server.released() == []


def test_a_worker_without_a_slow_picture_ends_at_once_with_its_decoder(server: Site, models: Path) -> None:
    server.renew = 60  # the result does not wait for a renewal
    with working(server, models) as worker:
        server.give("first")
        server.result("first")
        (decoder,) = children(worker.pid)
        worker.terminate()
        assert worker.wait(15) == 0
        assert server.released() == []
        assert not is_alive(decoder)
