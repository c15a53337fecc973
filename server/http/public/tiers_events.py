"""``GET /v1/tiers/events``: follow all tiers."""

from __future__ import annotations

from server.http.public.event_stream import EventStream

TIERS = "tiers"  # the name of its events


class TiersEventsHandler(EventStream):
    """Tells what the tiers look like, and tells it anew whenever that has changed."""

    parameters = ()

    _told = ""

    async def get(self) -> None:
        """One event at the start, unless the reader has seen it, and one after each change."""
        self._told = self.last_event_id
        await self.services.showing.follow(self)
        if self.begin():
            self.nudge()
        else:
            self.left()

    def unseen(self) -> bytes:
        """As the base says."""
        showing = self.services.showing
        if showing.digest == self._told:
            return b""
        self._told = showing.digest
        return showing.event

    def left(self) -> None:
        """As the base says."""
        self.services.showing.leave(self)
