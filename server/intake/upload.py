"""Receives the body of one request within its limits."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from server.intake import formats
from server.intake.admission import Budget
from server.problems import Problem
from server.settings.records import Limits

LINGER_BYTES = 4 * 1024 * 1024


class Upload:
    """How long a body may get, what has come of it, and the memory that is reserved for it.

    Nothing is kept of a body that was ``refused``. But ``LINGER_BYTES`` of it are still received, because most clients
    read the answer only when they have sent everything.
    """

    def __init__(self, headers: Mapping[str, str], budget: Budget) -> None:
        self._headers, self._budget = headers, budget
        self._length = _number(headers.get("Content-Length", ""))
        self._chunks: list[bytes] = []
        self._most = self._received = self._reserved = 0
        self.refused = False

    def expect(self, limits: Limits) -> None:
        """Find out how long the body may get, by its tier and its type. Raises ``Problem`` with 400, 411 or 413."""
        self._most = formats.most_bytes(formats.media_type(self._headers), limits)
        given = self._headers.get("Content-Length")
        if given is None:
            if "Transfer-Encoding" not in self._headers:
                detail = "the request has no body and no Content-Length"
                raise Problem(HTTPStatus.LENGTH_REQUIRED, "no_length", detail)
        elif self._length is None:
            detail = f"Content-Length is {given[:40]!r}, not a number"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad_length", detail)
        elif self._length > self._most:
            raise formats.too_large(self._length, self._most, "the body")

    def reserve(self) -> None:
        """Reserve memory for all that may come. Raises ``Problem`` with 503."""
        most = self._most if self._length is None else self._length  # a body in chunks tells no length
        self._budget.take(most)
        self._reserved = most

    def receive(self, chunk: bytes) -> None:
        """Count a part that has come, and keep it. Raises ``Problem`` with 413."""
        self._received += len(chunk)
        if self.refused:
            return
        if self._received > self._most:
            raise formats.too_large(self._received, self._most, "the body")
        self._chunks.append(chunk)

    def refuse(self) -> None:
        """Keep nothing of it."""
        self.refused = True
        self.release()

    @property
    def runs_out(self) -> bool:
        """Whether it is known to be so short that its end is worth waiting for."""
        return self._length is not None and self._length <= LINGER_BYTES

    @property
    def outstays(self) -> bool:
        """Whether it was refused, and so much has come that the server waits for its end no longer."""
        return self.refused and self._received > LINGER_BYTES

    def take(self) -> list[bytes]:
        """Return what has come, and keep it no longer; its memory stays reserved."""
        chunks, self._chunks = self._chunks, []
        return chunks

    def release(self) -> None:
        """Forget the body, and give its memory back; further calls change nothing."""
        self._chunks = []
        self._budget.give_back(self._reserved)
        self._reserved = 0


def _number(given: str) -> int | None:
    try:
        return int(given) if given.isascii() and given.isdigit() else None
    except ValueError:  # more digits than Python reads
        return None
