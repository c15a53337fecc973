"""The whole durable queue: the parts that callers, workers, the dispatcher and readers use, over one database."""

from __future__ import annotations

from collections.abc import Callable

from server.queue.figures import Figures
from server.queue.intake import Intake
from server.queue.jobs import Jobs
from server.queue.leases import Leases
from server.queue.upkeep import Upkeep


class Queue(Intake, Leases, Upkeep, Jobs, Figures):
    """Every operation answers a future. Writes are on disk when it resolves; reads see every write resolved before."""

    def listen(self, callback: Callable[[frozenset[str]], None]) -> None:
        """Call this with what changed after each commit, on the writer's thread: it must be quick.

        ``tier:<name>``: work may be leased that could not be before. ``prediction:<id>``: its state changed;
        ``final:<id>``: for the last time.
        ``final:<id>``: it ended.
        """
        self.database.listen(callback)
