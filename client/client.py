"""The HTTP client of the public API."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 90.0  # a POST waits up to ``waits.syncSeconds`` of its tier, 30 by default
POLL_SECONDS = 20  # how long the server may hold a request for a prediction that has not ended
# How long to wait before the same request is sent again. A limit of a day may ask for hours.
LONGEST_PAUSE = 60.0
PAGE = 100  # predictions in one answer
HINT = (
    "On a laptop, start one: make run. "
    "In a cluster, look at its pods: kubectl get pods --all-namespaces --selector app.kubernetes.io/name=tierserve"
)


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

    async def classify(self, tier: str, picture: Path, top_k: int) -> dict[str, Any]:
        """Return the ended prediction of one picture, or the problem document of the server; waits without a limit."""
        path = f"/img-classification/{quote(tier, safe='')}?top_k={top_k}"
        answer = await self._json("POST", path, await asyncio.to_thread(Path.read_bytes, picture))
        while answer.get("status") in ("queued", "leased"):
            # Held by the server until the end, so that no pause between requests delays it.
            answer = await self._json("GET", f"{answer['urls']['get']}?wait={POLL_SECONDS}")
        return answer

    async def classify_all(
        self, tier: str, pictures: Sequence[Path], top_k: int, at_once: int
    ) -> AsyncIterator[tuple[Path, dict[str, Any]]]:
        """Classify many pictures, ``at_once`` in parallel; yield each picture and its answer as soon as it is there."""
        slots = asyncio.Semaphore(at_once)

        async def one(picture: Path) -> tuple[Path, dict[str, Any]]:
            async with slots:
                return picture, await self.classify(tier, picture, top_k)

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

    async def _json(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        headers = HTTPHeaders({"Content-Type": "application/octet-stream"} if body is not None else {})
        if self._key:
            # Not as Authorization, which a proxy may ask for, and which the URL may contain for it.
            headers["X-API-Key"] = self._key
        request = HTTPRequest(
            self._url + path,
            method,
            headers,
            body,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=ANSWER_SECONDS,
            follow_redirects=not self._key,  # it is not for whoever the server names
        )
        while True:
            try:
                response = await self._http.fetch(request, raise_error=False)
            except (OSError, HTTPClientError) as error:
                raise ClientError(f"no server answers at {self._shown} ({error}). {HINT}") from error
            # Both say that a later request can succeed; a 503 without Retry-After is an answer like any other.
            pause = response.headers.get("Retry-After") if response.code in (429, 503) else None
            if pause is not None and float(pause) <= LONGEST_PAUSE:
                await asyncio.sleep(float(pause))
                continue
            try:
                answer: dict[str, Any] = json.loads(response.body or b"")
            except ValueError as error:
                raise ClientError(f"{self._shown}{path} answered {response.code}, and not in JSON") from error
            return answer
