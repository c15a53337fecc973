"""On which addresses a port listens, and the URL by which this machine reaches it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from tornado.netutil import bind_sockets

EVERY = "::"  # every address of the machine; Tornado would take it for those of IPv6 alone
BACKLOG = 1024  # connections that wait to be accepted; the kernel drops those past it, and they try again after 1 s


class CannotListen(Exception):
    """The address cannot be bound: the text says why and what to do."""


def bind(port: int, host: str, key: str) -> list[socket.socket]:
    """Listen at the addresses that ``host`` is, a name or an address; port 0 is any free one.

    ``key`` is the setting with the port, for the message of ``CannotListen``.
    """
    try:
        return bind_sockets(port, None if host == EVERY else host, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = port + 10
            detail = f"port {port} of {host} is in use. Choose another: make run PORT={other}, or --set {key}={other}"
            raise CannotListen(detail) from error
        raise CannotListen(f"cannot listen on {host}, port {port}: {error.strerror}") from error


def url(sockets: Sequence[socket.socket], host: str) -> str:
    """The URL of what ``bind`` returned for ``host``. That of all addresses names the loopback address."""
    port = int(sockets[0].getsockname()[1])
    try:
        address = ip_address(host)
    except ValueError:  # a name
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ip_address("127.0.0.1" if sockets[0].family == socket.AF_INET else "::1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"
