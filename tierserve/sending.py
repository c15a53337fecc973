"""Sends requests to a server, and sends them again where that is safe and can help.

A request is safe to repeat if it changes nothing, or if it has an Idempotency-Key. Only such requests come here.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import aiohttp
from yarl import URL

from tierserve.addresses import WRONG_PORT, is_loopback, server_url, shown, unreachable
from tierserve.connecting import body_of, connector
from tierserve.errors import Misconfigured, Refused, TierserveError, Unreachable

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 90.0
LEAST_RETRY, MOST_RETRY = 0.5, 5.0
"""Seconds before a lost server is asked again, at first and at most."""
LONGEST_PAUSE = 60.0
"""What asks to come back later than after so many seconds, as a limit of a day may, is not asked again."""
PATIENCE_SECONDS = 300.0
LARGE = 1 << 20
"""A body of more bytes is sent in parts, once the server has said that it takes it."""
BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class Patience:
    """For how many ``seconds`` in a row something is tried again in vain. What goes well renews it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Something went well."""
        self._end = time.monotonic() + self._seconds

    def lasts(self, pause: float) -> bool:
        """Whether there is time for one more try after a pause."""
        return time.monotonic() + pause <= self._end


class Sender:
    """Sends requests to the server at ``url``, with ``key`` unless it is empty. Use it in one event loop only.

    Raises ``Misconfigured`` if the URL or the key cannot be one.
    """

    def __init__(self, url: str, key: str, patience: float) -> None:
        self._url = server_url(url)
        if not re.fullmatch("[!-~]*", key):
            raise Misconfigured("a key consists of printable ASCII characters without spaces")
        self._key, self._patience = key, patience
        self.shown = shown(self._url)
        self._heard = False
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close all connections. Nothing can be sent afterwards."""
        self._url = ""
        if self._session is not None:
            await self._session.close()

    def patience(self) -> Patience:
        """A new patience, as long as this sender's is."""
        return Patience(self._patience)

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        patience: Patience | None = None,
    ) -> dict[str, Any]:
        """The JSON of the answer. Raises ``Refused`` and ``Unreachable`` once it does not help to ask again."""
        patience, tries = patience or self.patience(), 0
        while True:
            try:
                answer = await self._once(method, path, body, headers or {})
            except (Refused, Unreachable) as error:
                await self.pause(error, tries, patience)
                tries += 1
            else:
                patience.renew()
                return answer

    async def pause(self, error: TierserveError, tries: int, patience: Patience) -> None:
        """Wait until the request that failed so can be sent again; raise the error if that cannot help."""
        if isinstance(error, Refused):
            pause = error.retry_after if error.status in BUSY else None
            if pause is None or pause > LONGEST_PAUSE:
                raise error
            pause *= random.uniform(1, 1.1)  # noqa: S311 (no secret)
        else:
            # Nobody waits for a server that was never there: its URL may be wrong.
            if not self._heard:
                raise error
            pause = random.uniform(0.5, 1) * min(2**tries * LEAST_RETRY, MOST_RETRY)  # noqa: S311 (no secret)
        if not patience.lasts(pause):
            raise error
        await asyncio.sleep(pause)

    @asynccontextmanager
    async def stream(self, path: str, last_id: str, seconds: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of one event stream, on which something comes every ``seconds``.

        ``last_id`` is the id of the last event that came, or empty. Raises ``Refused`` and ``Unreachable``.
        """
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=seconds)
        try:
            async with self._begun().get(
                self._at(path), headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                if answer.content_type != "text/event-stream":
                    self._read(answer, await body_of(answer))
                    raise self._strange(answer)  # an answer in JSON that is no problem
                self._heard = True
                yield answer.content.iter_any()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unreachable(self._url, error) from error

    async def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
        how: dict[str, Any] = {"headers": headers}
        if body is not None:
            how = {
                "headers": {"Content-Type": "application/octet-stream", **headers},
                "data": body if len(body) <= LARGE else io.BytesIO(body),
                # What the server refuses from its head is not sent, so that the answer is not lost.
                "expect100": len(body) > LARGE,
            }
        try:
            async with self._begun().request(method, self._at(path), allow_redirects=False, **how) as answer:
                return self._read(answer, await body_of(answer))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unreachable(self._url, error, len(body or b"")) from error

    def _begun(self) -> aiohttp.ClientSession:
        if not self._url:
            raise RuntimeError("this client is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Not as Authorization, which a proxy may ask for, and which the URL may contain for it.
                headers={"X-API-Key": self._key} if self._key else {},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS),
                connector=connector(),
                # A proxy of the environment does not know this machine's servers.
                trust_env=not is_loopback(URL(self._url).host),
            )
        return self._session

    def _at(self, path: str) -> URL:
        return URL(self._url + path, encoded=True)

    def _read(self, answer: aiohttp.ClientResponse, body: bytes) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads(body)
            if "code" in document:
                self._heard = True
                raise Refused(answer.status, document, _retry_after(answer))
            document = dict(document)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise self._strange(answer) from error
        self._heard = True
        return document

    def _strange(self, answer: aiohttp.ClientResponse) -> TierserveError:
        said = f"{self.shown} answered {answer.status}, and not as a server of tierserve does"
        if "Location" in answer.headers:
            return TierserveError(f"{said}: it points to {answer.headers['Location'][:200]}")
        said += f". {WRONG_PORT}"
        # A proxy may say so that it has lost its server.
        return (Unreachable if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR else TierserveError)(said)


def _retry_after(answer: aiohttp.ClientResponse) -> float | None:
    """The seconds that Retry-After says, as a number or as a date (RFC 9110, 10.2.3); None if it says nothing."""
    given = answer.headers.get("Retry-After", "")
    if re.fullmatch("[0-9]{1,9}", given):
        return float(given)
    try:
        later = parsedate_to_datetime(given).timestamp()
        now = parsedate_to_datetime(answer.headers["Date"]).timestamp() if "Date" in answer.headers else time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, later - now)
