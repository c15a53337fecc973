"""The worker's desk: what it holds, what it has finished, and so what it has to tell the server."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from model.messages import Lease, News
from model.terms import AHEAD_SECONDS, HELD_MOST, Terms

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0  # the pause before a result is sent again that the server could not keep
RENEW_SECONDS = 20.0  # until the server says how often

Completion = dict[str, Any]


class Desk:
    """The predictions that this worker holds, and the results whose outcome is unknown. Safe from any thread."""

    def __init__(self, terms: Terms, clock: Callable[[], float] = time.monotonic) -> None:
        self._terms = terms
        self._clock = clock
        self._lock = threading.Lock()
        # One condition for each waiting thread: waking all of them for every picture would slow classification down.
        self._work = threading.Condition(self._lock)
        self._due = threading.Condition(self._lock)
        self._todo: deque[Lease] = deque()
        self._held: dict[str, str] = {}  # id and token of each lease whose prediction is not finished
        self._unsettled: dict[str, Completion] = {}  # results whose outcome has not come
        self._finished: list[Completion] = []  # those of them that are to be sent
        self._again: list[Completion] = []  # and those that are to be sent after a pause
        self._returned: dict[str, str] = {}  # leases to hand back
        self._granted = self._taken = 0
        self._pace = AHEAD_SECONDS  # seconds per prediction; as long as it is unknown, only one is granted
        self.renew = RENEW_SECONDS
        self.log = "off"  # how predictions are logged, as the server says
        self._online = self._stopping = self._closed = self._ended = False
        self._answers = 0  # to renewals
        self._last_answer: int | None = None  # which of them brings the outcomes of all that was sent
        self._last_work = self._last_beat = self._ready_since = self._again_since = clock()
        self.done = ""

    def stop(self, why: str, *, hand_back: bool = False) -> None:
        """Take nothing more, and with ``hand_back`` also begin nothing more. Only the first ``why`` is kept."""
        with self._lock:
            self._stop(why)
            if hand_back:
                self._begin_no_more()

    def next(self) -> Lease | None:
        """Block until there is a prediction to begin, and return it; None when there will be no more.

        A worker that was idle for long ends, but not while the server is away: the time begins anew with each channel.
        """
        with self._lock:
            while not self._todo:
                if self.done:
                    return None
                idle_left = self._last_work + self._terms.idle - self._clock()
                if idle_left <= 0 and self._online and not self._again and not self._held:
                    self._stop(f"idle for {self._terms.idle:g} s")
                else:
                    self._work.wait(idle_left if idle_left > 0 else AGAIN_SECONDS)
            return self._todo.popleft()

    def finish(self, completion: Completion) -> None:
        """Add a result."""
        with self._lock:
            self._last_work = self._clock()
            self._held.pop(completion["id"], None)
            self._unsettled[completion["id"]] = completion
            if not self._finished:
                self._ready_since = self._last_work
                if self._has_more():  # else it is sent at once
                    self._due.notify()
            self._finished.append(completion)
            self._pace += (completion["predict_ms"] / 1000 - self._pace) / 4  # a moving average

    def take(self, news: News) -> None:
        """Take in what the server says. Predictions that come after ``stop`` are only kept to be handed back."""
        with self._lock:
            if news.leases:
                self._put(news.leases)
            for id_, outcome in news.outcomes:
                self._settle(id_, outcome)
            if news.lost is not None:
                self._answers += 1
                for id_ in news.lost:
                    self._held.pop(id_, None)
                    self._returned.pop(id_, None)
                self._todo = deque(lease for lease in self._todo if lease.id in self._held)
            if news.log is not None:
                self.log = news.log
            if news.renew is not None:
                self.renew = news.renew
                self._due.notify()  # it may be asleep until a renewal that is now too late
            self._stopping = self._stopping or news.stopping
            if news.retire:
                self._stop(news.retire)
                self._begin_no_more()

    def open(self) -> dict[str, Any]:
        """Return the first message on a new channel: it names what this worker has, and sends results again."""
        with self._lock:
            self._online, self._stopping = True, False
            self._granted, self._last_answer = 0, None
            self._last_beat = self._last_work = self._clock()
            self._finished, self._again = [], []
            self._returned = {}  # not named, so they wait again
            message: dict[str, Any] = {"renew": self._names()}
            if self._unsettled:
                message["completions"] = list(self._unsettled.values())
            self._grant(message)
            self._due.notify()
            return message

    def lose(self) -> None:
        """Say that the channel is lost: nothing can be sent before the next ``open``."""
        with self._lock:
            self._online = False

    def message(self) -> dict[str, Any]:
        """Return what is to be sent now; empty when nothing is due.

        While more predictions wait on the desk, results are gathered for a moment, or until more predictions are asked
        for: a message costs the server time.
        """
        message: dict[str, Any] = {}
        with self._lock:
            if not self._online:
                return message
            now = self._clock()
            if self._again and now - self._again_since >= AGAIN_SECONDS:
                self._finished, self._again = self._finished + self._again, []
            if self._results_due(now) or self._room_is_used_up():
                self._grant(message)
                if self._finished:
                    message["completions"], self._finished = self._finished, []
                    self._last_answer = None
            if self._returned:
                message["release"], self._returned = [list(one) for one in self._returned.items()], {}
            if not message and self._leaves() and self._last_answer is None:
                self._last_answer = self._answers + 1
                message["renew"] = self._names()  # so that the server sends the outcomes now
            elif now - self._last_beat >= self.renew:
                message["renew"] = self._names()
            if "renew" in message:
                self._last_beat = now
            return message

    def wait(self) -> bool:
        """Block until a message may be due that no result and no news brings about; return False at the end."""
        with self._lock:
            while not self._ended:
                now = self._clock()
                left = self._last_beat + self.renew - now
                if self._finished and self._has_more():
                    left = min(left, self._ready_since + self._terms.gather - now)
                if self._again:
                    left = min(left, self._again_since + AGAIN_SECONDS - now)
                if self._online and left <= 0:
                    return True
                self._due.wait(left if left > 0 else AGAIN_SECONDS)
            return False

    def close(self) -> None:
        """Say that nothing more is begun or finished: whatever is held is handed back."""
        with self._lock:
            self._stop("closed")
            self._closed = True
            self._todo.clear()
            for id_ in list(self._held):
                self._give_back(id_)

    def end(self) -> None:
        """Make ``wait`` return False."""
        with self._lock:
            self._ended = True
            self._due.notify()

    def is_clear(self) -> bool:
        """Tell whether this channel has nothing more to bring: it can be closed, or left for another server."""
        with self._lock:
            if self._held or self._unsettled or self._returned:
                return False
            heard = self._last_answer is not None and self._answers >= self._last_answer
            return self._stopping or (self._closed and heard)

    def is_over(self) -> bool:
        """Tell whether the worker has ended and has no result that would be worth a new channel."""
        with self._lock:
            return self._closed and not self._unsettled

    def is_online(self) -> bool:
        """Tell whether there is a channel."""
        with self._lock:
            return self._online

    def _put(self, leases: Sequence[Lease]) -> None:
        self._granted = max(self._granted - len(leases), 0)
        self._taken += len(leases)
        self._last_work = self._clock()
        for lease in leases:
            self._held[lease.id] = lease.token
            if self.done:
                self._give_back(lease.id)
            else:
                self._todo.append(lease)
        if self._taken >= self._terms.max_predictions:
            self._stop(f"made {self._taken} predictions")
        self._work.notify()

    def _settle(self, id_: str, outcome: str) -> None:
        completion = self._unsettled.get(id_)
        if completion is None:
            return
        if outcome == "again":
            if completion not in self._again:
                self._again.append(completion)
            self._again_since = self._clock()
            self._due.notify()
            return
        del self._unsettled[id_]
        if outcome == "invalid":
            log.error("the server found the result of %s invalid", id_)

    def _stop(self, why: str) -> None:
        self.done = self.done or why
        self._work.notify()

    def _begin_no_more(self) -> None:
        for lease in self._todo:
            self._give_back(lease.id)
        self._todo.clear()

    def _give_back(self, id_: str) -> None:
        token = self._held.pop(id_, None)
        if token is not None:
            self._returned[id_] = token

    def _names(self) -> list[list[str]]:
        return [
            [id_, token] for id_, token in ({i: c["token"] for i, c in self._unsettled.items()} | self._held).items()
        ]

    def _leaves(self) -> bool:
        return self._closed or (self._stopping and not self._held and bool(self._unsettled))

    def _has_more(self) -> bool:
        return bool(self._held if self._terms.batches else self._todo)

    def _results_due(self, now: float) -> bool:
        return bool(self._finished) and (not self._has_more() or now - self._ready_since >= self._terms.gather)

    def _used(self) -> int:
        # A slow model takes nothing while it has anything: another worker could begin it.
        one_by_one = not self._terms.batches and self._terms.ahead(self._pace) > 0
        return self._granted + len(self._todo if one_by_one else self._held)

    def _room_is_used_up(self) -> bool:
        # Refilled only when half is used up, so that one message brings several predictions.
        half = (max(1, self._terms.ahead(self._pace)) - (not self._terms.batches)) // 2
        return self._used() <= half and self._missing() > 0

    def _missing(self) -> int:
        if self.done or self._stopping or len(self._unsettled) >= self._terms.unsettled:
            return 0
        return min(
            max(1, self._terms.ahead(self._pace)) - self._used(),
            self._terms.max_predictions - self._taken - self._granted,
            HELD_MOST - len(self._held) - len(self._unsettled) - self._granted,
        )

    def _grant(self, message: dict[str, Any]) -> None:
        missing = self._missing()
        if missing > 0:
            message["credits"] = missing
            self._granted += missing
