"""What this server did for each trace: its requests, how long predictions waited, and how long they were worked on."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from server.queue import Prediction, Status
from server.traces import Trace, new_span_id

Value = str | int


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a trace, which began and ended at these epoch seconds. ``serves``: it is a request of a client.

    ``error`` says how it failed; it is empty if it did not.
    """

    trace: Trace
    name: str
    begin: float
    end: float
    attributes: Mapping[str, Value]
    error: str = ""
    serves: bool = False


class Sink(Protocol):
    """Where spans go."""

    def add(self, span: Span) -> None:
        """Take a span, from any thread, without waiting for anything."""

    def close(self) -> None:
        """Send what it has, within seconds. Blocks."""


class Spans:
    """Gives the spans of sampled traces to a sink; without one (None) nothing is sampled, and nothing done.

    ``ratio`` is the part of the traces that begin here which are sampled. Those that a client began are, if it says so.
    """

    def __init__(
        self, sink: Sink | None = None, ratio: float = 0.0, chance: Callable[[], float] = random.random
    ) -> None:
        self._sink, self._ratio, self._chance = sink, ratio, chance

    @property
    def on(self) -> bool:
        """Whether spans go anywhere."""
        return self._sink is not None

    def sample(self) -> bool:
        """Decide of a trace that begins here."""
        return self._sink is not None and self._chance() < self._ratio

    def request(
        self, trace: Trace, method: str, route: str, status: int, begin: float, end: float, **more: Value
    ) -> None:
        """A request was answered. ``more`` are attributes, of which empty ones are left out."""
        if self._sink is None or not trace.sampled:
            return
        attributes: dict[str, Value] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        attributes |= {f"tierserve.{name}": value for name, value in more.items() if value != ""}
        error = str(status) if status >= 500 else ""
        self._sink.add(Span(trace, f"{method} {route}", begin, end, attributes, error, serves=True))

    def prediction(self, one: Prediction) -> None:
        """A prediction has got its results, or failed by them."""
        if self._sink is None or one.trace is None or one.completed_at is None:
            return
        parent = Trace.of(one.trace, lambda: False)
        if not parent.sampled:
            return
        attributes: dict[str, Value] = {
            "tierserve.tier": one.tier,
            "tierserve.model": one.model,
            "tierserve.images": one.images,
            "tierserve.attempts": one.attempts,
            "tierserve.request_id": one.request_id or "",
        }
        started = one.completed_at if one.started_at is None else one.started_at
        self._sink.add(Span(parent, "queue", one.accepted_at, max(one.accepted_at, started), attributes))
        if one.predict_ms is not None:
            begin = max(started, one.completed_at - one.predict_ms / 1000)
            error = (one.error or {}).get("code", "") if one.status is Status.FAILED else ""
            here = Trace(parent.trace_id, new_span_id(), parent.parent_id, sampled=True)
            self._sink.add(Span(here, "predict", begin, one.completed_at, attributes, error))

    def close(self) -> None:
        """Send what is left, within seconds. Blocks."""
        if self._sink is not None:
            self._sink.close()
