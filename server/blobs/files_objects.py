"""Stores files by digest as objects below a prefix of one bucket. An object appears when all of its parts are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from server.blobs.base import BlobError, BlobMissing
from server.blobs.files import Files, Found, checked_sha256, is_sha256, verified
from server.blobs.objects import PAGE, as_blob_error, as_missing, connected, time_of

if TYPE_CHECKING:
    from obstore.store import ObjectStoreMethods

REQUEST = timedelta(seconds=30)
PART_BYTES = 8 * 1024 * 1024  # S3 takes 10,000 parts of 5 MiB or more
PARTS_AT_ONCE = 1  # as each is in memory
READ_BYTES = 2 * 1024 * 1024


class ObjectFiles(Files):
    """A store of files as objects. An upload that breaks off is aborted; one whose process is killed leaves parts.

    No program lists such parts in the same way for all stores: a rule of the bucket must delete them.
    """

    def __init__(self, store: ObjectStoreMethods) -> None:
        self._store = store

    @classmethod
    def connect(cls, url: str) -> ObjectFiles:
        """Open the store at a URL without secrets, with settings from the environment. Raises ``BlobsUnusable``."""
        return cls(connected(url, REQUEST))

    def put(self, sha256: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store a file in parts; ``chunks`` are taken on the calling thread, and what they raise aborts the upload."""
        path = checked_sha256(sha256)
        with as_blob_error("keep the file"):
            self._store.put(
                path,
                verified(sha256, size, chunks),
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )

    def find(self, sha256: str) -> Found | None:
        """What there is of this digest, by a read of one byte: the answer to a HEAD does not tell why it is a 404."""
        path = checked_sha256(sha256)
        with suppress(BlobMissing), as_missing(sha256):
            meta = self._store.get(path, options={"range": (0, 1)}).meta
            return Found(sha256, meta["size"], time_of(self._store) - meta["last_modified"].timestamp())
        return None

    def pieces(self, sha256: str) -> Iterator[bytes]:
        """Iterate over the bytes of an object, a request for each piece, so that each has its own retries."""
        path, begin, size = checked_sha256(sha256), 0, READ_BYTES
        while begin < size:
            with as_missing(sha256):
                found = self._store.get(path, options={"range": (begin, min(size, begin + READ_BYTES))})
                size, piece = found.meta["size"], bytes(found.bytes())
            if not piece:
                raise BlobError(f"cannot read the file {sha256}: it ends after {begin} of {size} bytes")
            yield piece
            begin += len(piece)

    def delete(self, sha256: str) -> None:
        """Delete the object; Google and Azure say that it is missing."""
        path = checked_sha256(sha256)
        with as_blob_error("delete a file"), suppress(FileNotFoundError):
            self._store.delete(path)

    def listed(self) -> Iterator[Found]:
        """Iterate over the objects whose names are digests."""
        now: float | None = None
        with as_blob_error("list the files"):
            for page in self._store.list(chunk_size=PAGE):
                for found in page:
                    if is_sha256(found["path"]):
                        now = time_of(self._store) if now is None else now  # not asked for an empty bucket
                        yield Found(found["path"], found["size"], now - found["last_modified"].timestamp())

    def delete_unfinished(self) -> None:
        """Nothing of an unfinished upload is an object."""

    def close(self) -> None:
        """Idle connections close by themselves."""
