"""The pictures of a prediction, packed into one blob on disk, durable before ``put`` returns.

A blob is what the worker gets as it is: a big-endian uint32 count, a uint32 size each, then the pictures.
A blob without a row in the queue is an orphan of a crash, to be swept; so no rename is needed: the row makes it real.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from server.points import Point, reached


class BlobError(Exception):
    """The storage could not keep or give a blob: the text says why."""


class BlobMissing(BlobError):
    """There is no blob of that key."""


def pack_header(sizes: Sequence[int]) -> bytes:
    """The bytes that stand before pictures of these sizes."""
    return struct.pack(f">{1 + len(sizes)}I", len(sizes), *sizes)


class DirectoryBlobs:
    """Blobs as files below ``root``. Every method blocks on the disk: call it off the event loop."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._clock = clock
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = _open_folder(root)
        parent = _open_folder(root.parent)
        os.fsync(parent)
        os.close(parent)

    def put(self, key: str, pictures: Sequence[Sequence[bytes]]) -> int:
        """Keep pictures, each given as its chunks; returns the blob's size once it is on disk. Raises ``BlobError``."""
        path = self._path(key)
        chunks = [
            pack_header([sum(map(len, each)) for each in pictures]),
            *(chunk for each in pictures for chunk in each),
        ]
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                reached(Point.BLOB_OPENED)
                _write_all(descriptor, chunks)
                reached(Point.BLOB_WRITTEN)
                os.fdatasync(descriptor)
                reached(Point.BLOB_SYNCED)
            except OSError:
                path.unlink()
                raise
            finally:
                os.close(descriptor)
            os.fsync(self._folder)
            reached(Point.BLOB_KEPT)
        except OSError as error:
            raise BlobError(f"cannot keep the picture: {error.strerror}") from error
        return sum(map(len, chunks))

    def close(self) -> None:
        """Let the folder go; nothing can be kept afterwards."""
        os.close(self._folder)

    def get(self, key: str) -> bytes:
        """The blob's bytes. Raises ``BlobMissing`` or ``BlobError``."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as error:
            raise BlobMissing(f"no blob {key}") from error
        except OSError as error:
            raise BlobError(f"cannot read blob {key}: {error.strerror}") from error

    def delete(self, keys: Iterable[str]) -> None:
        """Remove blobs; those already gone are success."""
        for key in keys:
            self._path(key).unlink(missing_ok=True)
            reached(Point.BLOB_DELETED)

    def older_than(self, seconds: float) -> Iterator[str]:
        """The keys of blobs written at least ``seconds`` ago."""
        limit = self._clock() - seconds
        for path in self._root.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime <= limit:
                    yield path.name

    def _path(self, key: str) -> Path:
        if not (key.isalnum() and key.isascii()):
            raise BlobMissing(f"no blob {key!r}")
        return self._root / key


def _write_all(descriptor: int, chunks: Sequence[bytes]) -> None:
    waiting = [memoryview(chunk) for chunk in chunks if chunk]
    while waiting:
        written = os.writev(descriptor, waiting[:512])
        while waiting and written >= len(waiting[0]):
            written -= len(waiting.pop(0))
        if written:
            waiting[0] = waiting[0][written:]


def _open_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
