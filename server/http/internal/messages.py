"""What a worker says: how long a message may be, what it must be, and what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.http.schemas import Schema
from server.queue import SOFTMAX, Completion

# A result has 100 labels of 200 characters at most, and a worker hands in those of about eight predictions together.
PICTURE_BYTES, MESSAGE_LEAST, MESSAGE_MOST = 256 * 1024, 1024 * 1024, 8 * 1024 * 1024
BIG_BYTES = 256 * 1024  # takes the event loop some milliseconds to parse
MESSAGE = Schema("worker-protocol.schema.json", "message", "bad_worker_message")


def longest_message(images: int) -> int:
    """How many bytes a message may have in a tier with so many pictures in a request."""
    return min(MESSAGE_MOST, max(MESSAGE_LEAST, images * PICTURE_BYTES))


def pairs(leases: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """The (id, token) pairs of leases."""
    return [(key, token) for key, token in leases]


def completed(item: Mapping[str, Any]) -> Completion:
    """The end of a lease. A prediction fails only if none of its pictures has labels."""
    errors = [result["error"] for result in item["results"] if "error" in result]
    error = errors[0] if len(errors) == len(item["results"]) else None
    given = item["id"], item["token"], item["results"], error, item["predict_ms"], item["model"]
    return Completion(*given, item.get("function", SOFTMAX))
