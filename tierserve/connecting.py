"""Connections on which a server's answer is read, even if it closes them while it is still sent a picture."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Socket(socket.socket):
    """Takes what cannot be sent any more for sent, so that what came before the connection broke is still read.

    A server that refuses a picture from its first bytes may answer and close at once. asyncio drops the connection when
    it fails to send, and the answer with it.
    """

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        try:
            return super().send(data, flags)
        except (BrokenPipeError, ConnectionResetError):
            return memoryview(data).nbytes

    def sendmsg(self, buffers: Any, *more: Any) -> int:
        try:
            return super().sendmsg(buffers, *more)
        except (BrokenPipeError, ConnectionResetError):
            return sum(memoryview(one).nbytes for one in buffers)


MOST_ANSWER_BYTES = 64 * 1024 * 1024
"""Of an answer in JSON; the largest of a server have a hundred predictions, or a model's labels."""


async def body_of(answer: aiohttp.ClientResponse) -> bytes:
    """The bytes of an answer in JSON; none if it is something else, which may never end as a camera's pictures do.

    Raises ``aiohttp.ClientPayloadError`` if it is too long.
    """
    if "Content-Type" in answer.headers and "json" not in answer.content_type:
        return b""
    parts, length = [], 0
    async for part in answer.content.iter_any():
        parts.append(part)
        length += len(part)
        if length > MOST_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError(f"an answer has more than {MOST_ANSWER_BYTES} bytes")
    return b"".join(parts)


def connector() -> aiohttp.TCPConnector:
    """What makes the connections of a session; there is no limit of them."""
    return aiohttp.TCPConnector(limit=0, socket_factory=lambda address: _Socket(*address[:3]))
