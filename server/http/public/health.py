"""Whether the process is alive, and whether it may be sent requests."""

from __future__ import annotations

from server.http.base import BaseHandler
from server.http.callers import Anyone
from server.http.public.readiness import readiness


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
        """As ``readiness`` says; ``?for=reading`` asks whether results can be read."""
        reading = self.get_query_argument("for", "") == "reading"
        status, known = await readiness(self.services, reading=reading)
        self.answer(known, status)
