"""Stores blobs as files in one directory; ``put`` returns once the file is on disk."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from server.blobs.base import PIECE_BYTES, BlobError, BlobMissing, Blobs, BlobsFull, Piece, checked, is_key, pack
from server.disk import Disk, NoRoom, is_full
from server.files import open_file, open_folder
from server.points import Point, reached


class DirectoryBlobs(Blobs):
    """A store of blobs as files in ``root``, which is created if it is missing; ``disk`` is the one that it lies on."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self._root = root
        self._folder = open_folder(root)
        self._disk = disk or Disk(root)

    def put(self, key: str, pictures: Sequence[Sequence[Piece]]) -> int:
        """Store pictures in a new file, and sync both the file and the folder."""
        path, chunks = self._path(key), pack(pictures)
        size = sum(map(len, chunks))
        try:
            with self._disk.claim(size):
                self._write(path, chunks)
        except NoRoom as error:
            raise _full(error) from error
        except OSError as error:
            if is_full(error):
                raise self._disk_full(error) from error
            raise BlobError(f"cannot keep the picture: {error.strerror}") from error
        return size

    def close(self) -> None:
        """Close the folder."""
        os.close(self._folder)

    def get(self, key: str) -> bytes:
        """Return the bytes of the file."""
        try:
            with os.fdopen(open_file(self._path(key), os.O_RDONLY, self._folder), "rb") as file:
                return file.read()
        except FileNotFoundError as error:
            raise BlobMissing(f"no blob {key}") from error
        except OSError as error:
            raise BlobError(f"cannot read blob {key}: {error.strerror}") from error

    def pieces(self, key: str) -> Generator[bytes, None, None]:
        """Iterate over the bytes of the file."""
        try:
            with self._path(key).open("rb", buffering=0) as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece
        except FileNotFoundError as error:
            raise BlobMissing(f"no blob {key}") from error
        except OSError as error:
            raise BlobError(f"cannot read blob {key}: {error.strerror}") from error

    def delete(self, keys: Iterable[str]) -> None:
        """Delete the files, one by one."""
        for key in keys:
            self._path(key).unlink(missing_ok=True)  # not synced: a file that a power cut brings back is swept
            reached(Point.BLOB_DELETED)

    def older_than(self, seconds: float) -> Iterator[str]:
        """Iterate over the names of files last written at least ``seconds`` ago, but not ``lost+found``."""
        limit = self._now() - seconds
        for path in self._root.iterdir():
            with suppress(FileNotFoundError):  # the file was deleted meanwhile
                if is_key(path.name) and path.stat().st_mtime <= limit:
                    yield path.name

    def _now(self) -> float:
        """What time it is for the filesystem, which dates its files by a clock that need not be the server's."""
        try:
            os.utime(self._root)  # the folder serves as the probe, since a full disk may take no new file
            return self._root.stat().st_mtime
        except OSError as error:
            raise BlobError(f"cannot tell how old blobs are: {error.strerror}") from error

    def _write(self, path: Path, chunks: Sequence[Piece]) -> None:
        descriptor = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._folder)
        try:
            reached(Point.BLOB_OPENED)
            _write_all(descriptor, chunks)
            reached(Point.BLOB_WRITTEN)
            os.fdatasync(descriptor)  # writes the size too; what it omits, such as times, is not needed
            reached(Point.BLOB_SYNCED)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        os.fsync(self._folder)  # without it the file's name may be lost in a power cut
        reached(Point.BLOB_KEPT)

    def _disk_full(self, error: OSError) -> BlobsFull:
        """Something else has taken the room since it was looked at: the disk notes it."""
        with suppress(OSError):
            return _full(NoRoom(self._disk.look()))
        return BlobsFull(f"cannot keep the picture: {error.strerror}", "disk_full")

    def _path(self, key: str) -> Path:
        return self._root / checked(key)


def _full(error: NoRoom) -> BlobsFull:
    room = error.room
    words = f"cannot keep the picture: {room.free} bytes are free, and {room.reserve} of them stay free"
    return BlobsFull(words, "disk_full", free_bytes=room.free, reserve_bytes=room.reserve)


def _write_all(descriptor: int, chunks: Sequence[Piece]) -> None:
    waiting = [memoryview(chunk) for chunk in chunks if chunk]
    while waiting:
        written = os.writev(descriptor, waiting[:512])  # Linux refuses more than 1024 at once
        while waiting and written >= len(waiting[0]):
            written -= len(waiting.pop(0))
        if written:
            waiting[0] = waiting[0][written:]
