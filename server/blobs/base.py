"""The interface of a blob store, its errors, and the format of a blob.

A blob is sent to the worker as it is: a big-endian uint32 count of pictures, the uint32 size of each, the pictures.
It counts only once the queue has a row for it. A crash before that leaves an orphan, which is deleted later; so a blob
can be written in place, without the usual rename at the end.
"""

from __future__ import annotations

import secrets
import struct
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TypeAlias

PIECE_BYTES = 1024 * 1024

Piece: TypeAlias = bytes | bytearray
"""Bytes of a picture; what was just received is a ``bytearray``, and is not copied."""

PROBE_BYTES = 4096


class BlobError(Exception):
    """A blob could not be written or read; the message says why."""


class BlobsFull(BlobError):
    """There is no room for a blob. ``code`` is the one of the problem that this is; ``numbers`` go with it."""

    def __init__(self, message: str, code: str, **numbers: int) -> None:
        super().__init__(message)
        self.code, self.numbers = code, numbers


class BlobMissing(BlobError):
    """There is no blob with this key."""


class BlobsUnusable(Exception):
    """The place cannot store blobs at all; the message tells an operator why."""


class Blobs(ABC):
    """A store of blobs by key. Every method may block on a disk or a network; it can be called from any thread."""

    @abstractmethod
    def put(self, key: str, pictures: Sequence[Sequence[Piece]]) -> int:
        """Store pictures, each given as chunks of bytes, as one blob; return its size in bytes once it is durable.

        Raises ``BlobError``. What a second ``put`` with the same key does is not defined.
        """

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return the bytes of a blob. Raises ``BlobMissing`` or ``BlobError``."""

    @abstractmethod
    def pieces(self, key: str) -> Generator[bytes, None, None]:
        """Iterate over the bytes of a blob, in pieces of about ``PIECE_BYTES``.

        Raises ``BlobError``; and ``BlobMissing``, but only instead of the first piece.
        """

    def get_each(self, keys: Sequence[str]) -> list[bytes | BlobMissing]:
        """Return the bytes of several blobs, with a ``BlobMissing`` for each missing one. Raises ``BlobError``."""
        return [self._found(key) for key in keys]

    def _found(self, key: str) -> bytes | BlobMissing:
        try:
            return self.get(key)
        except BlobMissing as error:
            return error

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Delete blobs; one that does not exist is no error."""

    @abstractmethod
    def older_than(self, seconds: float) -> Iterator[str]:
        """Iterate over the keys of blobs written at least ``seconds`` ago, by the clock that dates them.

        Raises ``BlobError``.
        """

    def try_out(self) -> None:
        """Write a small blob and delete it, to find out whether that works. Raises ``BlobError``."""
        key = f"probe{secrets.token_hex(16)}"
        self.put(key, [[bytes(PROBE_BYTES)]])
        self.delete([key])

    @abstractmethod
    def close(self) -> None:
        """Release the store's resources; it cannot be used afterwards."""


def pack_header(sizes: Sequence[int]) -> bytes:
    """Return the header of a blob whose pictures have these sizes in bytes."""
    return struct.pack(f">{1 + len(sizes)}I", len(sizes), *sizes)


def pack(pictures: Sequence[Sequence[Piece]]) -> list[Piece]:
    """Return a blob of these pictures, as chunks of bytes."""
    return [
        pack_header([sum(map(len, each)) for each in pictures]),
        *(chunk for each in pictures for chunk in each),
    ]


def is_whole(blob: bytes) -> bool:
    """Whether a blob has exactly as many bytes as its header says."""
    count = int.from_bytes(blob[:4])
    head = 4 * (1 + count)
    return len(blob) >= head and len(blob) - head == int(sum(struct.unpack_from(f">{count}I", blob, 4)))


def is_key(name: str) -> bool:
    """Whether a name can be a key: ASCII letters and digits only. Anything else in a store is not a blob of ours."""
    return name.isalnum() and name.isascii()


def checked(key: str) -> str:
    """Return the key. Raises ``BlobMissing`` when it cannot be one, so that no key leads out of the store's folder."""
    if not is_key(key):
        raise BlobMissing(f"no blob {key!r}")
    return key
