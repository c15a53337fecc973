"""A lobby and a handout on a real queue, with a clock that tests move, which is also that of the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from server.access.workers import Worker
from server.blobs import BlobError, DirectoryBlobs, Piece
from server.intake.memory import Memory
from server.intake.pictures import Pictures
from server.intake.storage_check import StorageCheck
from server.lobby import Entry, Handed, Handout, LaneOf, Lobby, Recalls, waiting_of
from server.queue import (
    Anything,
    Available,
    Completion,
    Database,
    Depth,
    Granted,
    JobRecalled,
    Leased,
    News,
    Prediction,
    Queue,
    QueueError,
    Recent,
    Served,
    Serving,
    Status,
    Submission,
    asked,
    is_id,
)
from server.settings.judging import judge
from server.settings.live import Live
from server.settings.records import Settings
from server.settings.sources import Files
from server.shipped import DEFAULT_VALUES, TEMPLATES
from tests.server.given import HandClock
from tests.server.http.http_site import FailingDatabase
from tests.server.queue.queue_world import MANY, PostgresWorld, World, completion, invalid

T = TypeVar("T")
REAL_SECONDS = 30.0
LOBBY_SECONDS = 0.25
LOOK_SECONDS = 2.1
RECALLED = "lent quota went back to premium"
LARGEST = {"free": 1 << 26, "premium": 1 << 26}


@cache
def default_settings() -> Settings:
    files = Files((DEFAULT_VALUES,), base=None, templates=TEMPLATES)
    return Live(files, judge=judge, clock=HandClock(), patience=30).current.settings


class HandLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is that of a clock that a test moves."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__()
        self._hand = clock

    def time(self) -> float:
        return self._hand()


class FailingWorld(World):
    """Its database fails while it is told to."""

    database: FailingDatabase

    def open(self) -> Database:
        return FailingDatabase.open(self.directory / "data", self.clock)


class CountingQueue(Queue):
    """Counts how often it is asked for work."""

    leases = 0

    def lease(self, *wish: Any, **more: Any) -> Future[Granted]:
        self.leases += 1
        return super().lease(*wish, **more)


class SlowBlobs(DirectoryBlobs):
    """Fails while ``failure`` is set. ``put`` waits for ``released``, and for the gate of its key if it has one."""

    failure: BlobError | None = None

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.released = threading.Event()
        self.released.set()
        self.gates: dict[str, threading.Event] = {}

    def put(self, key: str, pictures: Sequence[Sequence[Piece]]) -> int:
        assert self.released.wait(REAL_SECONDS)
        if gate := self.gates.get(key):
            assert gate.wait(REAL_SECONDS)
        if self.failure is not None:
            raise self.failure
        return super().put(key, pictures)


class Client:
    """A request that waits in the lobby. ``told`` counts how often it was told that it has left."""

    def __init__(self, world: LobbyWorld, submission: Submission, pictures: Sequence[Sequence[Piece]]) -> None:
        self.world, self.id, self.told = world, submission.id, 0
        held = world.memory.hold(submission.tier, "127.0.0.1", LARGEST)
        held.take(submission.size)
        self.entry: Entry = world.lobby.enter(submission, pictures, held, self._changed)

    def _changed(self) -> None:
        self.told += 1

    @property
    def outcome(self) -> Prediction | Exception | None:
        return self.entry.outcome

    @property
    def status(self) -> Status:
        assert isinstance(self.outcome, Prediction), self.outcome
        return self.outcome.status

    def keep(self) -> Prediction:
        return self.world.run(self.world.lobby.keep(self.entry))

    def hang_up(self) -> None:
        self.world.lobby.withdraw(self.entry)


class Hand:
    """A worker that is connected: a ``Peer`` that keeps what it was given. While ``slow``, its frames are not sent."""

    def __init__(self, world: LobbyWorld, job: str, tier: str, model: str = "") -> None:
        self.world, self.worker, self.model = world, Worker(tier, job), model
        self.frames: list[list[Handed]] = []
        self.holds: dict[str, Leased] = {}
        self.dismissed: tuple[int, str] | None = None
        self.stopped = self.slow = False
        self.retired = list[str]()
        self.sent: asyncio.Future[None] | None = None

    def deliver(self, handed: Sequence[Handed]) -> Awaitable[None] | None:
        self.frames.append(list(handed))
        self.holds |= {one.leased.id: one.leased for one in handed}
        if self.slow:
            self.sent = asyncio.get_running_loop().create_future()
        return self.sent if self.slow else None

    def dismiss(self, code: int, reason: str) -> None:
        self.dismissed = code, reason

    def stopping(self) -> None:
        self.stopped = True

    def retire(self, reason: str) -> None:
        self.retired.append(reason)

    @property
    def ids(self) -> list[str]:
        """All that it was ever given, in order."""
        return [one.leased.id for frame in self.frames for one in frame]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(one.id, one.token) for one in self.holds.values()]

    def grant(self, more: int = 1) -> Self:
        self.world.do(lambda: self.world.handout.grant(self, more))
        return self

    def was_sent(self) -> None:
        assert self.sent is not None
        self.slow = False
        sent = self.sent
        self.world.do(lambda: sent.set_result(None))

    def finish(self, *ids: str) -> list[str]:
        return self.hand_in([completion(one, self.holds[one].token) for one in ids or tuple(self.holds)])

    def lie(self, *ids: str) -> list[str]:
        return self.hand_in([invalid(one, self.holds[one].token) for one in ids or tuple(self.holds)])

    def hand_in(self, completions: Sequence[Completion]) -> list[str]:
        outcomes = self.world.run(self.complete(completions))
        self.world.calm()
        return outcomes

    async def complete(self, completions: Sequence[Completion]) -> list[str]:
        """As a channel does it."""
        outcomes = await self.world.lobby.complete(self.worker, completions, self.world.attempts)
        for one in completions:
            self.holds.pop(one.id, None)
        self.world.handout.finished(self, [one.id for one in completions])
        return outcomes

    def release(self, *ids: str) -> None:
        leases = [(one, self.holds.pop(one).token) for one in ids or tuple(self.holds)]

        async def release() -> None:
            await self.world.lobby.release(self.worker, leases)
            self.world.handout.finished(self, [key for key, _ in leases])

        self.world.run(release())
        self.world.calm()

    def renew(self) -> list[str]:
        async def renew() -> list[str]:
            lost = await self.world.lobby.renew(self.worker, self.pairs, self.world.settings.lease.seconds)
            self.world.handout.finished(self, lost)
            return lost

        lost = self.world.run(renew())
        for one in lost:
            del self.holds[one]
        self.world.calm()
        return lost

    def leave(self) -> None:
        self.world.do(lambda: self.world.handout.leave(self))

    def again(self, *known: str) -> Hand:
        """The same worker with a new connection; it knows only these of what it was given."""
        other = Hand(self.world, self.worker.job, self.worker.tier, self.model)
        other.holds = {one: self.holds[one] for one in known}
        other.come()
        return other

    def come(self) -> None:
        async def come() -> None:
            self.world.handout.join(self)
            seconds = self.world.settings.lease.seconds
            self.world.handout.took_up(self, await self.world.lobby.take_up(self.worker, self.pairs, seconds))

        self.world.run(come())
        self.world.calm()


class LobbyWorld:
    """Everything around a lobby. It is calm when nothing is being written, asked or told."""

    def __init__(self, directory: Path, kind: type[World] = World) -> None:
        self.base = kind(directory)
        self.queue, self.clock, self.attempts = CountingQueue(self.base.database), self.base.clock, 3
        self.loop = HandLoop(self.clock)
        self.blobs, self.disk = SlowBlobs(directory / "blobs"), ThreadPoolExecutor(4)
        self.pictures = Pictures(self.blobs, self.disk, StorageCheck(self.queue, self.blobs))
        self.memory = Memory(1 << 28)
        self.settings = replace(default_settings(), lobby_seconds=LOBBY_SECONDS)
        self.serving: dict[str, Serving] = {}
        serving = lambda tier: self.serving.get(tier, Serving())  # noqa: E731
        self.ended: list[tuple[str, Status]] = []
        count = lambda one: self.ended.append((one.tier, one.status))  # noqa: E731
        self.lobby = Lobby(self.queue, self.pictures, self.disk, lambda: self.settings, self.clock, count, serving)
        self._table = Recent(self.queue.depths, 0.0)
        self.deaf = False  # for the news of recalls, as if each notice of them was lost
        self.recalls = Recalls(self.queue.recalled)
        self.recalls.changed = lambda: self._tell(self.handout.recalls_changed)
        known = lambda: self.settings, self._waiting, serving, self.recalls.of
        self.handout = Handout(self.queue, self.lobby, *known)
        self.queue.listen(lambda news: self._tell(self.hear, news))

    @property
    def leases(self) -> int:
        """How often the table was asked for work."""
        return self.queue.leases

    async def _waiting(self, lane: LaneOf) -> int:
        return waiting_of(lane, self.lobby.depths(await self._table.get()))

    def _tell(self, hear: Callable[..., None], *given: Any) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(hear, *given)

    def hear(self, news: Sequence[News]) -> None:
        """What the server does with news."""
        for one in news:
            if isinstance(one, Available):
                self.handout.available(one.tier)
            elif isinstance(one, JobRecalled) and not self.deaf:
                self.recalls.add(one.job, one.reason)
                self.handout.recalls_changed()
            elif isinstance(one, Anything):
                self.handout.look()

    def close(self) -> None:
        self.blobs.released.set()
        self.calm()
        self.base.close()
        self.disk.shutdown()
        self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def do(self, work: Callable[[], T], *, calm: bool = True) -> T:
        """Call something on the loop."""

        async def call() -> T:
            return work()

        result = self.run(call())
        if calm:
            self.calm()
        return result

    def calm(self) -> None:
        """Return when all that is under way has ended."""
        self.until(lambda: False, or_calm=True)

    def until(self, condition: Callable[[], bool], *, or_calm: bool = False) -> None:
        """Run the loop until something is so."""
        self.run(self._until(condition, or_calm=or_calm))

    async def _until(self, condition: Callable[[], bool], *, or_calm: bool) -> None:
        end, quiet = time.monotonic() + REAL_SECONDS, 0
        while not condition() and quiet < 2:
            assert time.monotonic() < end, "it does not come to rest"
            await asyncio.sleep(0)
            if or_calm:
                await self._told()
                quiet = quiet + 1 if self._rests() else 0
            if not quiet:
                await self.loop.run_in_executor(None, time.sleep, 0.0005)

    async def _told(self) -> None:
        """Return when the listeners have heard of all commits, and the loop of them."""
        with suppress(QueueError):
            await asked(self.base.database.write(lambda _: None))
        for _ in range(3):
            await asyncio.sleep(0)

    def _rests(self) -> bool:
        book = self.lobby.book
        written = book.count - sum(len(line) for line in book.lines.values()) - len(book.worked_on)
        return not written and asyncio.all_tasks() == {asyncio.current_task()}

    def passes(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)
        self.calm()

    def lobby_ends(self) -> None:
        """So much time passes that whatever is in the lobby now is kept."""
        self.passes(LOBBY_SECONDS)
        self.passes(LOBBY_SECONDS / 4)

    def serve(self, main: str = "", canary: str = "", tier: str = "free", *, calm: bool = True) -> None:
        """The tier serves these models from now on, and this server has heard so."""
        self.serving[tier] = Serving(served(main) if main else None, served(canary) if canary else None, 50.0)
        self.do(self.handout.served_changed, calm=calm)

    def recall(self, *jobs: str, calm: bool = True) -> None:
        """What the leader does when other tiers need what these Jobs use."""
        for job in jobs:
            assert self.queue.recall_job(job, RECALLED).result(REAL_SECONDS)
        if calm:
            self.calm()

    def looks_at_tiers(self) -> None:
        """What each server does every second."""
        self.recalls.refresh()
        self.calm()

    def hand(self, job: str = "job", wants: int = 0, tier: str = "free", model: str = "") -> Hand:
        """A worker that comes, and grants credits."""
        self.base.job(job, tier)
        hand = Hand(self, job, tier, served(model).key if model else "")
        hand.come()
        return hand.grant(wants) if wants else hand

    def hand_without_take_up(self, wants: int) -> Hand:
        """A worker that comes while the table cannot be asked."""
        hand = Hand(self, "job", "free")
        self.do(lambda: self.handout.join(hand))
        return hand.grant(wants)

    def enter(self, *, calm: bool = True, **changes: Any) -> Client:
        """A request comes into the lobby, a millisecond after the one before."""
        self.clock.advance(0.001)
        submission = self.base.submission(**{"size": 108, **changes})
        pictures = [[bytes(submission.size - 8)]]
        return self.do(lambda: Client(self, submission, pictures), calm=calm)

    def submit(self, *, stored: int = 0, **changes: Any) -> str:
        """A request that takes the table; its blob has ``stored`` bytes if they are not as many as it says."""
        self.clock.advance(0.001)
        submission, shares = self.base.submission(**{"size": 108, **changes}), self.lobby.shares
        self.blobs.put(submission.id, [[bytes((stored or submission.size) - 8)]])
        floor = self.do(lambda: shares.floor(submission), calm=False)
        finish = self.queue.submit(submission, MANY, floor=floor).result(REAL_SECONDS).finish
        self.do(lambda: shares.submitted(submission, floor, finish))
        return submission.id

    def get(self, prediction_id: str) -> Prediction:
        return self.base.get(prediction_id)

    def has(self, prediction_id: str) -> bool:
        return self.queue.get(prediction_id).result(REAL_SECONDS) is not None

    def depth(self, tier: str = "free") -> Depth:
        return self.lobby.depths(self.queue.depths().result(REAL_SECONDS))[tier]

    def stored(self) -> set[str]:
        """The blobs that there are."""
        return {key for key in self.blobs.older_than(0) if is_id(key)}

    @contextmanager
    def writer_held(self) -> Iterator[None]:
        """Nothing is committed meanwhile."""
        begun, release = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            begun.set()
            assert release.wait(REAL_SECONDS)

        held: Future[None] = self.base.database.write(hold)
        assert begun.wait(REAL_SECONDS)
        try:
            yield
        finally:
            release.set()
            held.result(REAL_SECONDS)


def served(reference: str) -> Served:
    """A model that a tier serves."""
    return Served(reference, "0" * 64, "onnx", "int8", 0.0)


KINDS: list[type[World]] = [World, PostgresWorld]
