"""Who may open a channel: a worker that speaks this server's version of the protocol.

The routes of version 1 are here too, which tell an older worker so.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from http import HTTPStatus

from tornado.httputil import HTTPServerRequest

from server.access.workers import Worker
from server.http.base import BaseHandler
from server.http.callers import Anyone
from server.http.services import Services
from server.models import lane
from server.problems import Problem
from server.queue import UnknownJob, asked

PROTOCOL = "tierserve.work.3"
MOST_BYTES = 8 * 1024 * 1024  # of a body of version 1; nothing of it is kept
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes: RFC 6455, 4.1


class RetiredHandler(BaseHandler):
    """``POST /work/lease``, ``complete``, ``extend`` and ``release``, which version 1 had."""

    callers = Anyone()

    def most_bytes(self) -> int:
        """As in version 1, so that the worker gets this answer and no other."""
        return MOST_BYTES

    async def admit(self) -> None:
        """Raises ``Problem``: 410, at which an older worker ends in good order."""
        raise _other_protocol(HTTPStatus.GONE, "version 1, which has no channel")

    def post(self) -> None:
        """The one method of version 1; whoever uses it is not admitted."""


def check_upgrade(request: HTTPServerRequest) -> None:
    """Raises ``Problem`` with 400 when a request opens no channel that this server knows."""
    headers = request.headers
    named = headers.get("Sec-WebSocket-Protocol", "")
    offers = [offer.strip() for offer in named.split(",")]
    if PROTOCOL not in offers:
        raise _other_protocol(HTTPStatus.BAD_REQUEST, repr(named[:80]) if named else "no protocol by name")
    connection = [option.strip().lower() for option in headers.get("Connection", "").split(",")]
    if "upgrade" not in connection or headers.get("Upgrade", "").lower() != "websocket":
        raise _other_protocol(HTTPStatus.BAD_REQUEST, "it without the upgrade to a WebSocket")
    if headers.get("Sec-WebSocket-Version") != "13" or not _KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
        raise _other_protocol(HTTPStatus.BAD_REQUEST, "it over a WebSocket that is not of RFC 6455")


async def model_of(worker: Worker, services: Services) -> str:
    """The model of a worker's Job (``Served.key``); empty where its row names none.

    Raises ``Problem`` with 410 when there is no such Job, and what the queue raises.
    """
    rows = await asked(services.queue.jobs())
    found = [row.model for row in rows if (row.name, row.tier) == (worker.job, worker.tier)]
    if not found:
        raise Problem(HTTPStatus.GONE, "unknown_job", str(UnknownJob(worker.job)))
    if lane(found[0], services.serving.of(worker.tier)) is None:  # or nobody has told this server of its model yet
        with suppress(TimeoutError):
            await asyncio.to_thread(services.serving.refresh)
    return found[0]


def _other_protocol(status: HTTPStatus, asked_for: str) -> Problem:
    detail = (
        f"this server speaks {PROTOCOL} over a WebSocket at /work/channel, and the worker asked for {asked_for}; "
        "the server and its workers must be of one release"
    )
    return Problem(status, "other_worker_protocol", detail)
