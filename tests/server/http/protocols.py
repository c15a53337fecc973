"""What clients of other services send, and how a worker of the test answers it."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

from tests.running import MODEL, Answer
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, Site, completion

LENGTH_OF_JSON = "Inference-Header-Content-Length"
TEXT = base64.b64encode(PICTURE).decode()
RESULTS = [
    {"labels": [{"label": "tabby", "score": 0.75}, {"label": "tiger, caf\u00e9", "score": 0.25}]},
    {"labels": [{"label": "tiger, caf\u00e9", "score": 0.5}, {"label": "tabby", "score": 0.125}]},
]
BROKEN = {"error": {"code": "broken_image", "detail": "It cannot be decoded."}}


def answered(
    site: Site,
    target: str,
    body: bytes,
    headers: dict[str, str] | None = None,
    results: Sequence[Any] = RESULTS,
    model: str = MODEL,
) -> Answer:
    """The answer to a request whose prediction a worker gives these results."""
    token = site.job(f"job-{site.services.queue.ids.new(site.clock, '')[:8].lower()}")
    site.worker(token)
    answer = site.callers.submit(site.ask, "POST", target, body, headers or {})
    (one,) = site.lease(token)
    site.hand_in([completion(one, results, model)], token)
    return answer.result(ANSWER_SECONDS)


def tensor(count: int = 2, **members: Any) -> dict[str, Any]:
    """A request of the Open Inference Protocol with its pictures in JSON."""
    one = {"name": "image", "datatype": "BYTES", "shape": [count], "data": count * [TEXT]}
    return {"inputs": [one], **members}


def binary_tensor(count: int = 2, **members: Any) -> tuple[bytes, dict[str, str]]:
    """One whose pictures follow the JSON, and its header."""
    tail = count * (struct.pack("<I", len(PICTURE)) + PICTURE)
    one = {"name": "image", "datatype": "BYTES", "shape": [count], "parameters": {"binary_data_size": len(tail)}}
    head = json.dumps({"inputs": [one], **members}).encode()
    return head + tail, {LENGTH_OF_JSON: str(len(head)), "Content-Type": "application/octet-stream"}


def assert_error(answer: Answer, status: int, code: str) -> None:
    """Check that the answer is an error as these services have them."""
    assert (answer.status, answer.json.get("code")) == (status, code), answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["error"]
