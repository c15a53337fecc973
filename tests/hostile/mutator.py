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
    STATIC_PATHS,
    WAITS,
    changed,
    odd_json,
)
from tests.hostile.wire import chunk, frame
from tests.running import default_model

PUBLIC, INTERNAL = "public", "internal"
TIERS = ("free", "premium")
RETIRED = ("lease", "complete", "extend", "release")
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "tierserve.work.3",
}
# Of frames that no worker sends: binary, a fragment, a continuation, compressed, unknown, a close, pings.
FIRST_BYTES = (0x82, 0x01, 0x80, 0xC1, 0x83, 0x88, 0x89, 0x09, 0x8A, 0x8F)
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

    def __init__(self, chance: random.Random, picture: bytes, token: str, admin: str) -> None:
        self._chance, self._picture, self._token, self._admin = chance, picture, token, admin
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
        if route < 0.9:
            return "GET", self._face(), {}, self._rarely()
        path = chance.choice(
            ("/healthz", "/readyz", "/v1/tiers", "/v1/predictions", "/config", "/metrics", "/work/channel", "/v1/keys")
        )
        return "GET", path, {}, self._rarely()

    def _face(self) -> str:
        """A path of the pages, of the viewer, of what tiers tell, or of an event stream."""
        chance = self._chance
        of_id = chance.choice(self.ids) if chance.random() < 0.7 else chance.choice(SEGMENTS)
        several = "&".join(f"id={chance.choice(self.ids)}" for _ in range(chance.choice((1, 3, 100, 101))))
        return chance.choice(
            (
                f"/v1/predictions/{of_id}/events",
                f"/v1/predictions/events?{several}",
                f"/v1/predictions/events?id={of_id}",
                "/v1/tiers/events",
                f"/v1/tiers/{chance.choice(TIERS)}/activity",
                f"/v1/tiers/{chance.choice(SEGMENTS)}/activity",
                chance.choice(("/", "/watch", "/docs", "/openapi.json", "/v1/models")),
                chance.choice(STATIC_PATHS),
                chance.choice(("/v2", "/v2/health/live")),
                f"/v2/models/{chance.choice((*TIERS, *SEGMENTS))}{chance.choice(('', '/versions/1'))}",
                f"/v1/models/{chance.choice(SEGMENTS)}",
            )
        )

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
        if chance.random() < 0.8:
            return "POST", f"/img-classification/{tier}{query}", headers, body
        return chance.choice((self._one_picture, self._instances, self._tensor))(tier, query, headers, body)

    def _one_picture(
        self, tier: str, query: str, headers: dict[str, str], body: bytes
    ) -> tuple[str, str, dict[str, str], bytes]:
        """As clients of Hugging Face and of TorchServe send it."""
        chance = self._chance
        route = chance.choice(("hf", "predictions"))
        version = f"/{chance.choice(SEGMENTS)}" if route == "predictions" and chance.random() < 0.2 else ""
        return chance.choice(("POST", "PUT")), f"/{route}/{tier}{version}{query}", headers, body

    def _instances(
        self, tier: str, query: str, headers: dict[str, str], _: bytes
    ) -> tuple[str, str, dict[str, str], bytes]:
        """As clients of TensorFlow Serving and of KServe's version 1 send it."""
        chance, one = self._chance, {"b64": base64.b64encode(self._picture).decode()}
        instance = one if chance.random() < 0.5 else {"image": one, "other": chance.choice(NUMBERS)}
        body = self._dumped({"instances": [instance] * chance.choice((1, 2, 9)), "parameters": {"top_k": 3}})
        return "POST", f"/v1/models/{tier}:predict{query}", headers | {"Content-Type": "application/json"}, body

    def _tensor(
        self, tier: str, query: str, headers: dict[str, str], _: bytes
    ) -> tuple[str, str, dict[str, str], bytes]:
        """As clients of the Open Inference Protocol send it, in JSON or as binary data behind it."""
        chance, count = self._chance, self._chance.choice((1, 1, 2, 9))
        tensor: dict[str, object] = {"name": "image", "datatype": "BYTES", "shape": [count]}
        output = {"name": "scores", "parameters": {"classification": 2, "binary_data": chance.random() < 0.5}}
        body: dict[str, object] = {"inputs": [tensor], "parameters": {"top_k": 3}}
        if chance.random() < 0.5:
            body["outputs"] = [output]
        path = f"/v2/models/{tier}{chance.choice(('', '', f'/versions/{chance.choice(SEGMENTS)}'))}/infer{query}"
        if chance.random() < 0.5:
            tensor["data"] = [base64.b64encode(self._picture).decode()] * count
            return "POST", path, headers | {"Content-Type": "application/json"}, self._dumped(body)
        elements = (len(self._picture).to_bytes(4, "little") + self._picture) * count
        if chance.random() < 0.3:
            elements = changed(chance, elements)
        tensor["parameters"] = {"binary_data_size": len(elements)}
        head = self._dumped(body)
        length = str(len(head)) if chance.random() < 0.9 else chance.choice(NUMBERS)
        told = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": length}
        return "POST", path, headers | told, head + elements

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
        if chance.random() < 0.3:
            return "GET", chance.choice(("/metrics", "/healthz", "/readyz")), headers, self._rarely()
        if chance.random() < 0.3:
            body = self._dumped(self._said())
            return "POST", f"/work/{chance.choice(RETIRED)}", headers, body
        if chance.random() < 0.3:
            return self._operator()
        # The key is left out, so that no answer is a channel: what is said over one is made by ``saying``.
        headers |= {name: value for name, value in UPGRADE.items() if chance.random() < 0.9}
        return "GET", "/work/channel", headers, self._rarely()

    def _operator(self) -> tuple[str, str, dict[str, str], bytes]:
        """What operators do, mostly with their token, and for keys that end at once."""
        chance, headers = self._chance, {"Content-Type": "application/json"}
        if chance.random() < 0.9:
            headers["Authorization"] = f"Bearer {self._admin}"
        body = {
            "owner": "nobody",
            "tiers": [chance.choice(TIERS)],
            "expires": "1s",
            "weight": 1,
            "limits": {"perDay": 1},
        }
        one = f"/v1/keys/{chance.choice(SEGMENTS)}"
        method, path = chance.choice(
            (("POST", "/v1/keys"), ("GET", "/v1/keys"), ("GET", one), ("DELETE", one), ("POST", f"{one}/rotate"))
        )
        return method, path, headers, self._dumped(body) if method == "POST" else self._rarely()

    def saying(self) -> Sending:
        """One message of a worker over its channel."""
        chance = self._chance
        # Mostly right, as the first wrong message ends a channel.
        data = self._dumped(self._said()) if chance.random() < 0.2 else json.dumps(self._said()).encode()
        if chance.random() < 0.05:
            data = changed(chance, data)
        data = frame(data, chance.choice(FIRST_BYTES) if chance.random() < 0.02 else 0x81)
        return Sending(INTERNAL, changed(chance, data) if chance.random() < 0.02 else data, "", whole=False)

    def _said(self) -> dict[str, object]:
        chance, said = self._chance, dict[str, object]()
        if chance.random() < 0.6:
            said["credits"] = chance.choice((1, 1, 1, 2))
        if chance.random() < 0.5:
            said["completions"] = self._completions()
        if chance.random() < 0.2:
            said["release"] = self._pairs()
        if chance.random() < 0.4:
            said |= {"renew": self._pairs(), "token": self._token}
        return said

    def _pairs(self) -> list[list[str]]:
        return [list(self._chance.choice(self.leases)) for _ in range(self._chance.choice((0, 1, 1, 2)))]

    def _completions(self) -> list[dict[str, object]]:
        chance = self._chance
        score = chance.choice((0.0, 0.5, 0.9, 1.0)) if chance.random() < 0.95 else 2.0
        labels = [{"label": "a cat", "score": score}] * chance.choice((1, 5, 100))
        results = {"error": {"code": "image_broken", "detail": "x"}} if chance.random() < 0.2 else {"labels": labels}
        model = default_model() if chance.random() < 0.95 else "../forged@0"
        given = {"model": model, "predict_ms": 1.0, "results": [results] * chance.choice((1, 1, 2, 64))}
        return [{"id": one, "token": token, **given} for one, token in self._pairs()]

    def _dumped(self, value: object) -> bytes:
        chance = self._chance
        value = odd_json(chance, value) if chance.random() < 0.5 else value
        try:
            # Lone surrogates stay as escapes, or become bytes that are no UTF-8.
            return json.dumps(value, ensure_ascii=chance.random() < 0.7).encode("utf-8", "surrogatepass")
        except ValueError:  # more digits than Python writes
            return b'{"credits": ' + b"9" * 5000 + b"}"
