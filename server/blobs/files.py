"""The interface of a store of files by their SHA-256: each is there once, whole and unchanged, or not at all."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_SHA256 = re.compile("[0-9a-f]{64}")
UNFINISHED_SECONDS = 3600.0  # without a new byte; what is still being written is ended long before


class WrongFile(Exception):
    """What came is not the file that was announced: too short, too long, or with another digest."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file in the store: its size in bytes, and how many seconds ago it was last put, by the clock that dates it."""

    sha256: str
    size: int
    age: float


class Files(ABC):
    """A store of files. Every method may block on a disk or a network; it can be called from any thread.

    ``sha256`` is 64 hexadecimal digits in lower case. All raise ``BlobError`` if the store does not work.
    """

    @abstractmethod
    def put(self, sha256: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store a file of ``size`` bytes, 1 or more, once all have come and match; it is durable then.

        A file that is there already becomes as young as a new one. Raises ``WrongFile``, ``BlobsFull``, and what
        ``chunks`` raises; then nothing of it can be read.
        """

    @abstractmethod
    def find(self, sha256: str) -> Found | None:
        """What there is of this digest."""

    def has(self, sha256: str) -> int | None:
        """The size in bytes of the file with this digest; None if there is none."""
        found = self.find(sha256)
        return None if found is None else found.size

    @abstractmethod
    def pieces(self, sha256: str) -> Iterator[bytes]:
        """Iterate over the bytes of a file, in pieces of some MiB. Raises ``BlobMissing``, at the first piece."""

    @abstractmethod
    def delete(self, sha256: str) -> None:
        """Delete a file; one that does not exist is no error."""

    @abstractmethod
    def listed(self) -> Iterator[Found]:
        """Iterate over all files, in any order."""

    @abstractmethod
    def delete_unfinished(self) -> None:
        """Delete what ``put`` left behind when its process was killed ``UNFINISHED_SECONDS`` ago or earlier."""

    @abstractmethod
    def close(self) -> None:
        """Release the store's resources; it cannot be used afterwards."""


def is_sha256(text: str) -> bool:
    """Whether a text is the name of a file: 64 hexadecimal digits in lower case."""
    return _SHA256.fullmatch(text) is not None


def checked_sha256(text: str) -> str:
    """Return it. Raises ``ValueError`` if it is no digest, so that no name leads out of the store."""
    if not is_sha256(text):
        raise ValueError(f"{text[:80]!r} is no SHA-256 in hexadecimal")
    return text


def verified(sha256: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Iterate over the chunks. Raises ``WrongFile`` at the end, or as soon as there are too many bytes."""
    digest, received = hashlib.sha256(), 0
    for chunk in chunks:
        received += len(chunk)
        if received > size:
            raise WrongFile(f"more than the announced {size} bytes came")
        digest.update(chunk)
        yield chunk
    if received < size:
        raise WrongFile(f"{received} of {size} bytes came")
    if digest.hexdigest() != sha256:
        raise WrongFile(f"its SHA-256 is {digest.hexdigest()}, not {sha256}")
