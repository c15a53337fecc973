"""One worker: leases predictions ahead, classifies them one after another, hands results in, goes away when idle.

Three threads share one desk: the leaser fills it, the main thread predicts, the reporter hands results in and keeps the
leases alive. A picture waits on the desk for as long as the ones before it take, never for a batch to fill.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from model.client import Client, Dismissed, Interrupted, Lease, Refused, ServerGone
from model.images import ImageError, load
from model.runtimes.base import Model, Runtime, top

log = logging.getLogger(__name__)

AHEAD_SECONDS, AHEAD_MOST = 0.15, 8
GATHER_SECONDS = 0.05
LONGEST_POLL_SECONDS = 20.0
PICTURE_SECONDS = 20.0

Completion = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """When to end: after ``idle`` seconds without work, or ``max_predictions``; and the largest picture to decode."""

    idle: float
    max_predictions: int
    max_pixels: int


class Desk:
    """What this worker holds: predictions not begun, results not handed in. Safe from any thread."""

    def __init__(self, terms: Terms, clock: Callable[[], float] = time.monotonic) -> None:
        self._terms = terms
        self._clock = clock
        self._lock = threading.Lock()
        # One for each thread that waits: waking all of them for every picture takes time from predicting it.
        self._room = threading.Condition(self._lock)
        self._work = threading.Condition(self._lock)
        self._news = threading.Condition(self._lock)
        self._todo: deque[Lease] = deque()
        self._held: dict[str, str] = {}
        self._finished: list[Completion] = []
        self._taken = 0
        self._pace = AHEAD_SECONDS
        self._renew = LONGEST_POLL_SECONDS
        self._ready_since = clock()
        self._last_work = self._last_beat = clock()
        self._closed = False
        self.done = ""

    def stop(self, why: str, *, hand_back: bool = False) -> None:
        """Take nothing more in; with ``hand_back`` begin nothing more either. The first reason stays."""
        with self._lock:
            self._stop(why)
            if hand_back:
                self._todo.clear()

    def wanted(self) -> tuple[int, float]:
        """Blocks until there is room: how many to lease, and how long to wait for the first. (0, 0) when done.

        What is leased ahead keeps this worker busy for ``AHEAD_SECONDS``: a slow model holds back nothing that another
        worker could begin.
        """
        with self._lock:
            while True:
                left = self._terms.max_predictions - self._taken
                idle_left = self._terms.idle - (self._clock() - self._last_work)
                if left <= 0:
                    self._stop(f"made {self._taken} predictions")
                elif not self._held and idle_left <= 0:
                    self._stop(f"idle for {self._terms.idle:g} s")
                if self.done:
                    return 0, 0.0
                if self._has_room():
                    wait = self._terms.idle if self._held else idle_left
                    return min(max(1, self._ahead()), left), min(LONGEST_POLL_SECONDS, wait)
                self._room.wait()

    def put(self, leases: Sequence[Lease]) -> None:
        """Predictions that were just leased; once done they are only held, to be handed back."""
        with self._lock:
            self._held |= {lease.id: lease.token for lease in leases}
            if not self.done:
                self._todo.extend(leases)
            if leases:
                if leases[-1].renew != self._renew:  # the reporter may sleep until a heartbeat that is now too late
                    self._renew = leases[-1].renew
                    self._news.notify()
                self._taken += len(leases)
                self._last_work = self._clock()
            self._work.notify()

    def next(self) -> Lease | None:
        """The next prediction to make, waiting for one; None when there will be none."""
        with self._lock:
            while not self._todo:
                if self.done:
                    return None
                self._work.wait()
            lease = self._todo.popleft()
            self._tell_room()
            if self._finished and not self._todo:
                self._news.notify()
            return lease

    def finish(self, completion: Completion) -> None:
        """A result to hand in."""
        with self._lock:
            self._last_work = self._clock()
            if not self._finished:
                self._ready_since = self._last_work
                self._news.notify()
            self._finished.append(completion)
            self._pace += (completion["predict_ms"] / 1000 - self._pace) / 4
            self._tell_room()

    def errand(self) -> tuple[list[Completion], list[tuple[str, str]], bool]:
        """Blocks until there is something to tell the server: results, leases to extend, or that no more will come.

        While more is waiting on the desk, results gather for ``GATHER_SECONDS``: a request costs the server as much
        as a picture's way through it.
        """
        with self._lock:
            while True:
                now = self._clock()
                beat_in = self._renew - (now - self._last_beat)
                gather_in = GATHER_SECONDS - (now - self._ready_since) if self._todo else 0.0
                if self._closed or beat_in <= 0 or (self._finished and gather_in <= 0):
                    break
                self._news.wait(min(beat_in, gather_in) if self._finished else beat_in)
            finished, self._finished = self._finished, []
            for completion in finished:
                self._held.pop(completion["id"], None)
            leases = []
            if beat_in <= 0:
                self._last_beat = self._clock()
                leases = list(self._held.items())
            self._tell_room()
            return finished, leases, self._closed

    def forget(self, lost: set[str]) -> None:
        """Predictions that are ours no more."""
        with self._lock:
            for id_ in lost:
                self._held.pop(id_, None)
            self._todo = deque(lease for lease in self._todo if lease.id not in lost)
            self._tell_room()

    def close(self) -> None:
        """No result will come any more."""
        with self._lock:
            self._closed = True
            self._news.notify()

    def leftovers(self) -> list[tuple[str, str]]:
        """What is still held, as (id, token)."""
        with self._lock:
            return list(self._held.items())

    def _stop(self, why: str) -> None:
        self.done = self.done or why
        for waiting in (self._room, self._work, self._news):
            waiting.notify()

    def _ahead(self) -> int:
        return min(AHEAD_MOST, int(AHEAD_SECONDS / self._pace) - 1)

    def _has_room(self) -> bool:
        return not self._held or len(self._todo) < self._ahead() / 2

    def _tell_room(self) -> None:
        if self._has_room():
            self._room.notify()


class Worker:
    """Works for one Job. ``connect`` makes a client for each of the threads that talk to the server."""

    def __init__(self, connect: Callable[[], Client], model: Model, runtime: Runtime, terms: Terms) -> None:
        self._leasing, self._reporting = connect(), connect()
        self._model, self._runtime, self._terms = model, runtime, terms
        self._desk = Desk(terms)
        self._failures: list[ServerGone | Refused] = []

    def run(self) -> str:
        """Work until done and say why. SIGTERM and SIGINT must be blocked in the calling thread, the main one.

        Raises ``ServerGone`` when the server could not be reached for long, ``Refused`` when it takes no result.
        """
        threading.Thread(target=self._heed_signals, name="signals", daemon=True).start()
        leaser = threading.Thread(target=self._guarded, args=(self._lease,), name="leaser", daemon=True)
        reporter = threading.Thread(target=self._guarded, args=(self._report,), name="reporter", daemon=True)
        leaser.start()
        reporter.start()
        while (lease := self._desk.next()) is not None:
            self._desk.finish(predict(lease, self._model, self._runtime, self._terms.max_pixels))
        self._leasing.interrupt()
        leaser.join()
        self._desk.close()
        reporter.join()
        for client in (self._leasing, self._reporting):
            client.close()
        if self._failures:
            raise self._failures[0]
        return self._desk.done

    def _lease(self) -> None:
        while True:
            most, wait = self._desk.wanted()
            if not most:
                return
            self._desk.put(self._leasing.lease(most, wait))

    def _report(self) -> None:
        closed = False
        while not closed:
            finished, leases, closed = self._desk.errand()
            if finished:
                self._reporting.complete(finished)
            if leases:
                self._desk.forget(self._reporting.extend(leases))
        if left := self._desk.leftovers():
            self._reporting.release(left)

    def _heed_signals(self) -> None:
        number = signal.sigwait({signal.SIGTERM, signal.SIGINT})
        self._desk.stop(f"told to by {signal.Signals(number).name}", hand_back=True)
        self._leasing.interrupt()

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except Interrupted:
            pass
        except Dismissed as error:
            self._desk.stop(f"dismissed: {error}", hand_back=True)
        except (ServerGone, Refused) as error:
            self._failures.append(error)
            self._desk.stop(str(error), hand_back=True)


def predict(lease: Lease, model: Model, runtime: Runtime, max_pixels: int) -> Completion:
    """Classify the pictures of a prediction, one result each; a bad picture is a result with an error."""
    began = time.perf_counter()
    results: list[dict[str, Any]] = []
    for image in lease.images:
        try:
            with _time_limit(PICTURE_SECONDS):
                array = load(bytes(image), model.preprocessing, max_pixels)
        except ImageError as error:
            results.append({"error": {"code": error.code, "detail": error.detail}})
            continue
        (probabilities,) = runtime.predict([array])
        best = top(probabilities, model.labels, lease.top_k)
        results.append({"labels": [{"label": label, "score": round(score, 6)} for label, score in best]})
    return {
        "id": lease.id,
        "token": lease.token,
        "results": results,
        "predict_ms": round(1000 * (time.perf_counter() - began), 3),
    }


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def ring(_number: int, _frame: FrameType | None) -> None:
        raise ImageError("image_too_slow", f"decoding took longer than {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
