"""What is answered to a request that cannot be served: RFC 9457, and the one way to read JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, NoReturn

NAME_SHOWN = 80  # characters


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


def json_object(body: bytes | bytearray, place: Callable[[int], int] = int) -> Mapping[str, Any]:
    """A request's JSON object, in UTF-8. Raises ``Problem``, which says where it is wrong, but not what stands there.

    ``place`` says where a byte stood, if ``body`` is not all that was sent.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise _no_json("it is in UTF-16, and JSON is in UTF-8") from error
        raise _no_json(f"byte {place(error.start) + 1} is not UTF-8") from error
    try:
        # A byte order mark, with which some programs begin, is three bytes.
        value = json.loads(text.removeprefix("\ufeff"), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        byte = len(text[: error.pos + text.startswith("\ufeff")].encode())
        what = error.msg.removesuffix(" at").rstrip(": ")
        raise _no_json(f"{what} at byte {place(byte) + 1}, in line {error.lineno}") from error
    except RecursionError as error:
        raise _no_json("it is nested too deeply") from error
    except ValueError as error:
        raise _no_json(str(error).partition(":")[0]) from error  # the rest is Python's advice to its programmer
    if not isinstance(value, dict):
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_json", "the body must be a JSON object")
    return value


def unknown(
    name: str, where: str, known: Sequence[str], pointer: str | None = None, elsewhere: Sequence[str] = ()
) -> Problem:
    """The problem of an unknown parameter, beside the ``known`` ones and those that stand ``elsewhere``.

    A misspelt one would otherwise change nothing, without a word.
    """
    near = get_close_matches(name[:NAME_SHOWN].lower().replace("-", "_"), [*known, *elsewhere], 1)
    hint = f". Did you mean {near[0]}?" if near else f": it takes {' and '.join(known)}" if known else ": it takes none"
    where_in_json: dict[str, Any] = {} if pointer is None else {"pointer": pointer}
    detail = f"{where} has {name[:NAME_SHOWN]!r}, which is no parameter there{hint}"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_parameters", detail, **where_in_json)


def _no_json(why: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad_json", f"the body is not JSON: {why}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
