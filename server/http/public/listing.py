"""``GET /v1/predictions``: what the owner of a key has, the newest first, a page at a time."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from datetime import datetime
from http import HTTPStatus
from typing import Any

from server.http.public.base import PublicHandler
from server.http.public.representation import summary
from server.problems import Problem
from server.queue import ANONYMOUS, Prediction, Status, asked, is_id

MOST, USUAL = 100, 20
LATEST = 253402300800.0  # the year 10000, which no clock of ours reaches
# What RFC 3339 allows of what Python reads.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_SECONDS = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
_MOMENT = struct.Struct(">d")


class PredictionsHandler(PublicHandler):
    """The caller's own predictions."""

    parameters = ("tier", "status", "since", "limit", "cursor")

    async def get(self) -> None:
        """One page, and where the next one begins. Raises ``Problem``."""
        if self.caller.owner == ANONYMOUS:
            detail = (
                "only owners of keys have a list: predictions without a key belong to whoever has their ids. "
                "Send a key, as Authorization: Bearer tsk_... or as X-API-Key"
            )
            raise Problem(HTTPStatus.UNAUTHORIZED, "key_missing", detail)
        limit = self._limit()
        found = await asked(
            self.services.queue.listing(
                self.caller.owner,
                limit + 1,  # one more tells whether there is a next page
                tiers=[self.tier_called(name).name for name in self.get_query_arguments("tier")] or None,
                statuses=self._statuses(),
                since=self._since(),
                after=self._after(),
            )
        )
        page = found[:limit]
        following = cursor(page[-1]) if len(found) > limit else None
        self.answer({"predictions": [summary(one) for one in page], "next_cursor": following})

    def _limit(self) -> int:
        given = self.get_query_argument("limit", str(USUAL), strip=False)
        if not re.fullmatch(r"[0-9]{1,3}", given) or not 1 <= int(given) <= MOST:
            raise _bad("bad_limit", "limit", given, f"a whole number from 1 to {MOST}", limit_predictions=MOST)
        return int(given)

    def _statuses(self) -> list[Status]:
        given = self.get_query_arguments("status")
        for one in given:
            if one not in list(Status):
                raise _bad("bad_status", "status", one, "one of " + ", ".join(Status), statuses=list(Status))
        return [Status(one) for one in given or Status]

    def _since(self) -> float:
        given = self.get_query_argument("since", "0", strip=False)
        if _SECONDS.fullmatch(given):
            return float(given)
        try:
            if _TIME.fullmatch(given):
                return datetime.fromisoformat(given.upper()).timestamp()
        except (ValueError, OverflowError):  # as for the 30th of February
            pass
        raise _bad(
            "bad_since", "since", given, "a time as 2030-01-31T12:00:00Z (a + is sent as %2B) or seconds since 1970"
        )

    def _after(self) -> tuple[float, str] | None:
        given = self.get_query_argument("cursor", "", strip=False)
        if not given:
            return None
        try:
            raw = base64.b64decode(given, altchars=b"-_", validate=True)
            ((at,), shown) = _MOMENT.unpack_from(raw), raw[_MOMENT.size :].decode("ascii")
        except (ValueError, binascii.Error, struct.error):
            at, shown = -1.0, ""
        if not (is_id(shown) and 0 <= at < LATEST):
            raise _bad("bad_cursor", "cursor", given, "the next_cursor of an answer, unchanged")
        return at, shown


def cursor(last: Prediction) -> str:
    """Where a page ends that ends with this prediction, so that the next one can begin there."""
    # Its length is a multiple of three bytes, so that it has no padding.
    return base64.urlsafe_b64encode(_MOMENT.pack(last.accepted_at) + last.id.encode()).decode()


def _bad(code: str, name: str, given: str, wanted: str, **numbers: Any) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, code, f"{name} is {given[:80]!r}; it must be {wanted}", **numbers)
