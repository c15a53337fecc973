"""Stores files by digest in one directory. A file has another name until it is whole, checked and on disk."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from server.blobs.base import PIECE_BYTES, BlobError, BlobMissing, BlobsFull
from server.blobs.files import UNFINISHED_SECONDS, Files, Found, checked_sha256, is_sha256, verified
from server.disk import Disk, NoRoom, is_full
from server.files import open_file, open_folder

# A model must not take the room of the pictures that wait: so many times their reserve stays free.
RESERVES = 4


class DirectoryFiles(Files):
    """A store of files in ``root``, which is created if it is missing; ``disk`` is the one that it lies on."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self._root = root
        self._folder = open_folder(root)
        self._disk = disk or Disk(root)

    def put(self, sha256: str, size: int, chunks: Iterable[bytes]) -> None:
        """Write a new file, sync it and give it its name, in the place of one that is there."""
        path = self._path(sha256)
        unfinished = path.with_name(f"{sha256}.{secrets.token_hex(8)}")
        with self._as_blob_error("keep the file"):
            with self._disk.claim(size, RESERVES):
                pass  # to refuse a file for which there is no room before it comes
            try:
                self._write(unfinished, verified(sha256, size, chunks))
                os.rename(unfinished.name, path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            os.fsync(self._folder)  # without it the file's name may be lost in a power cut

    def find(self, sha256: str) -> Found | None:
        """What there is of this digest."""
        with self._as_blob_error("look for a file"), suppress(FileNotFoundError):
            status = self._path(sha256).lstat()
            return Found(sha256, status.st_size, self._now() - status.st_mtime)
        return None

    def pieces(self, sha256: str) -> Iterator[bytes]:
        """Iterate over the bytes of the file."""
        try:
            with os.fdopen(open_file(self._path(sha256), os.O_RDONLY, self._folder), "rb", buffering=0) as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece
        except FileNotFoundError as error:
            raise BlobMissing(f"no file {sha256}") from error
        except OSError as error:
            raise BlobError(f"cannot read the file {sha256}: {error.strerror}") from error

    def delete(self, sha256: str) -> None:
        """Delete the file."""
        with self._as_blob_error("delete a file"):
            self._path(sha256).unlink(missing_ok=True)

    def listed(self) -> Iterator[Found]:
        """Iterate over the files whose names are digests."""
        for name in self._names():
            if is_sha256(name) and (found := self.find(name)):
                yield found

    def delete_unfinished(self) -> None:
        """Delete the old files that have no digest as their name yet."""
        for name in self._names():
            sha256, dot, _ = name.partition(".")
            if dot and is_sha256(sha256):
                path = self._root / name
                with self._as_blob_error("delete an unfinished file"), suppress(FileNotFoundError):
                    if self._now() - path.lstat().st_mtime >= UNFINISHED_SECONDS:
                        path.unlink()

    def close(self) -> None:
        """Close the folder."""
        os.close(self._folder)

    def _names(self) -> list[str]:
        with self._as_blob_error("list the files"):
            return [path.name for path in self._root.iterdir()]

    def _write(self, path: Path, chunks: Iterable[bytes]) -> None:
        with os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._folder), "wb", buffering=0) as file:
            for chunk in chunks:
                # Each by itself: to claim all would refuse pictures for as long as an operator's line is slow.
                with self._disk.claim(len(chunk), RESERVES):
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[file.write(rest) :]
            os.fsync(file.fileno())

    @contextmanager
    def _as_blob_error(self, what: str) -> Iterator[None]:
        try:
            yield
        except NoRoom as error:
            raise _full(what, error) from error
        except OSError as error:
            if is_full(error):
                raise BlobsFull(f"cannot {what}: {error.strerror}", "disk_full") from error
            raise BlobError(f"cannot {what}: {error.strerror}") from error

    def _now(self) -> float:
        """What time it is for the filesystem, which dates its files by a clock that need not be the server's."""
        os.utime(self._root)
        return self._root.stat().st_mtime

    def _path(self, sha256: str) -> Path:
        return self._root / checked_sha256(sha256)


def _full(what: str, error: NoRoom) -> BlobsFull:
    free, stays = error.room.free, RESERVES * error.room.reserve
    words = f"cannot {what}: {free} bytes of the disk are free, and {stays} of them stay free for pictures"
    return BlobsFull(words, "disk_full", free_bytes=free, reserve_bytes=stays)
