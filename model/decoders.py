"""Decode several pictures at once: plain ones in threads of this process, the others in several child processes."""

from __future__ import annotations

import math
import os
import queue
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.decoder import Decoder, largest_need, memory_left
from model.images import Preprocessing

_CGROUP_CPUS = "/sys/fs/cgroup/cpu.max"
_CGROUP_QUOTA, _CGROUP_PERIOD = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"


class Decoders:
    """Decodes for ``threads`` threads, with at most as many children as the memory holds when each has its largest.

    Each of the threads must live until ``close``, as the thread of a ``Decoder`` must.
    """

    def __init__(self, how: Preprocessing, max_pixels: int, seconds: float, threads: int) -> None:
        left = memory_left()
        fitting = threads if left is None else left // largest_need(how, max_pixels)
        children = max(1, min(threads, fitting))
        self._all = [Decoder(how, max_pixels, seconds, children) for _ in range(children)]
        self._free: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for one in self._all:
            self._free.put(one)
        # Each child decodes one picture at a time, within its own limit.
        self._patience = threads * (seconds + 60)

    def load(self, data: bytes) -> NDArray[np.float32]:
        """As ``Decoder.load``, from any of the threads."""
        first = self._all[0]
        if first.is_plain(data):
            return first.load_here(data)
        decoder = self._free.get(timeout=self._patience)
        try:
            return decoder.load_apart(data)
        finally:
            self._free.put(decoder)

    def interrupt(self) -> None:
        """As ``Decoder.interrupt``, from any thread."""
        for one in self._all:
            one.interrupt()

    def close(self) -> None:
        """End the children."""
        for one in self._all:
            one.close()


def processors() -> int:
    """Return how many processors this process may use at once: those of its mask, or of its container's limit."""
    few = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no such file, or "max"
        quota, period = Path(_CGROUP_CPUS).read_text().split()
        return max(1, min(few, math.ceil(int(quota) / int(period))))
    with suppress(OSError, ValueError):
        allowed = int(Path(_CGROUP_QUOTA).read_text()) / int(Path(_CGROUP_PERIOD).read_text())
        return max(1, min(few, math.ceil(allowed))) if allowed > 0 else few
    return few
