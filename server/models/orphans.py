"""Deletes the files that no model has: of pushes that broke off, and of models that were removed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import islice

from server.blobs import Files
from server.models.store import ANSWER_SECONDS, TRUSTED_SECONDS
from server.queue import Queue

LOOK_SECONDS = 600.0
MOST_SUSPECTS = 10_000


class Orphans:
    """Looks at all files from time to time. ``clock`` is one that is never set.

    A file goes when two looks at least ``LOOK_SECONDS`` apart, and all between, found no model that has it, and nobody
    has brought it for two hours. A push in progress counts on no such file: see ``store``. One that found it in a model
    that was removed a moment later has committed long before the second look.
    """

    def __init__(self, queue: Queue, files: Files, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue, self._files, self._clock = queue, files, clock
        self._looked_at = -math.inf
        self._suspects: dict[str, float] = {}

    def step(self, over: Callable[[], bool]) -> None:
        """Look, if it is time; stop between two files once it is ``over``. Raises ``BlobError`` and ``QueueError``."""
        now = self._clock()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        self._files.delete_unfinished()
        old = [found.sha256 for found in self._files.listed() if found.age >= 2 * TRUSTED_SECONDS]
        # Only now: a model that was pushed since the files were listed must count.
        models = self._queue.models().result(ANSWER_SECONDS)
        needed = {file.sha256 for model in models for file in model.files}
        unneeded = [sha256 for sha256 in old if sha256 not in needed]
        self._suspects = {name: self._suspects.get(name, now) for name in islice(unneeded, MOST_SUSPECTS)}
        for sha256, since in list(self._suspects.items()):
            if over():
                return
            if now - since >= LOOK_SECONDS:
                self._files.delete(sha256)
                del self._suspects[sha256]
