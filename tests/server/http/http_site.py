"""A server's handlers with both ports, in the process of the test. It has no leader and no workers.

Tests move its clock.
"""

from __future__ import annotations

import asyncio
import operator
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from tornado.netutil import bind_sockets
from websockets.protocol import State

from server.access.keyring import Keyring
from server.access.keys import Pepper, Terms, make
from server.access.operators import AdminToken
from server.access.workers import AccessUnknown, Worker, WorkerTokens
from server.blobs import BlobError, DirectoryBlobs, DirectoryFiles, Piece
from server.engines.base import EngineError, Pod
from server.http.routes import internal_server, public_server
from server.http.services import UPLOAD_BYTES, Services
from server.intake.storage_check import StorageCheck
from server.models import Catalog, Models
from server.queue import Listener, News, Queue, QueueError, Serving, SQLite, new_id
from server.queue.store.transactions import Transaction
from server.settings.live import Live
from server.settings.sources import Files
from tests.channel import Channel, Closed, Refused
from tests.openapi import described
from tests.running import MODEL, Answer, Client, setting
from tests.server.given import HandClock, submission
from tests.server.leader.leader_world import Obedient
from tests.waiting import eventually

ANSWER_SECONDS = 20.0
ALWAYS_ANEW = -1.0  # figures are never recent, so each request reads them anew
ASYNC = {"Prefer": "respond-async"}
PICTURE = b"\xff\xd8\xff" + bytes(100)  # a server looks at the first bytes only
LABELS = [{"labels": [{"label": "tabby", "score": 0.9}]}]

ADMIN_TOKEN = "an admin token of tests"
QUIET_SECONDS = 0.3  # after which nothing more comes, because nothing is there
PLACES = 5  # in the tier free of the site ``small``

T = TypeVar("T")


class FailingDatabase(SQLite):
    """Fails every operation while ``failure`` is set, and writing ones while ``write_failure`` is set.

    While it is ``mute``, nobody is told of commits, as when the notices of another server are lost.
    """

    failure: QueueError | None = None
    write_failure: QueueError | None = None
    mute = False

    def _announce(self, news: Sequence[News], listeners: Sequence[Listener]) -> None:
        if not self.mute:
            super()._announce(news, listeners)

    def write(self, operation: Callable[[Transaction], T]) -> Future[T]:
        error = self.failure or self.write_failure
        return failed(error) if error else super().write(operation)

    def take_doubt(self) -> bool:
        return super().take_doubt() or bool(self.failure or self.write_failure)

    def read(self, operation: Callable[[Transaction], T]) -> Future[T]:
        return failed(self.failure) if self.failure else super().read(operation)


class FailingBlobs(DirectoryBlobs):
    """Fails while ``failure`` is set. ``get`` sets ``asked``, then waits until ``released`` is set.

    A blob that is read in pieces breaks off after ``breaks_after`` of them.
    """

    failure: BlobError | None = None
    breaks_after: int | None = None

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked, self.released = threading.Event(), threading.Event()
        self.released.set()

    def put(self, key: str, pictures: Sequence[Sequence[Piece]]) -> int:
        if self.failure is not None:
            raise self.failure
        return super().put(key, pictures)

    def get(self, key: str) -> bytes:
        self.asked.set()
        assert self.released.wait(ANSWER_SECONDS)
        if self.failure is not None:
            raise self.failure
        return super().get(key)

    def pieces(self, key: str) -> Generator[bytes, None, None]:
        for number, piece in enumerate(super().pieces(key)):
            if number == self.breaks_after:
                raise BlobError("the disk is sick")
            yield piece


class FailingFiles(DirectoryFiles):
    """Fails while ``failure`` is set; a file that is read breaks off after ``breaks_after`` pieces."""

    failure: BlobError | None = None
    breaks_after: int | None = None
    asked = 0

    def pieces(self, sha256: str) -> Iterator[bytes]:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        for number, piece in enumerate(super().pieces(sha256)):
            if number == self.breaks_after:
                raise BlobError("the disk is sick")
            yield piece


class ShownEngine(Obedient):
    """Shows ``shown`` as its pods, or raises it if it is an error, once ``released`` is set."""

    shown: Sequence[Pod] | EngineError = ()

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.released = 0, threading.Event()
        self.released.set()

    def pods(self, tiers: Sequence[Any]) -> Sequence[Pod]:
        self.asked += 1
        assert self.released.wait(ANSWER_SECONDS)
        if isinstance(self.shown, EngineError):
            raise self.shown
        return self.shown


class Reviews(WorkerTokens):
    """Credentials that must ask somebody else about each token. While he is ``away``, nobody knows."""

    away = False

    def recall(self, token: str) -> Worker | None:
        return None

    def check(self, token: str) -> Worker:
        if self.away:
            raise AccessUnknown("no answer")
        return super().check(token)


class Site(Client):
    """Handlers over a real queue, real blobs and real sockets. Their event loop has a thread of its own."""

    def __init__(
        self,
        folder: Path,
        live: Live,
        tokens: WorkerTokens,
        internal_url: str,
        upload_bytes: int,
        models: Models | None = None,
    ) -> None:
        self.clock, self.live, self.tokens = HandClock(), live, tokens
        self.pace_clock = HandClock()
        database = FailingDatabase.open(folder / "data", self.clock)
        assert isinstance(database, FailingDatabase)
        self.database = database
        self.queue = Queue(self.database)
        self.blobs = FailingBlobs(folder / "blobs")
        self.files = FailingFiles(folder / "store")
        self.engine = ShownEngine()
        self.pool, self.reviews = ThreadPoolExecutor(8), ThreadPoolExecutor(2)
        self.keys = folder / "keys"
        self.keys.mkdir()
        self.keyring = Keyring(self.queue, Pepper("a pepper of tests"), self.clock, self.keys)
        self.keyring.refresh()
        self.services = Services.over(
            live=live,
            queue=self.queue,
            blobs=self.blobs,
            files=self.files,
            engine=self.engine,
            credentials=tokens,
            keyring=self.keyring,
            admin_token=AdminToken(ADMIN_TOKEN),
            disk=self.pool,
            cluster=self.pool,
            reviews=self.reviews,
            store_pool=self.pool,
            clock=self.clock,
            internal_url=internal_url,
            catalog=Catalog(self.queue, models),
            storage_check=StorageCheck(self.queue, self.blobs),
            recent_seconds=ALWAYS_ANEW,
            monotonic=self.pace_clock,
            shown_seconds=ALWAYS_ANEW,
            upload_bytes=upload_bytes,
        )
        self.callers = ThreadPoolExecutor(8)
        self._channels: list[Channel] = []
        self._workers: dict[str, Channel] = {}
        self._held: dict[str, list[dict[str, Any]]] = {}
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        super().__init__(self.call(self._start))

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """As a client's. Whatever the public port answers to an operation is as its description says."""
        answer = super().ask(method, path, body, headers)
        interface = described(tuple(self.live.current.settings.tiers))
        if interface.operation(method, path) is not None:
            interface.check(answer, method, path)
        return answer

    def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` on the loop's thread and return what it returns."""

        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(ANSWER_SECONDS)

    def _start(self) -> int:
        self.servers = [public_server(self.services), internal_server(self.services)]
        ports = []
        for server in self.servers:
            sockets = bind_sockets(0, "127.0.0.1")
            server.add_sockets(sockets)
            ports.append(sockets[0].getsockname()[1])
        self.services.listen()
        self.internal = Client(ports[1])
        return int(ports[0])

    def close(self) -> None:
        """Answer everybody who waits, check that nothing is left on the loop, and end it."""
        self.database.failure = None  # those who wait are answered from the database
        self.call(self.services.wakeups.drain)
        self.call(self.services.streams.drain)
        self.call(self.services.slow_bodies.stop)
        self.callers.shutdown()
        for channel in self._channels:
            channel.break_off()
        self.end_connections()
        try:
            eventually(self.tasks, ANSWER_SECONDS, "no task is left on the loop", operator.not_)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self.services.pictures.forget_now()
            self.pool.shutdown()
            self.reviews.shutdown()
            self.database.close()
            self.blobs.close()
            self.files.close()

    def end_connections(self) -> None:
        """What a server does last: it closes both ports and every connection."""
        for server in self.servers:
            self.call(server.stop)
            asyncio.run_coroutine_threadsafe(server.close_all_connections(), self._loop).result(ANSWER_SECONDS)

    def tasks(self) -> list[str]:
        """The tasks on the loop, without the one that asks."""

        def others() -> list[str]:
            return [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]

        return self.call(others)

    def submit(self, tier: str = "free", headers: dict[str, str] | None = None, body: bytes = PICTURE) -> Answer:
        """POST a picture without waiting for its end."""
        return self.post(tier, body, ASYNC | (headers or {}))

    def serve(self, tier: str, serving: Serving) -> None:
        """What the leader does when it has decided what a tier serves."""
        self.queue.serve(tier, serving).result(ANSWER_SECONDS)
        self.services.serving.refresh()

    def key(self, owner: str = "anna", tiers: Sequence[str] = ("free",), **terms: Any) -> str:
        """Make a key; returns its text."""
        text, key = make(self.keyring.pepper, Terms(owner, tiers, **terms), self.clock())
        self.queue.add_key(key, self.keyring.pepper.check).result(ANSWER_SECONDS)
        self.keyring.refresh()
        return text

    def keep(self, tier: str = "free", images: int = 1) -> str:
        """Keep a prediction whose pictures are only on disk, as after a restart; returns its id."""
        key = new_id(self.clock)
        size = self.blobs.put(key, [[PICTURE]])
        plain = submission(self.clock, id=key, tier=tier, size=size, images=images, owner="anonymous")
        self.queue.submit(plain, 1000).result(ANSWER_SECONDS)
        return key

    def job(self, name: str = "job", tier: str = "free", model: str = "") -> str:
        """Open a Job; returns its token."""
        self.queue.open_job(name, tier, f"run-{name}", model).result(ANSWER_SECONDS)
        return self.tokens.mint(tier, name)

    def channel(self, token: str, headers: dict[str, str] | None = None) -> Channel:
        """Open a worker's channel, before anything is said; the site closes it."""
        found = Channel(f"http://127.0.0.1:{self.internal.port}", token, headers)
        self._channels.append(found)
        return found

    def refusal(self, token: str, headers: dict[str, str] | None = None) -> Answer:
        """What a worker is answered that gets no channel."""
        with pytest.raises(Refused) as refused:
            self.channel(token, headers)
        return refused.value.answer

    def rejected(self, token: str, message: Any) -> Closed:
        """How a channel is closed for a message after the first one."""
        channel = self.channel(token)
        channel.hold()
        channel.say(message)
        return channel.ended()

    def worker(self, token: str) -> Channel:
        """The channel of the worker with this token. It is opened anew when the last one was closed."""
        if token not in self._workers or self._workers[token].socket.state is not State.OPEN:
            self._workers[token] = self.channel(token)
            self._workers[token].hold(self._held.get(token, []))
        return self._workers[token]

    def lease(self, token: str, most: int = 1, wait: float = ANSWER_SECONDS) -> list[dict[str, Any]]:
        """Lease as a worker; returns the predictions that come before it is quiet. The first may take ``wait`` seconds.

        A worker that got fewer than it asked for still has the credits.
        """
        channel = self.worker(token)
        if channel.credits < most:
            channel.grant(most - channel.credits)
        found = channel.lease(most, wait, QUIET_SECONDS)
        self._held.setdefault(token, []).extend(found)
        return found

    def complete(self, prediction: dict[str, Any], token: str) -> list[str]:
        """Hand in labels for a prediction; returns the outcomes."""
        return self.hand_in([completion(prediction)], token)

    def hand_in(self, completions: list[dict[str, Any]], token: str) -> list[str]:
        """Hand in results as a worker; returns the outcomes."""
        return self.worker(token).complete(completions)

    def idle(self) -> None:
        """Return when no request is under way."""
        eventually(lambda: set(self.services.underway), ANSWER_SECONDS, "no request is under way", operator.not_)

    def exchange(self, data: bytes) -> bytes:
        """Send bytes to the public port; returns its answer, which ends with a JSON object or a closed connection."""
        with self.connected() as connection:
            with suppress(OSError):
                connection.sendall(data)
            answer = b""
            while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
                if not (part := connection.recv(65536)):
                    break
                answer += part
            return answer

    def connected(self) -> socket.socket:
        """A connection to the public port."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_SECONDS)


@cache
def defaults() -> Live:
    """The default settings. They are read once, because no site changes them."""
    return Live(Files())


@cache
def settings_with(*overrides: str) -> Live:
    """The defaults with what ``--set`` gives. They are judged once for all tests, so that none may change them."""
    typed = [("set-json", pair) for pair in overrides if setting(pair) == "--set-json"]
    return Live(Files(overrides=tuple(pair for pair in overrides if setting(pair) == "--set"), typed=tuple(typed)))


@contextmanager
def running(
    folder: Path,
    live: Live | None = None,
    tokens: WorkerTokens | None = None,
    internal_url: str = "",
    upload_bytes: int = UPLOAD_BYTES,
    models: Models | None = None,
) -> Iterator[Site]:
    """A site while the block lasts."""
    site = Site(folder, live or defaults(), tokens or WorkerTokens(b"secret"), internal_url, upload_bytes, models)
    try:
        yield site
    finally:
        site.close()


def failed(error: QueueError) -> Future[Any]:
    """The future of an operation that failed."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def completion(prediction: dict[str, Any], results: Sequence[Any] = LABELS, model: str = MODEL) -> dict[str, Any]:
    """The results of a prediction, as a worker with this model hands them in."""
    named = {"id": prediction["id"], "token": prediction["token"]}
    return {**named, "model": model, "results": list(results), "predict_ms": 8}


def assert_problem(answer: Answer, status: int, code: str) -> None:
    """Check that the answer is a problem of RFC 9457 and says nothing about the server's code."""
    assert (answer.status, answer.json.get("code")) == (status, code), answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["detail"]
    assert b"Traceback" not in answer.body


def waits(site: Site, tier: str = "free", *, leased: bool = False) -> int:
    """How many predictions wait in a tier, or are leased."""
    depth = site.queue.depths().result(ANSWER_SECONDS).get(tier)
    return (depth.leased if leased else depth.queued) if depth else 0
