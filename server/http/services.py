"""What handlers work with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from server.access.workers import Credentials
from server.blobs import Blobs
from server.engines.base import Engine
from server.http.wakeups import Wakeups
from server.intake.admission import Budget, Gate
from server.intake.pictures import Pictures
from server.intake.submissions import Submissions
from server.metrics import Metrics
from server.queue import FINAL, Depth, Moved, News, Queue, Recent, TierView
from server.settings.live import Live
from server.settings.records import Settings

RECENT_SECONDS = 0.1
UPLOAD_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Services:
    """One server's. ``cluster`` is the pool for whatever may ask the cluster, which must not hold up the disk's.

    ``underway`` are the requests that have no answer yet.
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
    uploads: Budget
    metrics: Metrics
    clock: Callable[[], float]
    underway: set[object] = field(default_factory=set)

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
        recent_seconds: float = RECENT_SECONDS,
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
            uploads=Budget(UPLOAD_BYTES),
            metrics=Metrics(version("tierserve"), sorted(FINAL)),
            clock=clock,
        )

    def listen(self) -> None:
        """Have the queue's news wake those who wait on the running loop, and count what ended in this server."""
        loop = asyncio.get_running_loop()

        def hear(news: Sequence[News]) -> None:
            loop.call_soon_threadsafe(self.wakeups.hear, news)

        self.queue.listen(hear)
        self.queue.listen(self._count, own=True)

    @property
    def settings(self) -> Settings:
        """Those in force now."""
        return self.live.current.settings

    @property
    def in_force(self) -> dict[str, Any]:
        """Whether the files as they are now are what the server works by, and why not."""
        return {"current": not self.live.problem, "reason": self.live.problem}

    def _count(self, news: Sequence[News]) -> None:
        for one in news:
            if isinstance(one, Moved) and one.status in FINAL:
                self.metrics.ended(one.tier, one.status)
