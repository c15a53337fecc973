"""Who asks for predictions: the owner of a key, or whoever is at an address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from server.queue import ANONYMOUS, Key
from server.settings.records import CallerLimits, Tier

NETWORK_BITS = 64  # of an IPv6 address: whoever has one usually has the network
NO_LIMITS = CallerLimits()


@dataclass(frozen=True, slots=True)
class Caller:
    """``name`` is whose limits and whose share of a tier count: ``owner:NAME``, or ``address:NETWORK`` without a key.

    ``owner`` is who may read what the caller sends; everything that comes without a key belongs to one owner.
    """

    name: str
    owner: str = ANONYMOUS
    key: str = ""
    """The id of its key."""
    tiers: frozenset[str] | None = None
    """Those that its key opens; None without a key."""
    own_limits: Mapping[str, float] = field(default_factory=dict, hash=False)
    """What replaces the limits of its tiers, by their names in ``CallerLimits``."""
    weight: float = 1.0
    """Of its share of a tier."""
    trusted: bool = False
    """Whether everything is open to it, without limits, although it has no key."""
    _known: dict[str, tuple[CallerLimits, CallerLimits]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By tier, its limits and what they are for this caller, which is asked for several times a request."""

    @classmethod
    def with_key(cls, key: Key) -> Caller:
        """The owner of a key that was checked."""
        return cls(f"owner:{key.owner}", key.owner, key.id, frozenset(key.tiers), key.limits, key.weight)

    @classmethod
    def at(cls, address: str, *, trusted: bool = False) -> Caller:
        """Whoever is at an address, without a key."""
        return cls(f"address:{network_of(address)}", trusted=trusted)

    def may_use(self, tier: Tier) -> bool:
        """Whether the tier is open to this caller."""
        if self.tiers is None:
            return self.trusted or tier.access.anonymous
        return tier.name in self.tiers

    def limits(self, tier: Tier) -> CallerLimits:
        """Its limits in a tier."""
        if self.trusted:
            return NO_LIMITS
        of_tier = tier.access.limits
        if not self.own_limits:
            return of_tier
        known = self._known.get(tier.name)
        if known is None or known[0] is not of_tier:
            known = self._known[tier.name] = of_tier, _replaced(of_tier, self.own_limits)
        return known[1]


@lru_cache(maxsize=1024)
def network_of(address: str) -> str:
    """The network that counts as one caller: the address itself (/32), or with IPv6 its /64; any text as it is."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ip_network((parsed, NETWORK_BITS), strict=False))
        parsed = parsed.ipv4_mapped
    return str(ip_network(parsed))


def _replaced(of_tier: CallerLimits, own: Mapping[str, float]) -> CallerLimits:
    kinds = {name: type(value) for name, value in asdict(of_tier).items()}
    return replace(of_tier, **{name: kinds[name](value) for name, value in own.items()})
