"""Counts the bytes that requests hold in memory, so that no tier and no client can take them all."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus

from server.problems import Problem


class Memory:
    """Bytes that may be held by all requests together.

    Each tier has a share that the others leave free: its largest request, or as much as is left beside the largest
    request of another tier. Of what a tier may hold, one address gets half, but always its largest request. When a
    request finds no place, a larger one that is still received is ended for it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_tier: Counter[str] = Counter()
        self._of_address: Counter[tuple[str, str]] = Counter()
        self._received: set[Held] = set()  # those that hold something and may be ended

    def hold(
        self, tier: str, address: str, largest: Mapping[str, int], end: Callable[[Problem], None] | None = None
    ) -> Held:
        """Begin to count for one request; ``largest`` has the bytes of the largest request of each tier.

        ``end`` answers the request with a problem and calls ``release``; without it the request is never ended.
        """
        reserved = shares(self._most, largest)
        del reserved[tier]
        return Held(self, tier, network(address), largest[tier], reserved, end)

    def used(self) -> int:
        """How many bytes are held."""
        return self._of_tier.total()

    def _left(self, tier: str, reserved: Mapping[str, int]) -> int:
        kept_free = sum(max(0, share - self._of_tier[other]) for other, share in reserved.items())
        return self._most - kept_free - self.used()

    def _add(self, tier: str, address: str, size: int) -> None:
        self._of_tier[tier] += size
        self._of_address[tier, address] += size
        if not self._of_address[tier, address]:
            del self._of_address[tier, address]  # of the many addresses, only those that hold something are kept


class Held:
    """What one request holds."""

    def __init__(
        self,
        memory: Memory,
        tier: str,
        address: str,
        largest: int,
        reserved: Mapping[str, int],
        end: Callable[[Problem], None] | None,
    ) -> None:
        self._memory, self._tier, self._address, self._reserved, self._end = memory, tier, address, reserved, end
        self._of_tier = memory._most - sum(reserved.values())
        self._of_address = min(self._of_tier, max(largest, self._of_tier // 2))
        self.size = 0

    def take(self, size: int) -> None:
        """Hold so many bytes more. Raises ``Problem``: 503 when they are not free now, 413 when they never will be."""
        if self.size + size > self._of_address:
            raise too_large("the request", self._of_address)
        self._find_place(size)
        self._memory._add(self._tier, self._address, size)
        self.size += size
        if self._end is not None:
            self._memory._received.add(self)

    def keep(self) -> None:
        """From now on the request is not ended for the sake of others."""
        self._end = None
        self._memory._received.discard(self)

    def release(self) -> None:
        """Hold nothing any more; further calls change nothing."""
        self._memory._add(self._tier, self._address, -self.size)
        self._memory._received.discard(self)
        self.size = 0

    def _find_place(self, size: int) -> None:
        while (problem := self._shortage(size)) is not None:
            rivals = [one for one in self._memory._received if one._tier == self._tier]
            if self._own_share_is_full(size):
                rivals = [one for one in rivals if one._address == self._address]
            largest = max(rivals, key=lambda one: one.size, default=self)
            if largest._end is None or largest.size <= self.size + size:
                try:
                    raise problem
                finally:
                    del problem  # its traceback refers to this frame: the two would keep the whole request in memory
            largest._end(problem)
            largest.release()  # so that the loop ends whatever ``end`` does

    def _shortage(self, size: int) -> Problem | None:
        if self._own_share_is_full(size):
            return _busy(f"requests from your address to the tier {self._tier} hold", self._of_address)
        if size > self._memory._left(self._tier, self._reserved):
            return _busy(f"requests to the tier {self._tier} hold", self._of_tier)
        return None

    def _own_share_is_full(self, size: int) -> bool:
        return self._memory._of_address[self._tier, self._address] + size > self._of_address


def shares(most: int, largest: Mapping[str, int]) -> dict[str, int]:
    """How many of ``most`` bytes are kept free for each tier, so that the largest request of any other still fits."""
    free = most - min(max(largest.values()), most // 2)
    return {tier: min(size, free // max(1, len(largest) - 1)) for tier, size in largest.items()}


def network(address: str) -> str:
    """Whom an address stands for: IPv6 gives each client 2**64 of them."""
    if ":" not in address:
        return address
    found = ipaddress.IPv6Address(address.partition("%")[0])
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


def too_large(what: str, limit: int) -> Problem:
    """The problem of something that has more bytes than it may."""
    detail = f"{what} has more than {limit} bytes, which is the most that is allowed"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_many_bytes", detail, limit_bytes=limit)


def _busy(who: str, limit: int) -> Problem:
    detail = f"{who} the {limit} bytes of memory that they may; nothing was kept"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=1, limit_bytes=limit)
