"""The base of the handlers that clients reach: it knows who asks, and which tiers are open to them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from http import HTTPStatus
from typing import Any, ClassVar, NoReturn

from server.access.callers import Caller
from server.http import addresses
from server.http.base import BaseHandler
from server.http.callers import Anyone, Callers, Clients
from server.http.services import Services
from server.metrics import OTHER
from server.problems import Problem
from server.settings.records import Tier

SIMILAR_CHARACTERS = 80


class PublicHandler(BaseHandler):
    """Clients may ask."""

    callers: ClassVar[Callers[Any]] = Clients()
    caller: Caller
    about: Tier | None = None
    """The tier that the answer is about, if it is one."""

    @cached_property
    def address(self) -> str:
        """Where the request comes from; a proxy that is trusted may say it."""
        return addresses.of(self.request, self.services.settings)

    def tier_to_use(self, name: str) -> Tier:
        """The tier with this name. Raises ``Problem`` when there is none, or when it is not open to the caller."""
        tier = self.tier_called(name)
        if self.caller.may_use(tier):
            return tier
        if self.caller.tiers is None:
            detail = f'the tier {name} takes requests with a key only: send "Authorization: Bearer KEY"'
            raise Problem(HTTPStatus.UNAUTHORIZED, "key_missing", detail)
        tiers = sorted(self.caller.tiers)
        detail = f"the key is not for the tier {name}, but for {', '.join(tiers)}"
        raise Problem(HTTPStatus.FORBIDDEN, "tier_not_allowed", detail, tiers=tiers)

    def tier_called(self, name: str) -> Tier:
        """The tier with this name, be it open to the caller or not. Raises ``Problem`` when there is none."""
        tiers = self.services.settings.tiers
        if name not in tiers:
            detail = f"there is no tier {name[:80]!r}; the tiers are {', '.join(tiers)}"
            raise Problem(HTTPStatus.NOT_FOUND, "no_such_tier", detail, tiers=list(tiers))
        self.about = tiers[name]
        return tiers[name]

    def tell_limits(self) -> None:
        """On every answer about one tier, refusals too."""
        if self.about is not None:
            for name, value in self.services.allowances.fields(self.caller, self.about).items():
                self.set_header(name, value)


class NotFoundHandler(BaseHandler):
    """Every path that is no route."""

    callers = Anyone()

    def initialize(
        self, services: Services, allow: Sequence[str], shared: bool, route: str = OTHER, routes: Sequence[str] = ()
    ) -> None:
        """Called by Tornado for each request; ``routes`` are those of the port."""
        super().initialize(services, allow, shared, route)
        self._routes = routes

    def _tell(self) -> NoReturn:
        path = self.request.path
        detail = f"there is nothing at {path[:80]}"
        if similar := _similar(path, self._routes):
            detail += f"; did you mean {similar}?"
        raise Problem(HTTPStatus.NOT_FOUND, "no_such_route", detail)

    delete = get = head = options = patch = post = put = _tell


def _similar(path: str, routes: Sequence[str]) -> str | None:
    """The path with the first part of a route in the place of one that is almost the same, and without empty parts."""
    first, *rest = [part for part in path.split("/") if part] or [""]
    if len(path) > SIMILAR_CHARACTERS:  # to compare long ones takes long
        return None
    known = {route.split("/")[1] for route in routes}
    found = get_close_matches(first.lower(), known, 1)
    meant = "/".join(["", *found, *rest])
    return meant if found and meant != path else None
