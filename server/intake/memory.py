"""Counts the bytes that requests hold in memory, so that no tier and no client can take them all."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus

from server.problems import Problem


class Memory:
    """Bytes that may be held by all requests together.

    Each tier has a share that the others leave free: its largest request, or as much as is left beside the largest
    request of another tier. Of what a tier may hold, one address gets half, but always its largest request.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_tier: Counter[str] = Counter()
        self._of_address: Counter[tuple[str, str]] = Counter()

    def hold(self, tier: str, address: str, largest: Mapping[str, int]) -> Held:
        """Begin to count for one request; ``largest`` has the bytes of the largest request of each tier."""
        reserved = shares(self._most, largest)
        del reserved[tier]
        return Held(self, tier, network(address), largest[tier], reserved)

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

    def __init__(self, memory: Memory, tier: str, address: str, largest: int, reserved: Mapping[str, int]) -> None:
        self._memory, self._tier, self._address, self._reserved = memory, tier, address, reserved
        self._of_tier = memory._most - sum(reserved.values())
        self._of_address = min(self._of_tier, max(largest, self._of_tier // 2))
        self.size = 0

    def take(self, size: int) -> None:
        """Hold so many bytes more. Raises ``Problem``: 503 when they are not free now, 413 when they never will be."""
        memory, tier, address = self._memory, self._tier, self._address
        if self.size + size > self._of_address:
            raise too_large("the request", self._of_address)
        if memory._of_address[tier, address] + size > self._of_address:
            raise _busy(f"requests from your address to the tier {tier} hold", self._of_address)
        if size > memory._left(tier, self._reserved):
            raise _busy(f"requests to the tier {tier} hold", self._of_tier)
        memory._add(tier, address, size)
        self.size += size

    def release(self) -> None:
        """Hold nothing any more; further calls change nothing."""
        self._memory._add(self._tier, self._address, -self.size)
        self.size = 0


def shares(most: int, largest: Mapping[str, int]) -> dict[str, int]:
    """How many of ``most`` bytes are kept free for each tier, so that the largest request of any other still fits."""
    free = most - min(max(largest.values()), most // 2)
    return {tier: min(size, free // max(1, len(largest) - 1)) for tier, size in largest.items()}


def network(address: str) -> str:
    """Whom an address stands for: IPv6 gives each client 2**64 of them."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket has none
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


def too_large(what: str, limit: int) -> Problem:
    """The problem of something that has more bytes than it may."""
    detail = f"{what} has more than {limit} bytes, which is the most that is allowed"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_many_bytes", detail, limit_bytes=limit)


def _busy(who: str, limit: int) -> Problem:
    detail = f"{who} the {limit} bytes of memory that they may; nothing was kept"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=1, limit_bytes=limit)
