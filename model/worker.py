"""A worker: it leases predictions ahead, classifies one after another, sends the results and ends when idle.

Three threads share a ``Desk``: the leaser thread puts leased predictions on it, the main thread classifies them, the
reporter thread sends results and renews leases. A prediction waits only for those before it, never for a batch to fill.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from model.connection import Dismissed, Interrupted, Lease, RequestRejected, ServerConnection, ServerGone
from model.decoder import Decoder, DecoderUnavailable, DecodingStopped
from model.images import ImageError
from model.runtimes.base import Model, Runtime, top

log = logging.getLogger(__name__)

# How much is leased ahead. More would be held back from other workers, less would cost a request per picture.
AHEAD_SECONDS, AHEAD_MOST = 0.15, 8
GATHER_SECONDS = 0.05
LONGEST_POLL_SECONDS = 20.0  # the server answers after a heartbeat at the latest
PICTURE_SECONDS = 20.0  # the longest that decoding one picture may take
LAST_SECONDS = 5.0  # how long a worker that was told to end may take for what it has begun

Completion = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """When a worker ends: after ``idle`` seconds without work, or ``max_predictions``; and its largest picture."""

    idle: float
    max_predictions: int
    max_pixels: int


class Desk:
    """The predictions that this worker has not begun, and the results that it has not sent. Safe from any thread."""

    def __init__(self, terms: Terms, clock: Callable[[], float] = time.monotonic) -> None:
        self._terms = terms
        self._clock = clock
        self._lock = threading.Lock()
        # One condition for each waiting thread: waking all of them for every picture would slow classification down.
        self._room = threading.Condition(self._lock)
        self._work = threading.Condition(self._lock)
        self._news = threading.Condition(self._lock)
        self._todo: deque[Lease] = deque()
        self._held: dict[str, str] = {}  # id and token of each lease, until its result is about to be sent
        self._finished: list[Completion] = []
        self._taken = 0
        self._pace = AHEAD_SECONDS  # seconds per prediction; as long as it is unknown, only one is leased
        self._renew = LONGEST_POLL_SECONDS
        self._ready_since = clock()
        self._last_work = self._last_beat = clock()
        self._closed = False
        self.done = ""

    def stop(self, why: str, *, hand_back: bool = False) -> None:
        """Lease nothing more, and with ``hand_back`` also begin nothing more. Only the first ``why`` is kept."""
        with self._lock:
            self._stop(why)
            if hand_back:
                self._todo.clear()

    def wanted(self) -> tuple[int, float]:
        """Block until there is room; return how many predictions to lease and how many seconds to wait for the first.

        The predictions leased ahead keep this worker busy for ``AHEAD_SECONDS``, so a slow model does not withhold
        predictions that another worker could begin. Returns (0, 0) when the worker should end.
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
        """Add predictions that were just leased. After ``stop`` they are only kept to be returned to the server."""
        with self._lock:
            self._held |= {lease.id: lease.token for lease in leases}
            if not self.done:
                self._todo.extend(leases)
            if leases:
                # The server's settings have changed: the reporter may be asleep until a renewal that is now too late.
                if leases[-1].renew != self._renew:
                    self._renew = leases[-1].renew
                    self._news.notify()
                self._taken += len(leases)
                self._last_work = self._clock()
            self._work.notify()

    def next(self) -> Lease | None:
        """Block until there is a prediction to begin, and return it; None when there will be no more."""
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
        """Add a result to send."""
        with self._lock:
            self._last_work = self._clock()
            if not self._finished:
                self._ready_since = self._last_work
                self._news.notify()
            self._finished.append(completion)
            self._pace += (completion["predict_ms"] / 1000 - self._pace) / 4  # a moving average
            self._tell_room()

    def next_report(self) -> tuple[list[Completion], list[tuple[str, str]], bool]:
        """Block until there is something to send; return results, leases to renew as (id, token), and if it is the end.

        While more predictions wait on the desk, results are gathered for ``GATHER_SECONDS``: a request costs the server
        as much work as a picture does.
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
        """Drop predictions whose leases were lost."""
        with self._lock:
            for id_ in lost:
                self._held.pop(id_, None)
            self._todo = deque(lease for lease in self._todo if lease.id not in lost)
            self._tell_room()

    def close(self) -> None:
        """Say that no more results will be added."""
        with self._lock:
            self._closed = True
            self._news.notify()

    def leftovers(self) -> list[tuple[str, str]]:
        """Return the leases that are still held, as (id, token)."""
        with self._lock:
            return list(self._held.items())

    def _stop(self, why: str) -> None:
        self.done = self.done or why
        for waiting in (self._room, self._work, self._news):
            waiting.notify()

    def _ahead(self) -> int:
        return min(AHEAD_MOST, int(AHEAD_SECONDS / self._pace) - 1)

    def _has_room(self) -> bool:
        # Refilled only when half is used up, so that one request brings several predictions.
        return not self._held or len(self._todo) < self._ahead() / 2

    def _tell_room(self) -> None:
        if self._has_room():
            self._room.notify()


class Worker:
    """The worker of one Job. ``connect`` opens a connection for each of the two threads that talk to the server."""

    def __init__(self, connect: Callable[[], ServerConnection], model: Model, runtime: Runtime, terms: Terms) -> None:
        self._leasing, self._reporting = connect(), connect()
        self._model, self._runtime = model, runtime
        self._decoder = Decoder(model.preprocessing, terms.max_pixels, PICTURE_SECONDS)
        self._desk = Desk(terms)
        self._failures: list[ServerGone | RequestRejected | DecoderUnavailable] = []
        self._idle = threading.Event()  # nothing more is begun

    def run(self) -> str:
        """Work until there is a reason to end, and return it as text.

        Call it from the main thread, with SIGTERM and SIGINT blocked. Raises ``ServerGone`` when the server has been
        unreachable for long, ``RequestRejected`` when it rejects what this worker sends, and ``DecoderUnavailable``.
        """
        threading.Thread(target=self._heed_signals, name="signals", daemon=True).start()
        leaser = threading.Thread(target=self._guarded, args=(self._lease,), name="leaser", daemon=True)
        reporter = threading.Thread(target=self._guarded, args=(self._report,), name="reporter", daemon=True)
        leaser.start()
        reporter.start()
        self._guarded(self._predict)
        self._idle.set()
        self._decoder.close()
        # The leaser ends first: an answer that is on its way to it may bring leases, which the reporter must return.
        self._leasing.interrupt()
        leaser.join()
        self._desk.close()
        reporter.join()
        for connection in (self._leasing, self._reporting):
            connection.close()
        if self._failures:
            raise self._failures[0]
        return self._desk.done

    def _predict(self) -> None:
        while (lease := self._desk.next()) is not None:
            self._desk.finish(predict(lease, self._model, self._runtime, self._decoder))

    def _lease(self) -> None:
        while True:
            most, wait = self._desk.wanted()
            if not most:
                return
            self._desk.put(self._leasing.lease(most, wait))

    def _report(self) -> None:
        closed = False
        while not closed:
            finished, leases, closed = self._desk.next_report()
            if finished:
                self._reporting.complete(finished)
            if leases:
                self._desk.forget(self._reporting.extend(leases))
        if left := self._desk.leftovers():
            self._reporting.release(left)

    def _heed_signals(self) -> None:
        number = signal.sigwait({signal.SIGTERM, signal.SIGINT})
        self._desk.stop(f"received {signal.Signals(number).name}", hand_back=True)
        self._leasing.interrupt()
        # A prediction that is cut short is handed back, as one that was not begun.
        if not self._idle.wait(LAST_SECONDS):
            self._decoder.interrupt()

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except (Interrupted, DecodingStopped):
            pass  # the worker is ending
        except Dismissed as error:
            self._desk.stop(f"dismissed: {error}", hand_back=True)
        except (ServerGone, RequestRejected, DecoderUnavailable) as error:
            self._failures.append(error)
            self._desk.stop(str(error), hand_back=True)


def predict(lease: Lease, model: Model, runtime: Runtime, decoder: Decoder) -> Completion:
    """Classify every picture of a prediction; the result of a picture that cannot be classified is an error.

    Raises ``DecodingStopped`` and ``DecoderUnavailable``.
    """
    began = time.perf_counter()
    results: list[dict[str, Any]] = []
    for picture in lease.pictures:
        try:
            array = decoder.load(bytes(picture))
        except ImageError as error:
            results.append({"error": {"code": error.code, "detail": error.detail}})
            continue
        (probabilities,) = runtime.predict([array])
        if math.isfinite(probabilities.sum()):
            best = top(probabilities, model.labels, lease.top_k)
            results.append({"labels": [{"label": label, "score": round(score, 6)} for label, score in best]})
        else:  # NaN is no JSON, and a worker that sent it would be ended
            results.append({"error": {"code": "model_failed", "detail": "The model's scores for it are not numbers."}})
    return {
        "id": lease.id,
        "token": lease.token,
        "model": model.reference,
        "results": results,
        "predict_ms": round(1000 * (time.perf_counter() - began), 3),
    }
