"""Whom a request is meant for, and which site made a browser send it.

A page of another site can have its own name point at this machine (DNS rebinding): its requests show in ``Host``. It
can also send a form here: that shows in ``Origin`` and ``Sec-Fetch-Site``. Browsers set all three themselves.

Pages of the sites in ``server.cors.origins`` may ask: CORS, in the Fetch standard of WHATWG.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders, HTTPServerRequest

from server.http.services import Services
from server.problems import Problem
from server.settings.records import Settings

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
CHANGES_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})
PORTS = {"http": 80, "https": 443}
ANY, ALLOWED = "*", "Access-Control-Allow-Origin"
EXPOSED = "Location, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, Server-Timing, X-Request-Id"
_NO_FIELDS: Mapping[str, str] = MappingProxyType({})


def check(request: HTTPServerRequest, services: Services, *, listed: bool) -> None:
    """Raises ``Problem``: 421 when it is meant for another host, 403 when a site that is not ``listed`` changes things.

    ``listed`` says whether a page of a site in the settings sent it, to a route that is for pages.
    """
    settings = services.settings
    names = _served(settings.host, settings.hosts, services.internal_url)
    name = request.host_name.removesuffix(".")
    # Without the header, which HTTP/1.0 allows, no browser sent it.
    if names is not None and "Host" in request.headers and not (_among(name, names) or _is_own_address(name, request)):
        detail = f"this server is not {name[:80]!r}; server.hosts lists the names that it serves"
        raise Problem(HTTPStatus.MISDIRECTED_REQUEST, "wrong_host", detail)
    if request.method not in CHANGES_NOTHING and not listed:
        check_site(request)


def check_site(request: HTTPServerRequest) -> None:
    """Raises ``Problem``: 403 when a page of another site made a browser send the request."""
    if not _is_same_site(request):
        detail = "a page of another site must not change anything here"
        raise Problem(HTTPStatus.FORBIDDEN, "wrong_origin", detail)


def fields(headers: HTTPHeaders, settings: Settings) -> Mapping[str, str]:
    """What tells a browser that the page which made it send a request with these headers may read the answer."""
    if not settings.cors_origins:
        return _NO_FIELDS
    origin, anybody = headers.get("Origin"), ANY in settings.cors_origins
    told = {} if anybody else {"Vary": "Origin"}  # one cache may keep answers for pages of several sites
    if origin is not None and (anybody or origin in settings.cors_origins):
        told[ALLOWED] = ANY if anybody else origin
        told["Access-Control-Expose-Headers"] = EXPOSED
    return told


@lru_cache(maxsize=16)
def _served(host: str, hosts: tuple[str, ...], internal_url: str) -> frozenset[str] | None:
    """The names that requests may be meant for, in lower case; None for all names."""
    own = {host, urlsplit(internal_url).hostname or host}
    if hosts:
        return frozenset(name.lower() for name in own.union(hosts))
    return LOOPBACK | own if is_loopback(host) else None


def _among(name: str, names: frozenset[str]) -> bool:
    return name in names or f"*.{name.partition('.')[2]}" in names


@lru_cache(maxsize=16)
def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener at that address."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else bool(address.is_loopback)


def _is_own_address(name: str, request: HTTPServerRequest) -> bool:
    """Whether the client connected to this very address, as the kubelet and load balancers do."""
    socket = request.connection.stream.socket  # type: ignore[union-attr]
    return socket is not None and _address(name) == _address(socket.getsockname()[0]) is not None


def _address(name: str) -> Any:
    try:
        return ip_address(name.strip("[]"))
    except ValueError:
        return None


def _is_same_site(request: HTTPServerRequest) -> bool:
    if request.headers.get("Sec-Fetch-Site", "").lower() == "cross-site":
        return False
    origin = request.headers.get("Origin")
    if origin is None:  # not a browser
        return True
    try:
        site = urlsplit(origin.lower())
        port = PORTS[site.scheme]
        own = urlsplit(f"//{request.host.lower()}")
        return (site.hostname, site.port or port) == (own.hostname, own.port or port)
    except (KeyError, ValueError):
        return False
