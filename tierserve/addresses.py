"""What the URL of a server is, and what is wrong where no server answers."""

from __future__ import annotations

import os
import re
import ssl
from ipaddress import ip_address

import aiohttp
from yarl import URL

from tierserve.errors import HINT, Misconfigured, Unreachable

WRONG_PORT = "Another service may have this port: look at the URL of the server"
_SAY_HTTPS = "If it speaks TLS, its URL begins with https"


def server_url(given: str) -> str:
    """The URL of a server, without a slash at its end. For one on this machine, ``http://`` can be left out.

    Raises ``Misconfigured``.
    """
    url = given.strip().rstrip("/")
    bare = re.sub(".*@", "", url)  # without the password of a proxy that asks for one
    if "://" not in given and not url.endswith(":") and (host := _host(f"http://{url}")):
        if not is_loopback(host):
            raise Misconfigured(
                f"the URL {bare!r} does not say how the server is asked: https://{bare}, or http://{bare} if nobody "
                "else can read what goes over the network"
            )
        url = f"http://{url}"
    if not _host(url):
        raise Misconfigured(f"the URL of a server is like http://127.0.0.1:8080, and not {url!r}")
    return url


def shown(url: str) -> str:
    """What is printed of a URL."""
    return re.sub(r"//.*@", "//", url)


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def unreachable(url: str, error: Exception, sent: int = 0) -> Unreachable:
    """The error for a server at ``url`` that could not be asked with ``sent`` bytes, or did not answer in HTTP."""
    where = shown(url)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        return Unreachable(
            f"the certificate of {where} is not accepted: {why}. If the server is right, name the file of its "
            "authority's certificate in the environment as SSL_CERT_FILE"
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unreachable(f"there is no host {error.host!r} for {where}. Look at the URL of the server")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        reason = error.os_error.reason if isinstance(error.os_error, ssl.SSLError) else error
        return Unreachable(f"{where} does not speak TLS ({reason}). Its URL may begin with http, if nobody can listen")
    if isinstance(error, aiohttp.ClientResponseError):
        return Unreachable(f"what answers at {where} does not speak HTTP ({error.message[:100]!r}). {_SAY_HTTPS}")
    if isinstance(error, aiohttp.ClientConnectorError):
        why = os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error)
        return Unreachable(f"no server answers at {where} ({why}). {HINT}")
    if isinstance(error, aiohttp.ServerDisconnectedError) and url.startswith("http:"):
        return Unreachable(f"the connection to {where} was closed without an answer. {_SAY_HTTPS}. {HINT}")
    if isinstance(error, aiohttp.ClientError):
        # That a body could not be sent has the reason as its cause.
        why = str(error.__cause__ or error) or type(error).__name__
        said = f"the connection to {where} broke ({why})"
        if sent:
            return Unreachable(f"{said} while {sent} bytes were sent: they may be too many for a proxy")
        return Unreachable(f"{said}. {_SAY_HTTPS}" if url.startswith("http:") else said)
    return Unreachable(f"{where} did not answer in time ({str(error) or type(error).__name__}). {HINT}")


def _host(url: str) -> str | None:
    """The host of a URL that can be a server's."""
    try:
        parsed = URL(url)
        right = parsed.scheme in ("http", "https") and not parsed.query_string and not parsed.fragment
        return parsed.host if right else None
    except ValueError:
        return None
