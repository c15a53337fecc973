"""The body of a request while it arrives: how long it may get, and how small its pieces may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from tornado.iostream import IOStream

from server.problems import Problem

COMPRESSED = ("br", "compress", "deflate", "gzip", "x-compress", "x-gzip", "zstd")  # other codings change nothing
SMALL_BYTES = 4 * 1024  # of a body that nobody reads
SOON_BYTES = 4 * 1024 * 1024
# Each piece costs the event loop some 30 us, be it a byte or 64 KiB.
PIECES_FREE, PIECE_BYTES = 256, 256


class Body:
    """What is known of a body, and how much of it has come.

    A body that was ``refused`` is not kept.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._given = headers.get("Content-Length")
        self._chunked = "Transfer-Encoding" in headers
        self._encodings = [one.strip().lower() for one in headers.get("Content-Encoding", "").split(",")]
        self._waits = headers.get("Expect", "").lower() == "100-continue"
        self._length = None if self._given is None else _number(self._given)
        self._most = self._pieces = self.received = 0
        self.refused = False

    @property
    def announced(self) -> int:
        """The length that the head tells, in bytes; 0 if it tells none."""
        return self._length or 0

    @property
    def given(self) -> bool:
        """Whether the request says that it has a body, be it an empty one."""
        return self._chunked or self._given is not None

    @property
    def comes(self) -> bool:
        """Whether bytes of it are to be expected."""
        return self._chunked or (self._given is not None and self._length != 0)

    def expect(self, most: int) -> None:
        """Say how many bytes it may have. Raises ``Problem``: 400 for a length that is none, 413 for too long a one."""
        self._most = most
        if self._given is not None and self._length is None:
            detail = f"Content-Length is {self._given[:40]!r}, not a number"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad_length", detail)
        if self._length is not None and self._length > most:
            raise self._too_long(self._length)

    def refuse_compressed(self) -> None:
        """Raises ``Problem`` with 415 for a body that its head calls compressed: a few bytes could become many."""
        if found := next((one for one in self._encodings if one in COMPRESSED), None):
            detail = (
                f"a body with Content-Encoding: {found} is not taken: send it as it is, without that header. "
                "Pictures are compressed already"
            )
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)

    def receive(self, chunk: bytes) -> None:
        """Count a part that has come. Raises ``Problem``: 400 when the parts are too small, 413 when it is too long."""
        self.received += len(chunk)
        self.count_piece()
        if self.received > self._most and not self.refused:
            raise self._too_long(self.received)

    def count_piece(self) -> None:
        """Count a piece, of which each costs time. Raises ``Problem`` when there are too many for so few bytes."""
        self._pieces += 1
        if self._pieces > PIECES_FREE and self.received < PIECE_BYTES * (self._pieces - PIECES_FREE):
            detail = (
                f"{self.received} bytes of the body came in {self._pieces} pieces; "
                f"after the first {PIECES_FREE} a piece must have {PIECE_BYTES} bytes on average"
            )
            raise Problem(HTTPStatus.BAD_REQUEST, "tiny_pieces", detail, limit_bytes=PIECE_BYTES)

    def watch_chunks(self, stream: IOStream, give_up: Callable[[Problem], None]) -> None:
        """Count each chunk of a body that comes in chunks, of which Tornado passes on many small ones as one part."""
        read_until = stream.read_until

        def counted(delimiter: bytes, max_bytes: int | None = None) -> Any:
            try:
                self.count_piece()
            except Problem as problem:
                give_up(problem)
                raise  # or Tornado would read on through the chunks that have come
            return read_until(delimiter, max_bytes)

        if self._chunked:
            vars(stream)["read_until"] = counted

    @staticmethod
    def leave(stream: IOStream) -> None:
        """Count the chunks no longer."""
        vars(stream).pop("read_until", None)

    @property
    def ends_soon(self) -> bool:
        """Whether its end is worth waiting for when it is refused, so that the connection can be used again."""
        comes_unasked = self.received > 0 or not self._waits
        return self._length is not None and self._length <= SOON_BYTES and comes_unasked

    def _too_long(self, size: int) -> Problem:
        detail = f"the body has {size} bytes; {self._most} are allowed"
        return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_many_bytes", detail, limit_bytes=self._most)


def _number(given: str) -> int | None:
    try:
        return int(given) if given.isascii() and given.isdigit() else None
    except ValueError:  # more digits than Python reads
        return None
