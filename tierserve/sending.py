"""Sends requests to a server, and sends them again where that is safe and can help.

A request is safe to repeat if it changes nothing, or if it has an Idempotency-Key. Only such requests come here.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx2

from tierserve.errors import HINT, Refused, TierserveError, Unreachable

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 90.0
LEAST_RETRY, MOST_RETRY = 0.5, 5.0
"""Seconds before a lost server is asked again, at first and at most."""
LONGEST_PAUSE = 60.0
"""What asks to come back later than after so many seconds, as a limit of a day may, is not asked again."""
PATIENCE_SECONDS = 300.0
PROBLEM_BYTES = 64 * 1024
EVENT_BYTES = 4 * 1024 * 1024
"""The largest event; those of ended predictions are largest, with a hundred labels a picture."""
IDLE_CONNECTIONS = 100
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

    Raises ``ValueError`` if the URL or the key cannot be one.
    """

    def __init__(self, url: str, key: str, patience: float) -> None:
        self._url = _checked(url)
        if not re.fullmatch("[!-~]*", key):
            raise ValueError("a key consists of printable ASCII characters without spaces")
        self.shown = re.sub(r"//.*@", "//", self._url)  # without the password of a proxy that asks for one
        self._patience = patience
        self._heard = False
        # Not as Authorization, which a proxy may ask for, and which the URL may contain for it.
        headers = {"X-API-Key": key} if key else {}
        self._http = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=IDLE_CONNECTIONS),
            follow_redirects=False,  # the key and the pictures are not for whoever the server names
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

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
    async def stream(self, path: str, last_id: str, seconds: float) -> AsyncIterator[httpx2.EventSource]:
        """One event stream, on which something comes every ``seconds``. Raises ``Refused`` and ``Unreachable``.

        ``last_id`` is the id of the last event that came, or empty.
        """
        headers = {"Last-Event-ID": last_id} if last_id else {}
        timeout = httpx2.Timeout(seconds, connect=CONNECT_SECONDS)
        try:
            async with self._http.sse(
                self._url + path, headers=headers, timeout=timeout, max_event_size=EVENT_BYTES
            ) as source:
                response = source.response
                if not response.headers.get("Content-Type", "").lower().startswith("text/event-stream"):
                    self._read(response, await _beginning(response))
                    raise self._strange(response)  # an answer in JSON that is no problem
                self._heard = True
                yield source
        except httpx2.RequestError as error:
            raise self._lost(error) from error

    async def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
        kind = {} if body is None else {"Content-Type": "application/octet-stream"}
        try:
            response = await self._http.request(method, self._url + path, content=body, headers={**kind, **headers})
        except httpx2.RequestError as error:
            raise self._lost(error) from error
        return self._read(response, response.content)

    def _read(self, response: httpx2.Response, body: bytes) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads(body)
            if "code" in document:
                self._heard = True
                raise Refused(response.status_code, document, _retry_after(response))
            document = dict(document)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise self._strange(response) from error
        self._heard = True
        return document

    def _strange(self, response: httpx2.Response) -> TierserveError:
        said = f"{self.shown} answered {response.status_code}, and not as a server of tierserve does"
        if response.is_redirect:
            return TierserveError(f"{said}: it points to {response.headers.get('Location', '')[:200]}")
        # A proxy may say so that it has lost its server.
        return (Unreachable if response.is_server_error else TierserveError)(said)

    def _lost(self, error: httpx2.RequestError) -> Unreachable:
        return Unreachable(f"no server answers at {self.shown} ({str(error) or type(error).__name__}). {HINT}")


def _checked(url: str) -> str:
    """The URL without a slash at its end. Raises ``ValueError``."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise ValueError(f"the URL of a server is like http://127.0.0.1:8080, and not {url!r}")
    return url.rstrip("/")


async def _beginning(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) >= PROBLEM_BYTES:
            break
    return bytes(body[:PROBLEM_BYTES])


def _retry_after(response: httpx2.Response) -> float | None:
    """The seconds that Retry-After says, as a number or as a date (RFC 9110, 10.2.3); None if it says nothing."""
    given = response.headers.get("Retry-After", "")
    if re.fullmatch("[0-9]{1,9}", given):
        return float(given)
    try:
        later = parsedate_to_datetime(given).timestamp()
        now = parsedate_to_datetime(response.headers["Date"]).timestamp() if "Date" in response.headers else time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, later - now)
