"""What keeps the pictures of predictions: its verbs, its errors, and the bytes of a blob.

A blob is what the worker gets as it is: a big-endian uint32 count, a uint32 size each, then the pictures.
A blob without a row in the queue is an orphan of a crash, to be swept; so no rename is needed: the row makes it real.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence


class BlobError(Exception):
    """The storage could not keep or give a blob: the text says why."""


class BlobMissing(BlobError):
    """There is no blob of that key."""


class BlobsUnusable(Exception):
    """No blobs can be kept there at all: the text tells an operator why."""


class Blobs(ABC):
    """Blobs by their keys. Every method blocks on a disk or a network: call it off the event loop, from any thread."""

    @abstractmethod
    def put(self, key: str, pictures: Sequence[Sequence[bytes]]) -> int:
        """Keep pictures, each given as its chunks; returns the blob's size once it is durable. Raises ``BlobError``.

        A key is used for one put: what a second does is not defined.
        """

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The blob's bytes. Raises ``BlobMissing`` or ``BlobError``."""

    def get_each(self, keys: Sequence[str]) -> list[bytes | BlobMissing]:
        """The bytes of several blobs, or that one is missing. Raises ``BlobError``."""
        return [self._found(key) for key in keys]

    def _found(self, key: str) -> bytes | BlobMissing:
        try:
            return self.get(key)
        except BlobMissing as error:
            return error

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove blobs; those already gone are success."""

    @abstractmethod
    def older_than(self, seconds: float) -> Iterator[str]:
        """The keys of blobs written at least ``seconds`` ago, found as the iteration goes."""

    @abstractmethod
    def close(self) -> None:
        """Let the storage go; nothing can be kept afterwards."""


def pack_header(sizes: Sequence[int]) -> bytes:
    """The bytes that stand before pictures of these sizes."""
    return struct.pack(f">{1 + len(sizes)}I", len(sizes), *sizes)


def pack(pictures: Sequence[Sequence[bytes]]) -> list[bytes]:
    """A blob of pictures, in chunks."""
    return [
        pack_header([sum(map(len, each)) for each in pictures]),
        *(chunk for each in pictures for chunk in each),
    ]


def is_whole(blob: bytes) -> bool:
    """Whether a blob has all the bytes that its header tells of, and no more."""
    count = int.from_bytes(blob[:4])
    head = 4 * (1 + count)
    return len(blob) >= head and len(blob) - head == int(sum(struct.unpack_from(f">{count}I", blob, 4)))


def is_key(name: str) -> bool:
    """Whether a name is a key; others are nobody's blobs."""
    return name.isalnum() and name.isascii()


def checked(key: str) -> str:
    """The key itself. Raises ``BlobMissing`` when it cannot be one: no key leaves its folder."""
    if not is_key(key):
        raise BlobMissing(f"no blob {key!r}")
    return key
