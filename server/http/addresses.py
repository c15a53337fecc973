"""Where a request comes from: the address of its connection, or what trusted proxies say of it.

``X-Forwarded-For`` is no standard. Each proxy appends the address that it was connected from, so only what trusted ones
appended can be believed: the list is read from its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from tornado.httputil import HTTPServerRequest

from server.settings.records import Settings

# Some load balancers append the port, too.
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?|([0-9.]{7,15}):[0-9]{1,5}")


def of(request: HTTPServerRequest, settings: Settings) -> str:
    """The address of whoever sent the request."""
    connection = request.remote_ip or ""
    if not settings.trusted_proxies:
        return connection
    return forwarded(connection, request.headers.get_list("X-Forwarded-For"), settings.trusted_proxies)


def forwarded(connection: str, headers: Sequence[str], trusted: tuple[str, ...]) -> str:
    """The last address in ``X-Forwarded-For`` that is in no trusted network, if the connection comes from one.

    It is the connection's where the headers have no such address, or where no address stands in its place.
    """
    if not _is_trusted(connection, trusted):
        return connection
    for text in _from_the_end(headers):
        address = _address(text)
        if address is None:
            break
        if not _is_trusted(address, trusted):
            return address
    return connection


def _from_the_end(headers: Sequence[str]) -> Iterable[str]:
    for header in reversed(headers):
        for text in reversed(header.split(",")):
            yield text.strip()


@lru_cache(maxsize=1024)
def _address(text: str) -> str | None:
    """The address in its usual form; None for any other text."""
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    address = _parsed(text)
    return None if address is None else str(address)


@lru_cache(maxsize=1024)
def _is_trusted(address: str, trusted: tuple[str, ...]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in ip_network(network, strict=False) for network in trusted)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """The address, without the zone that one of IPv6 may have; None for any other text."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
