"""A cache of blobs that were stored a moment ago: most are leased at once, and need not be read from the store."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from server.blobs.base import Piece, pack

MOST_BYTES = 32 * 1024 * 1024
LARGEST_BYTES = 1024 * 1024  # a larger blob takes longer to send than to read
SECONDS = 60.0  # another server may lease a prediction whose blob is here, and this server is not told


class FreshBlobs:
    """Caches blobs until they are taken: at most ``MOST_BYTES``, for at most ``SECONDS``. Safe from any thread.

    When the cache is full, new blobs are not added and old ones stay, because the queue leases its oldest predictions
    first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._blobs: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def remember(self, key: str, pictures: Sequence[Sequence[Piece]]) -> None:
        """Cache the blob that was stored under this key, if there is room for it."""
        parts, now = pack(pictures), self._clock()
        size = sum(map(len, parts))
        with self._lock:
            while self._blobs and now - next(iter(self._blobs.values()))[0] > SECONDS:
                self._pop(next(iter(self._blobs)))
            if size <= LARGEST_BYTES and self._bytes + size <= MOST_BYTES:
                self._blobs[key] = (now, b"".join(parts))
                self._bytes += size

    def take(self, keys: Sequence[str]) -> list[bytes] | None:
        """Remove these blobs from the cache and return their bytes; None when one is not cached. Never blocks."""
        with self._lock:
            return [self._pop(key) for key in keys] if all(key in self._blobs for key in keys) else None

    def forget(self, keys: Iterable[str]) -> None:
        """Remove these blobs from the cache, as far as they are in it."""
        with self._lock:
            for key in keys:
                if key in self._blobs:
                    self._pop(key)

    def _pop(self, key: str) -> bytes:
        _, blob = self._blobs.pop(key)
        self._bytes -= len(blob)
        return blob
