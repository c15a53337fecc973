"""Classify pictures in batches of what lies there, while the next ones are decoded.

One thread takes predictions from the desk, a pool of threads decodes their pictures, and the thread that calls ``run``
classifies all that are decoded by then, up to the largest batch. So a picture that is alone waits for no other, and
batches grow by themselves when pictures are decoded faster than they are classified.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import prediction_log
from model.decoders import Decoders
from model.desk import Desk
from model.images import ImageError
from model.messages import Lease
from model.results import completion, labelled, unreadable
from model.runtimes.base import Model, Runtime

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # how often a thread that waits looks whether the work is over


@dataclass(slots=True, eq=False)
class _Begun:
    """A prediction whose pictures are under way; ``left`` of them have no result yet."""

    lease: Lease
    began: float
    results: list[dict[str, Any]]
    left: int


@dataclass(slots=True)
class _Decoded:
    """A picture that is ready to be classified, or what came of decoding it."""

    begun: _Begun
    index: int
    array: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    error: BaseException | None = None


@dataclass(slots=True)
class _End:
    """No picture comes after the ``total`` that were begun; or taking predictions has failed with ``error``."""

    total: int
    error: BaseException | None = None


class Batches:
    """Classifies what ``desk`` has in batches of ``most`` pictures at most, decoded by so many ``threads``."""

    def __init__(self, desk: Desk, model: Model, runtime: Runtime, decoders: Decoders, threads: int, most: int) -> None:
        self._desk, self._model, self._runtime, self._decoders = desk, model, runtime, decoders
        self._most = most
        self._room = threading.Semaphore(2 * most)  # pictures that are begun: one batch, and the next
        self._ready: queue.SimpleQueue[_Decoded | _End] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decoder")
        self._over = threading.Event()
        self._done, self._total = 0, -1  # pictures with a result; how many there are in all, once that is known

    def run(self, tell: Callable[[], None]) -> None:
        """Work until the desk has no more. ``tell`` is called whenever the desk may have something to send.

        Raises ``DecodingStopped`` and ``DecoderUnavailable``, and what the runtime raises for a picture alone.
        """
        feeder = threading.Thread(target=self._feed, args=(tell,), name="feeder", daemon=True)
        feeder.start()
        try:
            while self._done != self._total:
                if decoded := self._gather():
                    self._classify(decoded)
                tell()
        finally:
            self._over.set()
            self._decoders.close()  # before the threads end that have started its children
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _feed(self, tell: Callable[[], None]) -> None:
        total = 0
        try:
            while (lease := self._desk.next()) is not None:
                tell()
                many = len(lease.pictures)
                begun = _Begun(lease, time.perf_counter(), [{} for _ in range(many)], many)
                for index in range(many):
                    while not self._room.acquire(timeout=LOOK_SECONDS):
                        if self._over.is_set():
                            return
                    self._pool.submit(self._decode, begun, index)
                    total += 1
            self._ready.put(_End(total))
        except BaseException as error:  # noqa: BLE001 -- raised by the thread that runs
            self._ready.put(_End(total, error))

    def _decode(self, begun: _Begun, index: int) -> None:
        try:
            array = self._decoders.load(bytes(begun.lease.pictures[index]))
            self._ready.put(_Decoded(begun, index, array))
        except BaseException as error:  # noqa: BLE001 -- raised by the thread that runs
            self._ready.put(_Decoded(begun, index, error=error))

    def _gather(self) -> list[_Decoded]:
        """Wait until there is a picture, and take those that lie there, up to a whole batch.

        A picture that cannot be decoded gets its result at once.
        """
        batch: list[_Decoded] = []
        item = self._next(block=True)
        while item is not None:
            if isinstance(item, _Decoded) and item.error is None:
                batch.append(item)
            elif isinstance(item, _Decoded) and isinstance(item.error, ImageError):
                self._finish(item, unreadable(item.error))
            elif item.error is not None:
                raise item.error
            elif isinstance(item, _End):
                self._total = item.total
            item = self._next(block=False) if len(batch) < self._most else None
        return batch

    def _next(self, *, block: bool) -> _Decoded | _End | None:
        try:
            return self._ready.get(block, LOOK_SECONDS)
        except queue.Empty:
            return None

    def _classify(self, batch: list[_Decoded]) -> None:
        try:
            rows = self._runtime.predict([one.array for one in batch])
        except Exception as error:
            if len(batch) == 1:
                raise
            self._most = max(1, len(batch) // 2)
            log.error("%d pictures at once failed, so at most %d from now on: %s", len(batch), self._most, error)
            for one in batch:
                self._classify([one])
            return
        for one, logits in zip(batch, rows, strict=True):
            self._finish(one, labelled(logits, self._model, one.begun.lease))

    def _finish(self, one: _Decoded, result: dict[str, Any]) -> None:
        begun = one.begun
        begun.results[one.index] = result
        begun.left -= 1
        self._done += 1
        self._room.release()
        if not begun.left:
            done = completion(begun.lease, self._model, begun.results, begun.began)
            self._desk.finish(done)
            prediction_log.write(self._desk.log, time.time(), begun.lease, done)
