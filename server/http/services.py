"""The services that handlers use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from server.access.workers import Credentials
from server.blobs import Blobs
from server.engines.base import Engine
from server.http.pace import Pace
from server.http.wakeups import Lookout, Wakeups
from server.intake.admission import Gate
from server.intake.memory import Memory
from server.intake.pictures import Pictures
from server.intake.submissions import Submissions
from server.metrics import Metrics
from server.queue import FINAL, Depth, Moved, News, Queue, Recent, TierView
from server.settings.live import Live
from server.settings.records import Settings

RECENT_SECONDS = 0.1
# With what the server takes at rest and with blobs in memory, all of them stay below 400 MB.
UPLOAD_BYTES, WORK_BYTES, FRAME_BYTES = 192 * 1024 * 1024, 16 * 1024 * 1024, 48 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one server. ``cluster`` is the thread pool for what may call the API server of Kubernetes.

    ``uploads`` counts the pictures of requests that are not accepted yet, ``work`` what workers send, and ``frames``
    the pictures on their way to workers, with the copies that are made of them. ``internal_url`` is where workers of a
    cluster find the server, and empty on a laptop. ``underway`` are the requests that have no answer yet. ``big_json``
    lets one long text be parsed at a time.
    """

    live: Live
    queue: Queue
    pictures: Pictures
    submissions: Submissions
    engine: Engine
    credentials: Credentials
    cluster: Executor
    wakeups: Wakeups
    depths: Recent[dict[str, Depth]]
    views: Recent[dict[str, TierView]]
    gate: Gate
    uploads: Memory
    work: Memory
    frames: Memory
    pace: Pace
    metrics: Metrics
    clock: Callable[[], float]
    internal_url: str
    underway: set[object] = field(default_factory=set)
    big_json: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    @classmethod
    def over(
        cls,
        *,
        live: Live,
        queue: Queue,
        blobs: Blobs,
        engine: Engine,
        credentials: Credentials,
        disk: Executor,
        cluster: Executor,
        clock: Callable[[], float],
        internal_url: str = "",
        recent_seconds: float = RECENT_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Services:
        """Those over this storage and this engine; figures of the queue may be as old as ``recent_seconds``."""
        depths, pictures = Recent(queue.depths, recent_seconds), Pictures(blobs, disk)
        return cls(
            live=live,
            queue=queue,
            pictures=pictures,
            submissions=Submissions(queue, pictures, disk),
            engine=engine,
            credentials=credentials,
            cluster=cluster,
            wakeups=Wakeups(),
            depths=depths,
            views=Recent(queue.views, recent_seconds),
            gate=Gate(depths),
            uploads=Memory(UPLOAD_BYTES),
            work=Memory(WORK_BYTES),
            frames=Memory(FRAME_BYTES),
            pace=Pace(monotonic),
            metrics=Metrics(version("tierserve"), sorted(FINAL)),
            clock=clock,
            internal_url=internal_url,
        )

    def listen(self) -> None:
        """Have the queue's news wake those who wait on the running loop, and count what ended in this server.

        News can be lost, so those who wait for an end are looked after too.
        """
        loop = asyncio.get_running_loop()

        # The news comes on threads of the database, and ``wakeups`` belongs to the loop.
        def hear(news: Sequence[News]) -> None:
            loop.call_soon_threadsafe(self.wakeups.hear, news)

        self.queue.listen(hear)
        Lookout(self.wakeups, self.queue.ended).start()
        self.queue.listen(self._count, own=True)  # so that the sum over all servers counts each end once

    @property
    def settings(self) -> Settings:
        """Those in force now."""
        return self.live.current.settings

    @property
    def in_force(self) -> dict[str, Any]:
        """Return whether the settings in force are those that the files contain now, and if not, why."""
        return {"current": not self.live.problem, "reason": self.live.problem}

    def _count(self, news: Sequence[News]) -> None:
        for one in news:
            if isinstance(one, Moved) and one.status in FINAL:
                self.metrics.ended(one.tier, one.status)
