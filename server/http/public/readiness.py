"""Whether the server may be sent requests, and what the leader last saw of each tier."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from server.http.services import Services
from server.queue import NEVER_SEEN, QueueError

STALE_TICKS = 10  # the leader reports on each tier at least every three


async def tier_readiness(services: Services, tier: str) -> tuple[HTTPStatus, str]:
    """200 when the server can accept predictions and the tier is healthy, else 503; and why, or what it waits for."""
    status, known = await readiness(services)
    if status is not HTTPStatus.OK:
        return status, known["status"]
    seen = known["tiers"][tier]
    return (HTTPStatus.OK if seen["healthy"] else HTTPStatus.SERVICE_UNAVAILABLE), seen["reason"]


async def readiness(services: Services, *, reading: bool = False) -> tuple[HTTPStatus, dict[str, Any]]:
    """200 and what is known; 503 while it stops, cannot read the queue or takes no new work.

    A sick tier does not make the others unready: each is ``healthy`` or not. With ``reading`` it is 200 also while no
    new work is taken, as results can still be read.
    """
    if services.wakeups.draining:
        return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "stopping"}
    try:
        views = await services.views.get()
    except QueueError as error:
        return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "queue unavailable", "detail": str(error)}
    oldest = STALE_TICKS * services.settings.tick
    tiers: dict[str, Any] = {}
    for name in services.settings.tiers:
        view = views.get(name, NEVER_SEEN)
        stale = view.seen_at is None or services.clock() - view.seen_at > oldest
        tiers[name] = {"healthy": view.healthy and not stale, "reason": view.reason}
        if stale:
            tiers[name]["reason"] = f"no server has looked at this tier for {oldest:g} s"
    known = {"settings": services.in_force, "keys": services.keys_in_force, "tiers": tiers}
    if (obstacle := services.storage_check.obstacle) is None:
        return HTTPStatus.OK, {"status": "ready", **known}
    status = HTTPStatus.OK if reading else HTTPStatus.SERVICE_UNAVAILABLE
    reason = {"code": obstacle.code, "detail": obstacle.detail, **obstacle.numbers}
    return status, {"status": "no new work", **reason, **known}
