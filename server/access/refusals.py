"""What is answered to a caller that has reached one of its limits: 429, the limit's name and its numbers."""

from __future__ import annotations

import math
import secrets
from http import HTTPStatus

from server.access.limits import Left, burst_of
from server.problems import Problem
from server.settings.records import CallerLimits

PLACE_SECONDS = (1, 2, 3, 4, 5)  # nobody knows when one of its predictions has a worker; not all clients come at once
TOO_MANY = HTTPStatus.TOO_MANY_REQUESTS


def rate_limit(tier: str, limits: CallerLimits, wait: float) -> Problem:
    """The next request may come in ``wait`` seconds."""
    burst = burst_of(limits)
    detail = f"you may send {limits.per_second:g} requests a second to the tier {tier}, and {burst} at once"
    numbers = {"limit": "perSecond", "per_second": limits.per_second, "burst": burst}
    return Problem(TOO_MANY, "rate_limit", detail, retry_after=math.ceil(wait), **numbers)


def day_limit(tier: str, limits: CallerLimits, left: Left) -> Problem:
    """Of the pictures of this day too few are left."""
    detail = (
        f"you may send {limits.per_day} pictures a day to the tier {tier}, and {left.pictures} are left until 0:00 UTC"
    )
    numbers = {"limit": "perDay", "per_day": limits.per_day, "left": left.pictures}
    return Problem(TOO_MANY, "day_limit", detail, retry_after=math.ceil(left.midnight_in), **numbers)


def queued_limit(tier: str, limits: CallerLimits, queued: int) -> Problem:
    """As many predictions of the caller wait as may."""
    detail = f"{queued} of your predictions wait in the tier {tier}; {limits.queued} may"
    numbers = {"limit": "queued", "limit_queued": limits.queued, "queued": queued}
    return Problem(TOO_MANY, "queued_limit", detail, retry_after=secrets.choice(PLACE_SECONDS), **numbers)


def bytes_queued_limit(tier: str, limits: CallerLimits, taken: int, size: int) -> Problem:
    """The pictures of a prediction, of ``size`` bytes, would take more than the caller's waiting ones may."""
    most = limits.bytes_queued
    detail = f"your pictures that wait in the tier {tier} take {taken} bytes; with these {size} they may take {most}"
    numbers = {"limit": "bytesQueued", "limit_bytes_queued": most, "bytes_queued": taken}
    # Who waits until its queue is empty is not helped if this request alone is too large.
    wait = secrets.choice(PLACE_SECONDS) if size <= most else None
    return Problem(TOO_MANY, "bytes_queued_limit", detail, retry_after=wait, **numbers)
