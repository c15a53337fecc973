"""The client of the operators' routes on a server's internal port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from tierserve import errors
from tierserve.addresses import server_url, shown, unreachable
from tierserve.connecting import body_of, connector
from tierserve.errors import Misconfigured, TierserveError, Unreachable

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 60.0
SLOWEST = 50_000  # bytes a second: a file that comes or goes more slowly is given up
PART_BYTES = 1024 * 1024
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before a request is made again
BUSY = (429, 503)
# What a port says that has no such routes, or does not take the token.
OTHER_PORT = frozenset({"bad_admin_token", "no_such_route", "key_unknown", "too_many_wrong_keys"})
HELP = (
    "On a laptop, name the state folder of the server with --state. Elsewhere, name its internal port with --url and "
    "the file of its admin token with --admin-token-file."
)

Advance = Callable[[int], None]
T = TypeVar("T")


class Refused(errors.Refused):
    """The server refused. Whoever asked the wrong port, or with the wrong token, is told how to name the right one."""

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" + (f". {HELP}" if self.code in OTHER_PORT else "")


class Operator:
    """Asks the internal port at ``url`` with the admin token. Every method raises ``TierserveError``.

    Raises ``Misconfigured`` if the URL cannot be one.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = server_url(url), token
        if "@" in self._url:  # it would be sent in the place of the token
            raise Misconfigured("the URL of an internal port has no user name and no password")
        self._shown = shown(self._url)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request with a small body, from a program that has no event loop."""
        return asyncio.run(self.answer(method, path, body))

    async def answer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request with a small body."""
        data = None if body is None else json.dumps(body).encode()
        async with self._asking(method, path, {"Content-Type": "application/json"}, data=data) as answer:
            return self._read(answer, await body_of(answer))

    async def look(self, path: str, mark: str) -> dict[str, Any]:
        """The answer to GET, which has the field ``mark`` on the internal port: the public one has like routes."""
        answer = await self.answer("GET", path)
        if mark not in answer:
            raise TierserveError(f"{self._shown} is not the internal port of a server of this release. {HELP}")
        return answer

    async def has(self, path: str) -> bool:
        """Whether there is something at this path."""
        async with self._asking("HEAD", path) as answer:
            return answer.status == HTTPStatus.OK

    async def send(self, path: str, file: Path, size: int, advance: Advance) -> dict[str, Any]:
        """Upload a file of ``size`` bytes; ``advance`` is told how many went. The server may refuse before they go."""

        async def parts() -> AsyncGenerator[bytes]:
            with file.open("rb") as stream:
                while part := await asyncio.to_thread(stream.read, PART_BYTES):
                    yield part
                    advance(len(part))

        head = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        how = {"data": parts() if size else b"", "expect100": size > 0}
        async with self._asking("PUT", path, head, ANSWER_SECONDS + size / SLOWEST, **how) as answer:
            return self._read(answer, await body_of(answer))

    async def receive(self, path: str, size: int, take: Callable[[bytes], None]) -> None:
        """Download a file of ``size`` bytes; ``take`` gets its parts as they come. Raises what ``take`` raises, too."""
        async with self._asking("GET", path, {}, ANSWER_SECONDS + size / SLOWEST) as answer:
            if answer.status != HTTPStatus.OK:
                self._read(answer, await body_of(answer))
            async for part in answer.content.iter_any():
                take(part)

    @asynccontextmanager
    async def _asking(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
        **how: Any,
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        head = {"Authorization": f"Bearer {self._token}", **(headers or {})}
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, connector=connector()) as session,
                # The token is not for whoever the server names.
                session.request(method, self._url + path, headers=head, allow_redirects=False, **how) as answer,
            ):
                yield answer
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise unreachable(self._url, error) from error

    def _read(self, answer: aiohttp.ClientResponse, body: bytes) -> dict[str, Any]:
        try:
            document = json.loads(body)
            if "code" in document:
                raise Refused(answer.status, document)
            return dict(document)
        except (ValueError, TypeError, LookupError) as error:
            said = f"{self._shown} answered {answer.status}, and not as a server does. {HELP}"
            raise TierserveError(said) from error


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while the connection breaks or the server is busy; at last raise what the last request raised."""
    for pause in PAUSES:
        try:
            return await ask()
        except Unreachable:
            pass
        except Refused as refused:
            if refused.status not in BUSY:
                raise
        await asyncio.sleep(pause)
    return await ask()
