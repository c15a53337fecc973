"""The HTTP client of the public API."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.simple_httpclient import HTTPTimeoutError

from tierserve.events import Events

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 90.0
# How long a request with a picture waits for its result; most have it by then, and others are followed.
WAIT_SECONDS = 1
STREAM_SECONDS = 60.0  # after which an event stream is opened anew, so that a dead one is noticed
LOST_SECONDS = 60.0  # for how long a server is looked for that was lost while a prediction is followed
LEAST_RETRY, MOST_RETRY = 0.5, 5.0  # seconds between two tries
FINAL = frozenset({"succeeded", "failed", "canceled", "expired", "aborted"})
# How long to wait before the same request is sent again. A limit of a day may ask for hours.
LONGEST_PAUSE = 60.0
PAGE = 100  # predictions in one answer
HINT = (
    "On a laptop, start one: make run. "
    "In a cluster, look at its pods: kubectl get pods --all-namespaces --selector app.kubernetes.io/name=tierserve"
)


PROBLEM_BYTES = 64 * 1024
Tell = Callable[[str, Mapping[str, Any]], None]
"""Takes the name of an event and its data."""

NEEDS_KEY = "Put the key into the environment as TIERSERVE_KEY, or name its file with --key-file."


class ClientError(Exception):
    """The server did not answer, or not in JSON, or refused to; the message says why and what to do."""


class Client:
    """A client of the server at ``url``. Every method raises ``ClientError`` when the server cannot be reached.

    ``key`` is sent with each request, unless it is empty.
    """

    def __init__(self, url: str, key: str = "") -> None:
        self._url, self._key = url.rstrip("/"), key
        self._shown = re.sub(r"//.*@", "//", self._url)  # without the password of a proxy that asks for one
        self._http = AsyncHTTPClient(max_clients=64)  # as many as --at-once allows; Tornado's default is 10

    async def tiers(self) -> list[dict[str, Any]]:
        """Return the tiers as in the answer to ``GET /v1/tiers``."""
        tiers: list[dict[str, Any]] = (await self._found("/v1/tiers"))["tiers"]
        return tiers

    async def predictions(self, limit: int, asked: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return at most ``limit`` predictions of the key's owner, the newest first.

        ``asked`` is what else ``GET /v1/predictions`` takes. Raises ``ClientError`` also when the server refuses.
        """
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None and len(found) < limit:
            query = {**asked, "limit": min(PAGE, limit - len(found)), **({"cursor": cursor} if cursor else {})}
            answer = await self._found(f"/v1/predictions?{urlencode(query)}")
            found += answer["predictions"]
            cursor = answer["next_cursor"]
        return found

    async def classify(self, tier: str, picture: Path, top_k: int, tell: Tell) -> dict[str, Any]:
        """Return the ended prediction of one picture, or the problem document of the server; waits without a limit.

        ``tell`` is called with ``sending``, and then with each event of the prediction but the final one.
        """
        tell("sending", {})
        path = f"/img-classification/{quote(tier, safe='')}?top_k={top_k}"
        body = await asyncio.to_thread(Path.read_bytes, picture)
        answer = await self._json("POST", path, body, {"Prefer": f"wait={WAIT_SECONDS}"})
        if answer.get("status") in ("queued", "leased"):
            answer = await self._follow(f"{answer['urls']['get']}/events", tell)
        return answer

    async def classify_all(
        self, tier: str, pictures: Sequence[Path], top_k: int, at_once: int, tell: Callable[..., None]
    ) -> AsyncIterator[tuple[Path, dict[str, Any]]]:
        """Classify many pictures, ``at_once`` in parallel; yield each picture and its answer as soon as it is there.

        ``tell`` is called with the picture, and with what ``classify`` tells of it.
        """
        slots = asyncio.Semaphore(at_once)

        async def one(picture: Path) -> tuple[Path, dict[str, Any]]:
            async with slots:
                return picture, await self.classify(tier, picture, top_k, partial(tell, picture))

        tasks = [asyncio.create_task(one(picture)) for picture in pictures]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for unfinished in tasks:
                unfinished.cancel()

    async def _found(self, path: str) -> dict[str, Any]:
        answer = await self._json("GET", path)
        if "code" in answer:
            hint = f". {NEEDS_KEY}" if answer["code"] == "key_missing" else ""
            raise ClientError(f"{self._shown}: {answer['code']}: {answer['detail']}{hint}")
        return answer

    async def _follow(self, path: str, tell: Tell) -> dict[str, Any]:
        """Return what has become of a prediction, from its event stream, or the problem document of the server.

        A stream that is lost, or that a server ends because it stops, is opened again. Raises ``ClientError`` when
        that fails for ``LOST_SECONDS``.
        """
        loop, events = asyncio.get_running_loop(), Events(LEAST_RETRY)
        heard_at, tries = loop.time(), 0
        while True:
            reading, why = _Reading(events, tell), ""
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": events.last_id} if events.last_id else {})}
            request = self._request("GET", path, None, headers)
            request.request_timeout = STREAM_SECONDS
            request.header_callback, request.streaming_callback = reading.head, reading.take
            try:
                response = await self._fetch(request)
                pause, why = _retry_after(response), f"it answered {response.code}"
            except (OSError, HTTPClientError) as error:
                pause, why = 0.0 if isinstance(error, HTTPTimeoutError) and reading.is_stream else None, str(error)
            if reading.broken:
                raise ClientError(f"{self._shown}{path}: {reading.broken}")
            if reading.ended is not None:
                return reading.ended
            if reading.is_stream:
                heard_at, tries = loop.time(), 0
                if pause is None:
                    pause = min(max(events.retry_seconds, LEAST_RETRY), MOST_RETRY)
            elif (problem := reading.problem()) is not None:
                if pause is None:
                    return problem
                heard_at, tries = loop.time(), 0
            elif loop.time() - heard_at >= LOST_SECONDS:
                raise ClientError(f"no server answers at {self._shown} ({why}). {HINT}")
            else:
                pause = random.uniform(0.5, 1) * min(2**tries * LEAST_RETRY, MOST_RETRY)  # noqa: S311 (no secret)
                tries += 1
            await asyncio.sleep(pause)

    async def _json(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        request = self._request(method, path, body, headers or {})
        while True:
            try:
                response = await self._fetch(request)
            except (OSError, HTTPClientError) as error:
                raise ClientError(f"no server answers at {self._shown} ({error}). {HINT}") from error
            if (pause := _retry_after(response)) is not None:
                await asyncio.sleep(pause)
                continue
            try:
                answer: dict[str, Any] = json.loads(response.body or b"")
            except ValueError as error:
                raise ClientError(f"{self._shown}{path} answered {response.code}, and not in JSON") from error
            return answer

    async def _fetch(self, request: HTTPRequest) -> HTTPResponse:
        """Return whatever is answered. Raises ``OSError`` and ``HTTPClientError``."""
        fetching = self._http.fetch(request, raise_error=False)
        # Whoever is cancelled does not cancel it: Tornado would log its end as an error, with a traceback.
        fetching.add_done_callback(lambda ended: ended.exception())
        await asyncio.wait([fetching])
        return fetching.result()

    def _request(self, method: str, path: str, body: bytes | None, given: Mapping[str, str]) -> HTTPRequest:
        headers = HTTPHeaders({"Content-Type": "application/octet-stream"} if body is not None else {})
        headers.update(given)
        if self._key:
            # Not as Authorization, which a proxy may ask for, and which the URL may contain for it.
            headers["X-API-Key"] = self._key
        return HTTPRequest(
            self._url + path,
            method,
            headers,
            body,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=ANSWER_SECONDS,
            follow_redirects=not self._key,  # it is not for whoever the server names
        )


class _Reading:
    """What comes of one answer to the request for an event stream.

    ``ended`` is the data of the final event, and ``broken`` says what is wrong with the events.
    """

    def __init__(self, events: Events, tell: Tell) -> None:
        events.open()
        self._events, self._tell = events, tell
        self._body = bytearray()
        self.is_stream = False
        self.ended: dict[str, Any] | None = None
        self.broken = ""

    def head(self, line: str) -> None:
        """Called by Tornado for each line of the head."""
        name, _, value = line.partition(":")
        if name.lower() == "content-type":
            self.is_stream = value.strip().lower().startswith("text/event-stream")

    def take(self, chunk: bytes) -> None:
        """Called by Tornado for each part of the body. What is raised here would end up in a log."""
        if self.broken:
            return
        if not self.is_stream:
            self._body += chunk[: PROBLEM_BYTES - len(self._body)]
            return
        try:
            for event in self._events.feed(chunk):
                self._note(event.name, json.loads(event.data))
        except (ValueError, RecursionError) as error:
            self.broken = f"an event cannot be read: {error}"

    def _note(self, name: str, data: dict[str, Any]) -> None:
        if name in FINAL:
            self.ended = data
        else:
            self._tell(name, data)

    def problem(self) -> dict[str, Any] | None:
        """The problem document that came instead of events."""
        with suppress(ValueError, RecursionError):
            found = json.loads(self._body)
            if isinstance(found, dict) and "code" in found:
                return found
        return None


def problem_of(answer: Mapping[str, Any]) -> str | None:
    """Return why an answer has no labels: it is a problem, or the prediction failed. None when it has labels."""
    if "code" in answer:
        return f"{answer['code']}: {answer['detail']}"
    if answer["status"] != "succeeded":
        error = answer["error"] or {}
        return f"{error.get('code', answer['status'])}: {error.get('detail', '')}"
    return None


def _retry_after(response: HTTPResponse) -> float | None:
    """In how many seconds a later request can succeed; None if the answer does not say so, or if it takes longer."""
    # A 503 without Retry-After is an answer like any other.
    if response.code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        given = response.headers.get("Retry-After", "")
        if re.fullmatch("[0-9]{1,9}", given) and int(given) <= LONGEST_PAUSE:
            return float(given)
    return None
