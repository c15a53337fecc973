"""What a server answers, for tests in which something else answers in its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

Step = Callable[[BaseHTTPRequestHandler], None]


def prediction(key: str = "p", **changes: Any) -> dict[str, Any]:
    """A prediction that waits, or with ``labels`` one that has succeeded."""
    plain: dict[str, Any] = {
        "id": key,
        "tier": "free",
        "status": "queued",
        "model": "flowers@3f9a2c81",
        "images": 1,
        "created_at": "2030-01-31T12:00:00.000Z",
        "started_at": None,
        "completed_at": None,
        "deadline_at": None,
        "attempts": 0,
        "error": None,
        "metrics": {},
        "urls": {"get": f"/v1/predictions/{key}", "cancel": f"/v1/predictions/{key}"},
    }
    return {**plain, **changes}


def succeeded(key: str = "p", label: str = "tabby", score: float = 0.5, predict_ms: float = 2.0) -> dict[str, Any]:
    """A prediction that has succeeded."""
    result = {"index": 0, "status": "succeeded", "labels": [{"label": label, "score": score}], "error": None}
    return prediction(key, status="succeeded", results=[result], metrics={"predict_ms": predict_ms}, queue=None)


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Step:
    """An answer that is no stream."""

    def step(handler: BaseHTTPRequestHandler) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(text)

    return step


def stream(text: str, then: Callable[[], object] = lambda: None) -> Step:
    """An event stream that breaks off."""

    def step(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(text.encode())
        handler.wfile.flush()
        then()

    return step


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """No answer: the connection ends."""
    handler.close_connection = True


def event(name: str, data: Any, key: str = "") -> str:
    """The text of an event."""
    return (f"id: {key}\n" if key else "") + f"event: {name}\ndata: {json.dumps(data)}\n\n"
