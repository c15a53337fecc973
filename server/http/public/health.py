"""Whether the process is alive, and whether it may be sent requests."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from server.http.base import BaseHandler
from server.http.callers import Anyone
from server.queue import NEVER_SEEN, QueueError

STALE_TICKS = 10  # the leader reports on each tier at least every three


class HealthHandler(BaseHandler):
    """``GET /healthz``: the event loop runs."""

    callers = Anyone()

    def get(self) -> None:
        """Always 200 while it can answer at all."""
        self.answer({"status": "ok"})


class ReadyHandler(BaseHandler):
    """``GET /readyz``: whether the server can accept predictions, and what the leader last saw of each tier."""

    callers = Anyone()

    async def get(self) -> None:
        """503 while it stops, cannot read the queue or takes no new work; a sick tier does not make others unready.

        With ``?for=reading`` it is 200 also while no new work is taken, as results can still be read.
        """
        services = self.services
        if services.wakeups.draining:
            return self.answer({"status": "stopping"}, HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            views = await services.views.get()
        except QueueError as error:
            return self.answer({"status": "queue unavailable", "detail": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)
        oldest = STALE_TICKS * services.settings.tick
        tiers: dict[str, Any] = {}
        for name in services.settings.tiers:
            view = views.get(name, NEVER_SEEN)
            stale = view.seen_at is None or services.clock() - view.seen_at > oldest
            tiers[name] = {"healthy": view.healthy and not stale, "reason": view.reason}
            if stale:
                tiers[name]["reason"] = f"no server has looked at this tier for {oldest:g} s"
        known = {"settings": services.in_force, "keys": services.keys_in_force, "tiers": tiers}
        if (obstacle := services.capacity.obstacle) is None:
            return self.answer({"status": "ready", **known})
        status = HTTPStatus.OK if self.get_query_argument("for", "") == "reading" else HTTPStatus.SERVICE_UNAVAILABLE
        reason = {"code": obstacle.code, "detail": obstacle.detail, **obstacle.numbers}
        return self.answer({"status": "no new work", **reason, **known}, status)
