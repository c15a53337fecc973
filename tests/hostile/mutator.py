"""Makes requests to all routes of both ports, most of them a little or very wrong. A seed repeats them."""

from __future__ import annotations

import base64
import json
import random
from collections import deque
from dataclasses import dataclass

from tests.hostile.oddities import (
    FRAMES,
    HEADERS,
    HOSTS,
    METHODS,
    NUMBERS,
    PATHS,
    SEGMENTS,
    WAITS,
    changed,
    odd_json,
)
from tests.hostile.wire import chunk

PUBLIC, INTERNAL = "public", "internal"
TIERS = ("free", "premium")
WORK = ("lease", "complete", "extend", "release")
KNOWN_MOST = 50


@dataclass(frozen=True, slots=True)
class Sending:
    """One request as it is sent. ``whole`` is whether its end is clear, so that it must be answered."""

    port: str
    data: bytes
    method: str
    whole: bool


class Mutator:
    """Makes one request after another. What answers tell (ids, leases) is used in later requests."""

    def __init__(self, chance: random.Random, picture: bytes, token: str) -> None:
        self._chance, self._picture, self._token = chance, picture, token
        self.ids: deque[str] = deque(["0" * 32], maxlen=KNOWN_MOST)
        self.leases: deque[tuple[str, str]] = deque([("0" * 32, "0" * 32)], maxlen=KNOWN_MOST)

    def next(self, port: str) -> Sending:
        """One request for a port."""
        method, path, headers, body = self._public() if port == PUBLIC else self._internal()
        chance = self._chance
        if chance.random() < 0.1:
            method = chance.choice(METHODS)
        if chance.random() < 0.1:
            path = chance.choice(PATHS)
        for name in chance.sample(sorted(HEADERS), chance.choice((0, 0, 0, 1, 1, 2, 3))):
            headers[name] = chance.choice(HEADERS[name])
        host = "127.0.0.1" if chance.random() > 0.05 else chance.choice(HOSTS)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
        return self._framed(port, method, lines, body)

    def _framed(self, port: str, method: str, lines: list[str], body: bytes) -> Sending:
        chance = self._chance
        how = chance.random()
        if how < 0.05:
            lines.append(chance.choice(FRAMES))
        elif how < 0.2 and body:
            lines.append("Transfer-Encoding: chunked")
            size = chance.choice((1, 7, 100, 5000))
            body = b"".join(chunk(body[at : at + size]) for at in range(0, min(len(body), 50 * size), size)) + chunk(
                b""
            )
        elif body or chance.random() < 0.5:
            lines.append(f"Content-Length: {len(body)}")
        data = "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + body
        if chance.random() < 0.05:
            return Sending(port, changed(chance, data), method, whole=False)
        return Sending(port, data, method, whole=how >= 0.05)

    def _public(self) -> tuple[str, str, dict[str, str], bytes]:
        chance = self._chance
        route = chance.random()
        if route < 0.45:
            return self._classify()
        if route < 0.8:
            of_id = chance.choice(self.ids) if chance.random() < 0.7 else chance.choice(SEGMENTS)
            if chance.random() < 0.1:
                of_id = changed(chance, of_id.encode()).decode("latin-1")
            query = f"?wait={chance.choice(WAITS)}" if chance.random() < 0.3 else ""
            return chance.choice(("GET", "GET", "DELETE")), f"/v1/predictions/{of_id}{query}", {}, self._rarely()
        path = chance.choice(
            ("/healthz", "/readyz", "/v1/tiers", "/v1/tiers/free", "/config", "/metrics", "/work/lease")
        )
        return "GET", path, {}, self._rarely()

    def _rarely(self) -> bytes:
        return self._chance.randbytes(self._chance.choice((1, 100, 70_000))) if self._chance.random() < 0.05 else b""

    def _classify(self) -> tuple[str, str, dict[str, str], bytes]:
        chance = self._chance
        tier = chance.choice(TIERS) if chance.random() < 0.95 else chance.choice(SEGMENTS)
        query = f"?top_k={chance.choice(NUMBERS)}" if chance.random() < 0.2 else ""
        kind, body = chance.choice((self._raw, self._form, self._json))()
        if chance.random() < 0.6:
            body = changed(chance, body)
        headers = {"Content-Type": kind}
        if chance.random() < 0.95:  # otherwise the server waits for the result
            headers["Prefer"] = "respond-async"
        return "POST", f"/img-classification/{tier}{query}", headers, body

    def _raw(self) -> tuple[str, bytes]:
        return "image/png", self._picture

    def _form(self) -> tuple[str, bytes]:
        chance, body = self._chance, b""
        for index in range(chance.choice((1, 1, 2, 9))):
            name = chance.choice((f'name="{index}"; filename="a.png"', 'name="top_k"', 'filename="a"', 'name="a"', ""))
            content = self._picture if "filename" in name else chance.choice(NUMBERS).encode()
            body += f"--b\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() + content + b"\r\n"
        return "multipart/form-data; boundary=b", body + b"--b--\r\n"

    def _json(self) -> tuple[str, bytes]:
        chance = self._chance
        text = base64.b64encode(self._picture).decode()
        if chance.random() < 0.3:
            text = f"data:image/png;base64,{text}"
        inputs = text if chance.random() < 0.5 else [text] * chance.choice((1, 2, 9))
        return "application/json", self._dumped({"inputs": inputs, "parameters": {"top_k": 3}})

    def _internal(self) -> tuple[str, str, dict[str, str], bytes]:
        chance = self._chance
        headers = {"Content-Type": "application/json"}
        if chance.random() < 0.9:
            headers["Authorization"] = f"Bearer {self._token}"
        work = chance.choice(WORK)
        if chance.random() < 0.05:
            return "GET", chance.choice(("/metrics", "/healthz", "/readyz")), headers, self._rarely()
        body = self._dumped(self._asked(work))
        return "POST", f"/work/{work}", headers, changed(chance, body) if chance.random() < 0.2 else body

    def _asked(self, work: str) -> dict[str, object]:
        chance = self._chance
        if work == "lease":
            return {"most": chance.choice((1, 1, 2, 64)), "wait": 0}
        leases = [chance.choice(self.leases) for _ in range(chance.choice((0, 1, 1, 2)))]
        if work != "complete":
            return {"leases": [list(one) for one in leases]}
        labels = [{"label": "a cat", "score": chance.choice((0.0, 0.5, 1.0, 2.0))}] * chance.choice((1, 5, 100))
        results = chance.choice(({"labels": labels}, {"error": {"code": "image_broken", "detail": "x"}}, {}))
        model = chance.choice(("forged@0f1e2d3c", "forged@0f1e2d3c", "../forged@0", "forged"))
        given = {"model": model, "predict_ms": 1.0, "results": [results] * chance.choice((1, 1, 2, 64))}
        return {"completions": [{"id": one, "token": token, **given} for one, token in leases]}

    def _dumped(self, value: object) -> bytes:
        chance = self._chance
        value = odd_json(chance, value) if chance.random() < 0.5 else value
        try:
            # Lone surrogates stay as escapes, or become bytes that are no UTF-8.
            return json.dumps(value, ensure_ascii=chance.random() < 0.7).encode("utf-8", "surrogatepass")
        except ValueError:  # more digits than Python writes
            return b'{"most": ' + b"9" * 5000 + b"}"
