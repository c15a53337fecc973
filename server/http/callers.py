"""Who may ask, and what a caller shows for it."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol, TypeVar

from tornado.httputil import HTTPServerRequest

from server.access.callers import Caller
from server.access.workers import AccessDenied, AccessUnknown, Worker
from server.http.origins import is_loopback
from server.http.services import Services
from server.problems import Problem

KEY_BEGINS = "tsk_"
Identity = TypeVar("Identity", covariant=True)


class Callers(Protocol[Identity]):
    """Those who may ask something."""

    async def recognize(self, request: HTTPServerRequest, address: str, services: Services) -> Identity:
        """Return who asks, from this address. Raises ``Problem`` when it is somebody else."""


class Anyone:
    """Whoever reaches the port."""

    async def recognize(self, request: HTTPServerRequest, address: str, services: Services) -> None:
        """Nobody is asked who they are."""


class Clients:
    """Those who send pictures and read what became of them."""

    async def recognize(self, request: HTTPServerRequest, address: str, services: Services) -> Caller:
        """Whoever is at the address that the request comes from."""
        settings = services.settings
        return Caller.at(address, trusted=is_loopback(settings.host) and not settings.require_keys)


class Workers:
    """Jobs, by the bearer token that each was given."""

    async def recognize(self, request: HTTPServerRequest, address: str, services: Services) -> Worker:
        """The Job and its tier. Raises ``Problem`` with 401 or 503."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        token = given if scheme == "Bearer" else ""
        try:
            return await worker_of(token, address, services)
        except AccessDenied as error:
            raise Problem(HTTPStatus.UNAUTHORIZED, "bad_worker_token", str(error)) from error
        except AccessUnknown as error:
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise Problem(unavailable, "worker_token_unchecked", str(error), retry_after=1) from error


async def worker_of(token: str, address: str, services: Services) -> Worker:
    """Return the token's worker. Raises ``AccessDenied``, or ``AccessUnknown`` when that cannot be said now."""
    if worker := services.credentials.recall(token):  # on the loop, as it never blocks
        return worker
    if not services.token_checks.take(address):
        raise AccessUnknown("too many tokens of this address wait to be checked")
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(services.reviews, services.credentials.check, token)
