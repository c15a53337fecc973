"""What the server sends over a channel: frames, which bring predictions with their pictures, and JSON."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from server.blobs import BlobMissing
from server.queue import SOFTMAX, Completion, Leased

Outcomes = Sequence[tuple[str, str]]


def head(leased: Iterable[tuple[Leased, int]], outcomes: Outcomes) -> bytes:
    """Return what comes before the blobs of these predictions, each given with the bytes of its blob."""
    text = message({"predictions": [_entry(one, size) for one, size in leased]}, outcomes)
    return struct.pack(">I", len(text)) + text


def message(news: dict[str, Any], outcomes: Outcomes) -> bytes:
    """Return the JSON of a message: the news, and the outcomes if there are any."""
    if outcomes:
        news["outcomes"] = outcomes
    return json.dumps(news, separators=(",", ":")).encode()


def _entry(one: Leased, size: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": one.id, "token": one.token, "top_k": one.top_k, "size": size}
    if one.function != SOFTMAX:
        entry["function"] = one.function
    if one.trace is not None:
        entry["trace"] = one.trace
    if one.request_id is not None:
        entry["request_id"] = one.request_id
    return entry


def missing_blob(one: Leased, error: BlobMissing) -> Completion:
    """Return the end of a prediction whose pictures are gone."""
    return Completion(one.id, one.token, None, {"code": "blob_missing", "detail": str(error)}, None)
