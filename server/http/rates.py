"""How often each address may ask for something that costs others."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_ADDRESSES = 4096


class Rates:
    """Lets each address ask ``burst`` times at once, and then ``per_second`` times in a second.

    It remembers the addresses that asked last. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Whether the address may ask once more now; if so, that counts."""
        now = self._clock()
        left = self._left_of(address, now)
        self._left.pop(address, None)  # so that it goes to the end
        allowed = left >= 1
        self._left[address] = left - 1 if allowed else left, now
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return allowed

    def wait(self, address: str) -> float:
        """In how many seconds the address may ask once more; 0 if it may now."""
        return max(0.0, (1 - self._left_of(address, self._clock())) / self._per_second)

    def _left_of(self, address: str, now: float) -> float:
        left, at = self._left.get(address, (self._burst, now))
        return min(self._burst, left + (now - at) * self._per_second)
