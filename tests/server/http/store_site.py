"""What an operator does with models at the internal port of a site, and what lies in its store then."""

from __future__ import annotations

import http.client
import os
from typing import Any

from tests.server.http.http_site import (
    ADMIN_TOKEN,
    ANSWER_SECONDS,
    Site,
)
from tests.server.pushed_models import Pusher, sha256

MIB = 1024 * 1024


def pusher(site: Site, token: str = ADMIN_TOKEN) -> Pusher:
    return Pusher(site.internal, token)


def stored(site: Site) -> list[str]:
    """The digests of all files that lie in the store; there is nothing else in it."""
    return sorted(path.name for path in site.files._root.iterdir())


def references(site: Site) -> list[str]:
    return [model["reference"] for model in pusher(site).ask("GET", "models").json["models"]]


def connected(site: Site, method: str, path: str, headers: dict[str, Any]) -> http.client.HTTPConnection:
    """A connection on which the head of a request was sent, and nothing of its body."""
    connection = http.client.HTTPConnection("127.0.0.1", site.internal.port, timeout=ANSWER_SECONDS)
    connection.putrequest(method, f"/v1/{path}")
    for name, value in (pusher(site).headers | headers).items():
        connection.putheader(name, str(value))
    connection.endheaders()
    return connection


def make_old(site: Site, data: bytes) -> None:
    path = site.files._root / sha256(data)
    then = path.stat().st_mtime - 3600
    os.utime(path, (then, then))
