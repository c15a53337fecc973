"""The HTTP client of the public API."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 90.0  # a POST waits up to ``waits.syncSeconds`` of its tier, 30 by default
POLL_SECONDS = 20  # how long the server may hold a request for a prediction that has not ended
HINT = (
    "On a laptop, start one: make run. "
    "In a cluster, look at its pods: kubectl get pods --all-namespaces --selector app.kubernetes.io/name=tierserve"
)


class ClientError(Exception):
    """The server did not answer, or not in JSON; the message says why and what to do."""


class Client:
    """A client of the server at ``url``. Every method raises ``ClientError`` when the server cannot be reached."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._shown = re.sub(r"//.*@", "//", self._url)  # without the password of a proxy that asks for one
        self._http = AsyncHTTPClient(max_clients=64)  # as many as --at-once allows; Tornado's default is 10

    async def tiers(self) -> list[dict[str, Any]]:
        """Return the tiers as in the answer to ``GET /v1/tiers``."""
        tiers: list[dict[str, Any]] = (await self._json("GET", "/v1/tiers"))["tiers"]
        return tiers

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

    async def _json(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        request = HTTPRequest(
            self._url + path,
            method,
            HTTPHeaders({"Content-Type": "application/octet-stream"} if body is not None else {}),
            body,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=ANSWER_SECONDS,
        )
        while True:
            try:
                response = await self._http.fetch(request, raise_error=False)
            except (OSError, HTTPClientError) as error:
                raise ClientError(f"no server answers at {self._shown} ({error}). {HINT}") from error
            # Both say that a later request can succeed; a 503 without Retry-After is an answer like any other.
            if response.code in (429, 503) and "Retry-After" in response.headers:
                await asyncio.sleep(float(response.headers["Retry-After"]))
                continue
            try:
                answer: dict[str, Any] = json.loads(response.body or b"")
            except ValueError as error:
                raise ClientError(f"{self._shown}{path} answered {response.code}, and not in JSON") from error
            return answer
