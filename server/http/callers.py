"""Who may ask, and what a caller shows for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol, TypeVar

from server.access.workers import AccessDenied, AccessUnknown, Worker
from server.http.services import Services
from server.problems import Problem

ANONYMOUS = "anonymous"

Identity = TypeVar("Identity", covariant=True)


class Callers(Protocol[Identity]):
    """Those who may ask something."""

    async def recognize(self, headers: Mapping[str, str], services: Services) -> Identity:
        """Return who asks. Raises ``Problem`` when it is somebody else."""


class Anyone:
    """Whoever reaches the port; all that they send belongs to one owner."""

    async def recognize(self, headers: Mapping[str, str], services: Services) -> str:
        """The owner of what is asked for."""
        return ANONYMOUS


class Workers:
    """Jobs, by the bearer token that each was given."""

    async def recognize(self, headers: Mapping[str, str], services: Services) -> Worker:
        """The Job and its tier. Raises ``Problem`` with 401 or 503."""
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        token = given if scheme == "Bearer" else ""
        if worker := services.credentials.recall(token):  # on the loop, as it never blocks
            return worker
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(services.cluster, services.credentials.check, token)
        except AccessDenied as error:
            raise Problem(HTTPStatus.UNAUTHORIZED, "bad_worker_token", str(error)) from error
        except AccessUnknown as error:
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise Problem(unavailable, "worker_token_unchecked", str(error), retry_after=1) from error
