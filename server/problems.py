"""What is answered to a request that cannot be served: RFC 9457, and the one way to read JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NoReturn


class Problem(Exception):
    """An answer of RFC 9457 (application/problem+json): a status, a stable ``code``, a sentence, and the numbers."""

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, *, retry_after: float | None = None, **numbers: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"title": status.phrase, "status": int(status), "code": code, "detail": detail, **numbers}
        self.retry_after = retry_after

    def document(self, request_id: str) -> bytes:
        """The body of the answer."""
        return json.dumps({"type": "about:blank", **self.body, "request_id": request_id}).encode()


def json_object(body: bytes | bytearray) -> Mapping[str, Any]:
    """A request's JSON object, in UTF-8. Raises ``Problem``."""
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_json", f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_json", "the body must be a JSON object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
