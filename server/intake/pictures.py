"""Stores, reads and deletes the pictures of predictions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from server.blobs import BlobError, BlobMissing, Blobs, FreshBlobs, Piece

log = logging.getLogger(__name__)

T = TypeVar("T")


class Pictures:
    """The pictures of a prediction are one blob under its id: in the store, and for a moment in memory too."""

    def __init__(self, blobs: Blobs, disk: Executor) -> None:
        self._blobs, self._fresh, self._disk = blobs, FreshBlobs(), disk

    def keep(self, key: str, pictures: Sequence[Sequence[Piece]]) -> int:
        """Store pictures; return the blob's size once it is durable. Blocks on the disk. Raises ``BlobError``."""
        size = self._blobs.put(key, pictures)
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
        """Delete blobs that nobody needs any more. If that fails, a later sweep deletes them."""
        self._fresh.forget(keys)
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, self._blobs.delete, keys)
        except (BlobError, OSError) as error:
            log.warning("blobs are left for the sweep: %s", error)
