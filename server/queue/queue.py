"""The whole durable queue: the parts that callers, workers, the dispatcher and readers use, over one database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from server.queue.operations.figures import Figures
from server.queue.operations.intake import Intake
from server.queue.operations.jobs import Jobs
from server.queue.operations.leases import Leases
from server.queue.operations.upkeep import Upkeep


class Queue(Intake, Leases, Upkeep, Jobs, Figures):
    """Every operation answers a future. Writes are on disk when it resolves; reads see every write resolved before."""

    def listen(self, callback: Callable[[Mapping[str, Any]], None]) -> None:
        """Call this with what changed after each commit, on the writer's thread: it must be quick.

        ``tier:<name>``: work may be leased that could not be before, or a lease left some.
        ``prediction:<id>``: its state changed; the news is its tier and its new ``Status``.
        ``final:<id>``: it ended; the news is the ``Prediction``, or None when it must be read.
        ``ANYTHING``: any of these may have happened unheard.
        """
        self._database.listen(callback)

    def leads(self) -> bool:
        """Whether this process is the one that may dispatch now; blocks for as long as asking takes."""
        return self._database.leads()
