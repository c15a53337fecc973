"""The base of every handler: it checks the caller, then receives the body, and sends JSON and problems."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn

from tornado.http1connection import HTTP1Connection
from tornado.iostream import IOStream
from tornado.web import HTTPError, stream_request_body

from server.http import access_log, origins
from server.http.accounting import AccountedHandler
from server.http.bodies import SMALL_BYTES, Body
from server.http.callers import Callers, refuse_key_in_url, request_id_of
from server.http.errors import as_problem, fields_of
from server.http.services import Services
from server.metrics import METHODS, OTHER
from server.problems import Problem, unknown
from server.queue import QueueError

log = logging.getLogger("server.http")


@stream_request_body
class BaseHandler(AccountedHandler):
    """A handler declares its ``callers`` and how long a body may be; its methods check, do one thing and answer.

    A body is counted while it arrives, and is dropped unless a subclass overrides ``take``.
    """

    callers: ClassVar[Callers[Any]]
    parameters: ClassVar[Sequence[str] | None] = None
    """What its query may have; None: whatever it has is ignored."""

    allow: Sequence[str]
    for_pages: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def methods(cls) -> frozenset[str]:
        """What it answers: each method that it has, and ``HEAD`` where it has ``GET``."""
        own = frozenset(
            name for name in METHODS if getattr(cls, name.lower()) is not getattr(BaseHandler, name.lower())
        )
        return own | {"HEAD"} if "GET" in own else own

    def initialize(self, services: Services, allow: Sequence[str], shared: bool, route: str = OTHER) -> None:
        """Called by Tornado for each request.

        ``route`` has names where its path has values, ``allow`` its methods; pages of listed sites ask ``shared`` ones.
        """
        self.services, self.allow, self.route = services, allow, route
        if shared and (fields := origins.fields(self.request.headers, services.settings)):
            self.for_pages = fields
            self.set_default_headers()  # which Tornado called before it
        self.body = Body(self.request.headers)
        services.underway.add(self)

    async def prepare(self) -> None:
        """Called by Tornado before any of the body is read: check the caller, then what the head tells of the body."""
        try:
            refuse_key_in_url(self.request)
            origins.check(self.request, self.services, listed=origins.ALLOWED in self.for_pages)
            if self.request.method not in self.allow:
                raise self._not_allowed()
            self.caller = await self.callers.recognize(self.request, self.address, self.services)
            self._check_query()
            self.body.expect(self.most_bytes())
            await self.admit()
            if self.body.comes:
                self.services.slow_bodies.begin(self)
                self.body.watch_chunks(self._iostream, self.give_up)
                # Tornado tells nobody else that the body has ended; the answer may come much later.
                self.request._body_future.add_done_callback(self._body_ended)
        except (HTTPError, Problem, QueueError) as error:
            if self.body.comes:
                self.refuse(as_problem(error, HTTPStatus.INTERNAL_SERVER_ERROR))
            else:
                # Tornado closes a connection whose request was answered before it had read all of it.
                self._replace_method(partial(_raise, error))

    async def head(self, *path_args: Any, **path_kwargs: Any) -> None:
        """As ``GET``; Tornado sends no body."""
        answered = self.get(*path_args, **path_kwargs)
        if answered is not None:
            await answered

    def _check_query(self) -> None:
        if self.parameters is not None:
            for name in self.request.query_arguments:
                if name not in self.parameters:
                    raise unknown(name, "the query", self.parameters)

    def _body_ended(self, _: asyncio.Future[None]) -> None:
        self.services.slow_bodies.end(self)
        self.body.leave(self._iostream)

    def most_bytes(self) -> int:
        """How long the body may be. Raises ``Problem`` when that cannot be said."""
        return SMALL_BYTES

    async def admit(self) -> None:
        """Check what else must hold before the body is read. Raises ``Problem`` and ``QueueError``."""

    def take(self, chunk: bytes) -> None:
        """Do what is to be done with a part of the body. Raises ``Problem``."""

    def release(self) -> None:
        """Forget what has come of the body; further calls change nothing."""
        self.services.slow_bodies.end(self)
        self.body.leave(self._iostream)

    def refuse(self, problem: Problem) -> None:
        """Answer before all of the body has come. After a short body the client may go on with its connection."""
        self.release()
        self.body.refused = True
        self._replace_method(_answered)  # Tornado calls it at the end of the body, but the answer is here already
        self.write_problem(problem)
        if self.body.ends_soon:
            self.flush()  # not finish(), at which a connection is closed whose body has not all come
            self.services.slow_bodies.begin(self)
        else:
            self.set_header("Connection", "close")
            self.finish()

    def _replace_method(self, other: Callable[..., None]) -> None:
        setattr(self, (self.request.method or "").lower(), other)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Called by Tornado for each part of the body, which then waits for what this returns."""
        try:
            self.body.receive(chunk)
            if not self.body.refused:
                self.take(chunk)
        except Problem as problem:
            if self.body.refused:
                self.give_up(problem)
                return None
            self.refuse(problem)
        return None

    def give_up(self, problem: Problem) -> None:
        """Answer, unless that was done before, and close the connection without waiting for the rest of the body."""
        if self._finished:
            return
        if not self.body.refused:
            self.release()
            self.body.refused = True
            self.write_problem(problem)
            self.set_header("Connection", "close")
        self.finish()

    def break_off(self) -> None:
        """Close the connection, because the rest of an answer that has begun cannot be sent."""
        self._iostream.close()

    @property
    def _iostream(self) -> IOStream:
        assert isinstance(self.request.connection, HTTP1Connection)
        return self.request.connection.stream

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> asyncio.Future[None]:
        """As Tornado's; while this server stops, its clients are told to open a new connection, to another server."""
        if self.services.wakeups.draining:
            self.set_header("Connection", "close")
        return super().finish(chunk)

    def on_finish(self) -> None:
        """Called by Tornado after the answer."""
        self.services.underway.discard(self)
        self.release()

    def on_connection_close(self) -> None:
        """Called by Tornado when the client hung up before its answer. What was accepted is kept."""
        super().on_connection_close()
        status = None if self.counted else access_log.CLIENT_CLOSED
        self.log_access(status)
        self.trace_request(status)
        self.services.underway.discard(self)
        self.release()

    def set_default_headers(self) -> None:
        """On every answer, errors included."""
        if not self.request_id:  # Tornado asks again when an error takes the place of an answer
            self.request_id = request_id_of(self.request.headers)
        self.set_header("X-Request-Id", self.request_id)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")
        for name, value in self.for_pages.items():
            self.set_header(name, value)

    def answer(self, body: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send JSON."""
        self.answer_bytes(json.dumps(body, separators=(",", ":")).encode(), "application/json", status)

    def answer_bytes(self, body: bytes, media_type: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send what is already written."""
        self.set_status(status)
        self.set_header("Content-Type", media_type)
        self.tell_limits()
        milliseconds = 1000 * self.request.request_time()
        self.set_header("Server-Timing", f"total;dur={milliseconds:.1f}")
        self.finish(body)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send whatever was raised as a problem; of an unexpected error only its request id leaves the server."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        is_unknown = status_code == HTTPStatus.METHOD_NOT_ALLOWED and isinstance(error, HTTPError)  # to Tornado
        self.write_problem(self._not_allowed() if is_unknown else as_problem(error, HTTPStatus(status_code)))
        self.finish()

    def write_problem(self, problem: Problem) -> None:
        """Write a problem as the whole answer, without finishing the request."""
        (data, media_type), self.code = self.problem_document(problem), problem.body["code"]
        self.set_status(problem.status)
        self.set_header("Content-Type", media_type)
        # A refused upload flushes the answer before Tornado would set the length, and would be sent in chunks.
        self.set_header("Content-Length", len(data))
        for name, value in self.problem_fields(problem).items():
            self.set_header(name, value)
        self.tell_limits()
        self.write(data)
        self.count()  # now, as a client that is refused early may hang up before the request is finished
        # With a prediction the request was accepted, and the code may be a worker's, of which there may be any number.
        if "prediction" not in problem.body:
            self.services.metrics.rejected(self.tier_named(), self.code)
            if limit := problem.body.get("limit"):
                self.services.metrics.limit_hit(self.tier_named(), limit)

    def _not_allowed(self) -> Problem:
        not_allowed, method = HTTPStatus.METHOD_NOT_ALLOWED, (self.request.method or "")[:20]
        detail = f"this route has no {method}, but {', '.join(self.allow)}"
        if method.upper() in METHODS - {method}:
            detail += "; methods are written in capital letters"
        return Problem(not_allowed, not_allowed.name.lower(), detail)

    def problem_document(self, problem: Problem) -> tuple[bytes, str]:
        """The body and the media type of an answer that is a problem."""
        return problem.document(self.request_id), "application/problem+json"

    def problem_fields(self, problem: Problem) -> Mapping[str, str]:
        """The header fields of such an answer, beside those that every answer has."""
        return fields_of(problem, self.allow)

    def tell_limits(self) -> None:
        """Set the header fields that tell a caller its limits, where an answer has them."""

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """As Tornado's, with the status of the problem that the error stands for."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        super().send_error(as_problem(error, HTTPStatus(status_code)).status, **kwargs)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log only errors that no code foresaw."""
        if as_problem(value, HTTPStatus.INTERNAL_SERVER_ERROR).status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request %s: %s %s", self.request_id, self.request.method, self.request.path, exc_info=value)

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """As Tornado's, but what is no UTF-8 is left to whoever reads it, who knows the code of its problem."""
        return value.decode("utf-8", "replace")


def _raise(error: Exception, *_: str) -> NoReturn:
    """Stand for the method of a request that is refused."""
    raise error.with_traceback(None)


def _answered(*_: str) -> None:
    """Stand for the method of a request that has its answer."""
