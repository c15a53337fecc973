"""Sends a file of a model, in pieces that are read off the event loop."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

from tornado.iostream import StreamClosedError

from server.blobs import BlobError
from server.http.base import BaseHandler
from server.problems import Problem

log = logging.getLogger(__name__)


async def send_file(handler: BaseHandler, sha256: str, size: int) -> None:
    """Answer with the file, which has ``size`` bytes; to ``HEAD``, without reading it.

    What goes wrong after its first piece breaks the answer off. Raises ``Problem``, and ``BlobError`` before the first
    piece. Whoever takes nothing for a minute is hung up on, as with any answer.
    """
    services = handler.services
    if services.sends.locked():
        detail = "as many files are being sent as may be at once"
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=1)
    async with services.sends:
        await _send(handler, sha256, size)


async def _send(handler: BaseHandler, sha256: str, size: int) -> None:
    loop, services = asyncio.get_running_loop(), handler.services
    handler.set_header("Content-Type", "application/octet-stream")
    handler.set_header("Content-Length", size)
    if handler.request.method == "HEAD":
        return
    pieces, sent = services.store.files.pieces(sha256), 0
    try:
        while piece := await loop.run_in_executor(services.store_pool, next, pieces, b""):
            handler.write(piece)
            await handler.flush()
            sent += len(piece)
    except BlobError as error:
        if not sent:
            raise
        log.warning("the file %s breaks off on its way to %s: %s", sha256, handler.address, error)
        handler.break_off()
    except StreamClosedError:
        return
