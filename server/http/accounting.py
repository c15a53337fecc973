"""What is kept of each answer: a count in the metrics, and a line in the access log."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from tornado.web import RequestHandler

from server.http import access_log
from server.http.bodies import Body
from server.http.services import Services
from server.metrics import METHODS, OTHER
from server.traces import Trace


class AccountedHandler(RequestHandler):
    """A handler whose answers are counted and logged once each, whatever they turn out to be."""

    services: Services
    route: str
    caller: Any
    body: Body
    request_id = ""
    begins_traces = False
    """Whether a trace may be sampled that begins here; others are only if their client says so."""
    counted = logged = traced = False
    code = ""

    @cached_property
    def address(self) -> str:
        """Where the request comes from."""
        return self.request.remote_ip or ""

    @cached_property
    def trace(self) -> Trace:
        """The trace that the request belongs to."""
        sample = self.services.spans.sample if self.begins_traces else bool
        return Trace.of(self.request.headers.get("traceparent"), sample)

    def count(self) -> None:
        """Count the answer, the first time that this is called; the application calls it for every one."""
        if not self.counted:
            self.counted = True
            seconds = self.request.request_time()
            self.services.metrics.answered(self.route, self._method, self.get_status(), seconds)

    def log_access(self, status: int | None = None) -> None:
        """Write the request into the access log, the first time that this is called; ``status`` is the answer's."""
        form = self.services.settings.access_log
        if self.logged or form == access_log.OFF:
            return
        self.logged = True
        fields: dict[str, str | int | float] = {
            "request_id": self.request_id,
            "trace_id": self.trace.trace_id,
            **access_log.who(getattr(self, "caller", None), self.address),
            "method": self._method,
            "route": self.route,
            "status": status or self.get_status(),
            "bytes_in": self.body.received,
            "bytes_out": 0 if self.request.method == "HEAD" else int(self._headers.get("Content-Length", 0)),
            "ms": round(1000 * self.request.request_time(), 1),
            "tier": self.tier_named(),
            "code": self.code,
        }
        access_log.write(form, self.services.clock(), fields)

    def trace_request(self, status: int | None = None) -> None:
        """Give the request's span to its trace, the first time that this is called; ``status`` is the answer's."""
        if self.traced or not self.services.spans.on:
            return
        self.traced = True
        end = self.services.clock()
        begin, answered = end - self.request.request_time(), status or self.get_status()
        more = {"tier": self.tier_named(), "code": self.code, "request_id": self.request_id}
        self.services.spans.request(self.trace, self._method, self.route, answered, begin, end, **more)

    @property
    def _method(self) -> str:
        return self.request.method if self.request.method in METHODS else OTHER

    def tier_named(self) -> str:
        """The tier in the path; empty when it has none, or none of ours."""
        path = getattr(self, "path_args", [""])  # Tornado refuses unknown methods before it sets them
        return path[0] if "{tier}" in self.route and path[0] in self.services.settings.tiers else ""
