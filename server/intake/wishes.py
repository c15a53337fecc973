"""Reads from a request's headers what the client wishes for its prediction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from server.problems import Problem

KEY_LONGEST = 255
UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Wishes:
    """The key by which the client can repeat the request, if any, and how many seconds the prediction may take.

    ``request_id`` and ``trace``, a ``traceparent``, tell in logs which request it was.
    """

    idempotency_key: str | None
    deadline: float
    request_id: str
    trace: str

    @classmethod
    def of(cls, headers: Mapping[str, str], longest: float, request_id: str, trace: str) -> Wishes:
        """Read ``Idempotency-Key`` and ``Cancel-After``, which is ``longest`` at most. Raises ``Problem``."""
        seconds = _seconds(headers.get("Cancel-After"), longest)
        return cls(_key(headers.get("Idempotency-Key")), seconds, request_id, trace)


def _key(given: str | None) -> str | None:
    if given is not None and not re.fullmatch(rf"[ -~]{{1,{KEY_LONGEST}}}", given):
        detail = f"Idempotency-Key must have 1 to {KEY_LONGEST} characters, all of them printable ASCII"
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_idempotency_key", detail, limit_characters=KEY_LONGEST)
    return given


def _seconds(given: str | None, longest: float) -> float:
    if given is None:
        return longest
    match = re.fullmatch(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)(s|m|h)?", given.strip())
    seconds = float(match[1]) * UNITS[match[2] or "s"] if match else 0.0
    if not 1 <= seconds <= longest:
        detail = f"Cancel-After is {given[:40]!r}; it must be from 1s to {longest:g}s, as in 90s, 5m or 1h"
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_cancel_after", detail, limit_seconds=longest)
    return seconds
