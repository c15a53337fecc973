"""Stores, reads and deletes the pictures of predictions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from server.blobs import BlobError, BlobMissing, Blobs, FreshBlobs, Piece
from server.intake.storage_check import StorageCheck

log = logging.getLogger(__name__)

T = TypeVar("T")

# Long enough for one call to delete what several commits have ended, short enough that disk space is soon back.
FORGET_SECONDS = 0.02
PAGE = 500
MOST_FORGOTTEN = 100_000  # ids that wait to be deleted; the sweep deletes the blobs of those that come on top


class Pictures:
    """The pictures of a prediction are one blob under its id: in the store, and for a moment in memory too."""

    def __init__(self, blobs: Blobs, disk: Executor, storage_check: StorageCheck) -> None:
        self._blobs, self._fresh, self._disk, self._storage_check = blobs, FreshBlobs(), disk, storage_check
        self._ended: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False

    def keep(self, key: str, pictures: Sequence[Sequence[Piece]]) -> int:
        """Store pictures; return the blob's size once it is durable. Blocks on the disk. Raises ``BlobError``."""
        try:
            size = self._blobs.put(key, pictures)
        except BlobError:
            self._storage_check.doubt_blobs()
            raise
        self._fresh.remember(key, pictures)
        return size

    async def read(self, keys: Sequence[str], use: Callable[[Sequence[bytes | BlobMissing]], T]) -> T:
        """Return what ``use`` makes of the blobs. Raises ``BlobError``.

        ``use`` runs at once if all blobs are in memory, else on the thread that reads them.
        """
        fresh = self._fresh.take(keys)
        if fresh is not None:
            return use(fresh)
        return await asyncio.get_running_loop().run_in_executor(self._disk, lambda: use(self._blobs.get_each(keys)))

    async def pieces(self, key: str) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes of a blob, of which only a piece is in memory. Raises ``BlobError``."""
        loop, pieces = asyncio.get_running_loop(), self._blobs.pieces(key)
        try:
            while piece := await loop.run_in_executor(self._disk, next, pieces, b""):
                yield piece
        finally:
            await loop.run_in_executor(self._disk, pieces.close)

    async def forget(self, keys: Sequence[str]) -> None:
        """Delete blobs that nobody needs, and return when they are gone. If that fails, a sweep deletes them."""
        self._fresh.forget(keys)
        await asyncio.get_running_loop().run_in_executor(self._disk, self._delete, keys)

    def forget_soon(self, keys: Iterable[str]) -> None:
        """Delete blobs of predictions that have ended, a little later and off the loop, on which this is called."""
        self._ended += keys
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FORGET_SECONDS, self.forget_now)

    def forget_now(self) -> None:
        """Begin to delete what ``forget_soon`` was told of."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        ended, self._ended = self._ended, []
        self._fresh.forget(ended)
        for start in range(0, min(len(ended), MOST_FORGOTTEN), PAGE):
            self._disk.submit(self._delete, ended[start : start + PAGE])

    def _delete(self, keys: Sequence[str]) -> None:
        try:
            self._blobs.delete(keys)
        except (BlobError, OSError) as error:
            if not self._failing:  # once for an outage
                log.warning("blobs are left for the sweep: %s", error)
            self._failing = True
        else:
            self._failing = False
