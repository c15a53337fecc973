"""The client of the operators' routes on a server's internal port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from tierserve.client import HINT, ClientError

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 60.0
SLOWEST = 50_000  # bytes a second: a file that comes or goes more slowly is given up
PART_BYTES = 1024 * 1024
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before a request is made again
BUSY = (429, 503)
LARGEST_FILE = 1 << 40  # Tornado's client would take 100 MB at most
# What a port says that has no such routes, or does not take the token.
OTHER_PORT = frozenset({"bad_admin_token", "no_such_route", "key_unknown", "too_many_wrong_keys"})
HELP = (
    "On a laptop, name the state folder of the server with --state. Elsewhere, name its internal port with --url and "
    "the file of its admin token with --admin-token-file."
)

Advance = Callable[[int], None]
T = TypeVar("T")


class Refused(ClientError):
    """The server refused; ``answer`` is its problem document, of the ``status``."""

    def __init__(self, answer: Mapping[str, Any], status: int) -> None:
        self.code, self.answer, self.status = str(answer["code"]), answer, status
        hint = f". {HELP}" if self.code in OTHER_PORT else ""
        super().__init__(f"{self.code}: {answer['detail']}{hint}")


class Unreachable(ClientError):
    """No server answers, or the connection broke."""


class Operator:
    """Asks the internal port at ``url`` with the admin token. Every method raises ``ClientError``."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url.rstrip("/"), token

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request with a small body, from a program that has no event loop."""
        return asyncio.run(self.answer(method, path, body))

    async def answer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request with a small body."""
        data = None if body is None else json.dumps(body).encode()
        allowed = method in ("PUT", "POST", "PATCH")  # to have no body, which Tornado's client takes for a mistake
        response = await self._fetch(
            method, path, {"Content-Type": "application/json"}, body=data or (b"" if allowed else None)
        )
        return self._read(response)

    async def look(self, path: str, mark: str) -> dict[str, Any]:
        """The answer to GET, which has the field ``mark`` on the internal port: the public one has like routes."""
        answer = await self.answer("GET", path)
        if mark not in answer:
            raise ClientError(f"{self._url} is not the internal port of a server of this release. {HELP}")
        return answer

    async def has(self, path: str) -> bool:
        """Whether there is something at this path."""
        response = await self._fetch("HEAD", path, {})
        return response.code == HTTPStatus.OK

    async def send(self, path: str, file: Path, size: int, advance: Advance) -> dict[str, Any]:
        """Upload a file of ``size`` bytes; ``advance`` is told how many went. The server may refuse before they go."""

        async def produce(write: Callable[[bytes], Awaitable[None]]) -> None:
            with file.open("rb") as stream:
                while part := await asyncio.to_thread(stream.read, PART_BYTES):
                    await write(part)
                    advance(len(part))

        head = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        how = {"body_producer": produce, "expect_100_continue": size > 0}
        return self._read(await self._fetch("PUT", path, head, seconds=ANSWER_SECONDS + size / SLOWEST, **how))

    async def receive(self, path: str, size: int, take: Callable[[bytes], None]) -> None:
        """Download a file of ``size`` bytes; ``take`` gets its parts as they come. What it raises is raised at the end.

        Raises ``OSError`` only for that.
        """
        status: list[int] = []
        problem: list[bytes] = []
        failed: list[OSError] = []

        def head(line: str) -> None:
            if line.startswith("HTTP/"):
                status[:] = [int(line.split()[1])]

        def part(data: bytes) -> None:
            if status != [HTTPStatus.OK]:
                problem.append(data)
            elif not failed:
                try:
                    take(data)
                except OSError as error:  # inside the client it would look like a broken connection
                    failed.append(error)

        how = {"streaming_callback": part, "header_callback": head}
        response = await self._fetch("GET", path, {}, seconds=ANSWER_SECONDS + size / SLOWEST, **how)
        if failed:
            raise failed[0]
        if response.code != HTTPStatus.OK:
            self._read(response, b"".join(problem))

    async def _fetch(
        self, method: str, path: str, headers: Mapping[str, str], seconds: float = ANSWER_SECONDS, **how: Any
    ) -> HTTPResponse:
        try:
            request = HTTPRequest(
                self._url + path,
                method,
                {"Authorization": f"Bearer {self._token}", **headers},
                connect_timeout=CONNECT_SECONDS,
                request_timeout=seconds,
                follow_redirects=False,  # the token is not for whoever the server names
                **how,
            )
            http = AsyncHTTPClient(force_instance=True, max_body_size=LARGEST_FILE)
            try:
                return await http.fetch(request, raise_error=False)
            finally:
                http.close()
        except (OSError, HTTPClientError, ValueError) as error:
            raise Unreachable(f"no server answers at {self._url} ({error}). {HINT}") from error

    def _read(self, response: HTTPResponse, body: bytes | None = None) -> dict[str, Any]:
        try:
            answer = json.loads(response.body or b"" if body is None else body)
            if "code" in answer:
                raise Refused(answer, response.code)
        except (ValueError, TypeError, LookupError) as error:
            raise ClientError(f"{self._url} answered {response.code}, and not as a server does. {HELP}") from error
        return dict(answer)


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
