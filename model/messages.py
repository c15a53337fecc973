"""What the server sends over the channel: JSON in text messages, and frames.

A frame is a big-endian uint32 length, that many bytes of JSON, then one blob per prediction (see ``unpack``). A large
frame comes in several binary messages.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BytesLike = bytes | bytearray | memoryview
WRONG = (ValueError, KeyError, TypeError, AttributeError, struct.error)  # what a message raises that is none


@dataclass(frozen=True, slots=True)
class Lease:
    """A prediction that this worker holds for a limited time."""

    id: str
    """The prediction's id."""
    token: str
    """Proof that this worker holds the lease; every later message about it must carry it."""
    top_k: int
    """How many labels the client asks for."""
    pictures: tuple[memoryview, ...]
    """The bytes of each picture, as the client sent them."""
    function: str = "softmax"
    """What makes scores of the logits: see ``runtimes.base.scores``."""
    trace: str = ""
    """The ``traceparent`` of the client's request (W3C Trace Context), if that is known."""
    request_id: str = ""
    """The ``X-Request-Id`` of the client's request, if that is known."""


@dataclass(frozen=True, slots=True)
class News:
    """What a message of the server, or a whole frame, says."""

    leases: Sequence[Lease] = ()
    """Predictions that are leased to this worker now."""
    outcomes: Sequence[tuple[str, str]] = ()
    """Ids of completed predictions, each with what the server did with the result."""
    lost: Sequence[str] | None = None
    """The answer to a renewal: ids of those predictions whose lease is lost."""
    renew: float | None = None
    """Seconds between two renewals, from now on."""
    stopping: bool = False
    """This server gives out no more work."""
    log: str | None = None
    """How predictions are logged from now on: ``text``, ``json`` or ``off``."""
    retire: str = ""
    """Why this worker should end; empty: it should not."""


class Frame:
    """A frame of which the first message has come. Every method raises ``ValueError`` and the like if it is wrong."""

    def __init__(self, data: BytesLike) -> None:
        self._data = bytearray(data) if not isinstance(data, bytearray) else data
        self._begin = 4 + int.from_bytes(self._data[:4], "big")
        self._head = json.loads(bytes(self._data[4 : self._begin]))
        self._sizes: list[int] = [int(entry["size"]) for entry in self._head["predictions"]]
        self._bytes = self._begin + sum(self._sizes)
        if min(self._sizes, default=0) < 0 or self.missing() < 0:
            raise ValueError("the sizes of a frame's blobs are wrong")

    def add(self, data: BytesLike) -> None:
        """Add the next message."""
        self._data += data
        if self.missing() < 0:
            raise ValueError("a frame is longer than its head says")

    def missing(self) -> int:
        """Return how many bytes of the frame have not come."""
        return self._bytes - len(self._data)

    def news(self) -> News:
        """Return what the whole frame says."""
        view, offset, leases = memoryview(self._data), self._begin, []
        for entry, size in zip(self._head["predictions"], self._sizes, strict=True):
            pictures = unpack(view[offset : offset + size])
            given = {name: str(entry[name]) for name in ("function", "trace", "request_id") if name in entry}
            leases.append(Lease(str(entry["id"]), str(entry["token"]), int(entry["top_k"]), pictures, **given))
            offset += size
        return News(leases=leases, outcomes=_outcomes(self._head))


def unframe(frame: bytes) -> News:
    """Return what a whole frame says. Raises ``ValueError`` and the like if it is no frame."""
    return Frame(frame).news()


def unpack(blob: memoryview) -> tuple[memoryview, ...]:
    """Return the pictures of a blob: a big-endian uint32 count, the uint32 size of each, then the pictures."""
    (count,) = struct.unpack_from(">I", blob)
    sizes = struct.unpack_from(f">{count}I", blob, 4)
    pictures, offset = [], 4 + 4 * count
    if offset + sum(sizes) != len(blob):
        raise ValueError("the sizes of a blob's pictures are wrong")
    for size in sizes:
        pictures.append(blob[offset : offset + size])
        offset += size
    return tuple(pictures)


def read(text: BytesLike) -> News:
    """Return what a text message says. Raises ``ValueError`` and the like if it is not of the protocol."""
    message = json.loads(bytes(text))
    return News(
        outcomes=_outcomes(message),
        lost=[str(id_) for id_ in message["lost"]] if "lost" in message else None,
        renew=float(message["renew"]) if "renew" in message else None,
        log=str(message["log"]) if "log" in message else None,
        stopping=bool(message.get("stopping")),
        retire=str(message.get("retire", "")),
    )


def _outcomes(message: dict[str, Any]) -> list[tuple[str, str]]:
    return [(str(id_), str(outcome)) for id_, outcome in message.get("outcomes", ())]
