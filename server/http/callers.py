"""Who may ask, and what a caller shows for it."""

from __future__ import annotations

import asyncio
import math
import secrets
from http import HTTPStatus
from typing import Protocol, TypeVar
from urllib.parse import unquote

from tornado.httputil import HTTPHeaders, HTTPServerRequest

from server.access.callers import Caller, network_of
from server.access.keys import KeyRefused
from server.access.workers import AccessDenied, AccessUnknown, Worker
from server.http.origins import is_loopback
from server.http.services import WRONG_KEYS, Services
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
        """The owner of the key; without a key, whoever is at the address. Raises ``Problem`` with 400, 401 or 429."""
        key, settings = _key_sent(request.headers), services.settings
        trusted = is_loopback(settings.host) and not settings.require_keys
        # Where nobody needs a key, clients of other services may send the tokens that they have for those.
        if key is None or (trusted and not key.startswith(KEY_BEGINS)):
            return Caller.at(address, trusted=trusted)
        try:
            return services.keyring.recognize(key)
        except KeyRefused as refusal:
            raise _refused(refusal, network_of(address), services) from None


def refuse_key_in_url(request: HTTPServerRequest) -> None:
    """Raises ``Problem`` when a key stands in the URL, of which browsers, proxies and their logs keep copies."""
    url = request.uri or ""
    if KEY_BEGINS in url or ("%" in url and KEY_BEGINS in unquote(url)):
        detail = (
            "there is a key in the URL. URLs are kept in logs, so it must be taken for leaked: have it revoked, and "
            'send its successor as "Authorization: Bearer KEY"'
        )
        raise Problem(HTTPStatus.BAD_REQUEST, "key_in_url", detail)


def request_id_of(headers: HTTPHeaders) -> str:
    """The id that a client gives its request, or else a new one."""
    given = headers.get("X-Request-Id", "")
    # It goes back in a header and into the log, where no key may stand.
    usable = 0 < len(given) <= 64 and given.isascii() and given.isprintable() and KEY_BEGINS not in given
    return given if usable else secrets.token_hex(8)


def _key_sent(headers: HTTPHeaders) -> str | None:
    """What was sent as a key; other schemes of ``Authorization`` than Bearer are not for us. Raises ``Problem``."""
    sent = {given.strip() for given in headers.get_list("X-API-Key")}
    for given in headers.get_list("Authorization"):
        scheme, _, token = given.partition(" ")
        if scheme.lower() == "bearer":
            sent.add(token.strip())
    if len(sent) > 1:
        detail = "Authorization and X-API-Key name different keys: send one"
        raise Problem(HTTPStatus.BAD_REQUEST, "two_keys", detail)
    return sent.pop() if sent else None


def _refused(refusal: KeyRefused, network: str, services: Services) -> Problem:
    """The problem of a key that opens nothing. A right key is taken however many wrong ones came before."""
    if services.wrong_keys.take(network):
        return Problem(HTTPStatus.UNAUTHORIZED, refusal.code, refusal.detail)
    detail = f"more than {WRONG_KEYS} wrong keys a minute came from your address; of the last one: {refusal.detail}"
    wait = math.ceil(services.wrong_keys.wait(network))
    too_many = HTTPStatus.TOO_MANY_REQUESTS
    return Problem(too_many, "too_many_wrong_keys", detail, retry_after=wait, limit_wrong_keys=WRONG_KEYS)


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


class Operators:
    """Those who make and revoke keys, by the admin token."""

    async def recognize(self, request: HTTPServerRequest, address: str, services: Services) -> str:
        """The address that an operator asks from. Raises ``Problem`` with 401."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if not services.admin_token.matches(given.strip()) or scheme.lower() != "bearer":
            detail = "send the admin token of this server: Authorization: Bearer TOKEN"
            raise Problem(HTTPStatus.UNAUTHORIZED, "bad_admin_token", detail)
        return address


async def worker_of(token: str, address: str, services: Services) -> Worker:
    """Return the token's worker. Raises ``AccessDenied``, or ``AccessUnknown`` when that cannot be said now."""
    if worker := services.credentials.recall(token):  # on the loop, as it never blocks
        return worker
    if not services.token_checks.take(address):
        raise AccessUnknown("too many tokens of this address wait to be checked")
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(services.reviews, services.credentials.check, token)
