"""What every handler shares: the services it may use, JSON out, problems out, blocking work off the loop."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar

from tornado.web import HTTPError, RequestHandler

from server.access.workers import Credentials
from server.blobs import BlobError, Blobs, FreshBlobs
from server.engines.base import Engine
from server.http.wakeups import Wakeups
from server.intake.admission import Budget, Gate
from server.metrics import OTHER, Metrics
from server.problems import Problem
from server.queue.asking import Recent
from server.queue.facts.errors import DatabaseBusy, OutcomeUnknown, StorageError
from server.queue.facts.records import Depth, TierView
from server.queue.queue import Queue
from server.settings.live import Live
from server.settings.records import Settings

T = TypeVar("T")

log = logging.getLogger("server.http")


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work with. ``disk`` and ``cluster`` are apart, so that a sick engine cannot starve requests."""

    live: Live
    queue: Queue
    blobs: Blobs
    fresh: FreshBlobs
    engine: Engine
    credentials: Credentials
    wakeups: Wakeups
    disk: Executor
    cluster: Executor
    depths: Recent[dict[str, Depth]]
    gate: Gate
    uploads: Budget
    views: Recent[dict[str, TierView]]
    metrics: Metrics
    clock: Callable[[], float] = time.time
    underway: set[RequestHandler] = field(default_factory=set)

    @property
    def settings(self) -> Settings:
        """Those in force now."""
        return self.live.current.settings


class BaseHandler(RequestHandler):
    """A handler body reads: check, do one thing, answer."""

    services: Services
    route: str
    request_id: str
    counted = False

    def initialize(self, services: Services, route: str = OTHER) -> None:
        """Called by Tornado for each request; ``route`` has names where its path has values."""
        self.services, self.route = services, route
        services.underway.add(self)

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> asyncio.Future[None]:
        """As Tornado's; a server that is about to stop asks its clients to come back on another connection."""
        if self.services.wakeups.draining and not self._headers_written:
            self.set_header("Connection", "close")
        return super().finish(chunk)

    def on_finish(self) -> None:
        """Called by Tornado after the answer."""
        self.services.underway.discard(self)

    def on_connection_close(self) -> None:
        """Called by Tornado when the client hung up before its answer."""
        self.services.underway.discard(self)

    def set_default_headers(self) -> None:
        """On every answer, errors included."""
        given = self.request.headers.get("X-Request-Id", "")
        usable = 0 < len(given) <= 64 and given.isascii() and given.isprintable()
        self.request_id = given if usable else secrets.token_hex(8)
        self.set_header("X-Request-Id", self.request_id)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")

    def answer(self, body: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        milliseconds = 1000 * self.request.request_time()
        self.set_header("Server-Timing", f"total;dur={milliseconds:.1f}")
        self.finish(json.dumps(body, separators=(",", ":")))

    async def off_loop(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run blocking disk work in its pool."""
        return await asyncio.get_running_loop().run_in_executor(self.services.disk, work, *arguments)

    async def forget(self, keys: Sequence[str]) -> None:
        """Delete blobs that nobody needs any more; what is left of them is swept later."""
        self.services.fresh.forget(keys)
        try:
            await self.off_loop(self.services.blobs.delete, keys)
        except (BlobError, OSError) as error:
            log.warning("blobs are left for the sweep: %s", error)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send whatever was raised as a problem; of an unexpected error only its request id leaves the server."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        self.write_problem(as_problem(error, HTTPStatus(status_code)))
        self.finish()

    def write_problem(self, problem: Problem) -> None:
        """Write a problem as the whole answer, without finishing the request."""
        data = json.dumps({"type": "about:blank", **problem.body, "request_id": self.request_id}).encode()
        self.set_status(problem.status_code)
        self.set_header("Content-Type", "application/problem+json")
        self.set_header("Content-Length", len(data))
        if problem.retry_after is not None:
            self.set_header("Retry-After", str(max(1, round(problem.retry_after))))
        self.write(data)
        self.count()  # now: a client that is refused early may hang up before the request is finished
        if "prediction" not in problem.body:  # that one was accepted and ended badly, maybe with a worker's own code
            self.services.metrics.rejected(self._tier_named(), problem.body["code"])

    def count(self) -> None:
        """Count the answer, the first time that this is called; the application calls it for every one."""
        if not self.counted:
            self.counted = True
            seconds = self.request.request_time()
            self.services.metrics.answered(self.route, self.request.method or "", self.get_status(), seconds)

    def _tier_named(self) -> str:
        """The tier in the path; empty when it has none, or none of ours."""
        path = getattr(self, "path_args", [""])  # Tornado refuses unknown methods before it sets them
        return path[0] if "{tier}" in self.route and path[0] in self.services.settings.tiers else ""

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """As Tornado's, with the status of the problem that the error stands for."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        super().send_error(as_problem(error, HTTPStatus(status_code)).status_code, **kwargs)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Only what nobody foresaw is an error in the log."""
        if as_problem(value, HTTPStatus.INTERNAL_SERVER_ERROR).status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request %s: %s %s", self.request_id, self.request.method, self.request.path, exc_info=value)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Bodies are only streamed by handlers that say so."""
        return None


class NotFoundHandler(BaseHandler):
    """Every path that is no route."""

    def prepare(self) -> NoReturn:
        """Whatever the method."""
        raise Problem(HTTPStatus.NOT_FOUND, "no_such_route", f"there is nothing at {self.request.path}")


def as_problem(error: BaseException | None, status: HTTPStatus) -> Problem:
    """The problem that an error stands for; ``status`` where nothing better is known."""
    match error:
        case Problem():
            return error
        case OutcomeUnknown():
            detail = f"{error}; ask again with the same Idempotency-Key, and it is done once"
            return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "outcome_unknown", detail, retry_after=5)
        case StorageError() | BlobError():
            return Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "storage_unavailable", f"nothing was kept: {error}", retry_after=5
            )
        case DatabaseBusy():
            return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many requests wait for the disk", retry_after=1)
        case HTTPError() if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            known = HTTPStatus(error.status_code)
            return Problem(known, known.name.lower(), error.log_message or known.phrase)
        case _ if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return Problem(status, status.name.lower(), status.phrase)
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "this is a fault of the server; its log says more"
    )


def in_force(live: Live) -> dict[str, Any]:
    """Whether the files as they are now are what the server works by, and why not."""
    return {"current": not live.problem, "reason": live.problem}
