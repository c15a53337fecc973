"""Ends the bodies that come too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from server.http.bodies import Body
from server.problems import Problem

# A client gets so long for a body of any size, and after that its average must be fast enough.
GRACE_SECONDS, SLOWEST_BYTES = 10.0, 16 * 1024
LOOK_SECONDS = 1.0


class Coming(Protocol):
    """A request of whose body more is expected."""

    body: Body

    def give_up(self, problem: Problem) -> None:
        """Answer with the problem, and close the connection."""


class SlowBodies:
    """All requests whose bodies are coming, on the event loop. One timer looks at them; it stops while there are none.

    A body that was refused must end within the time that others have before their speed counts.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.coming: dict[Coming, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, request: Coming) -> None:
        """From now on bytes of its body are expected."""
        self.coming[request] = self._clock()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._tick)

    def end(self, request: Coming) -> None:
        """Its body has ended, in whatever way; further calls change nothing."""
        self.coming.pop(request, None)

    def look(self) -> None:
        """Give up what is too slow."""
        now = self._clock()
        for request, begun in list(self.coming.items()):
            seconds, body = now - begun, request.body
            if seconds > GRACE_SECONDS and (body.refused or body.received < seconds * SLOWEST_BYTES):
                self.end(request)
                request.give_up(_too_slow(body.received, seconds))

    def stop(self) -> None:
        """Give up all of them, because the server waits for them no longer."""
        detail = "the server stops before all of the body has come: send the request again"
        problem = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=1)
        for request in list(self.coming):
            self.end(request)
            request.give_up(problem)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.look()
        finally:
            if self.coming:
                self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._tick)


def _too_slow(received: int, seconds: float) -> Problem:
    detail = (
        f"{received} bytes of the body came in {seconds:.0f} s; "
        f"after {GRACE_SECONDS:g} s the average must be {SLOWEST_BYTES} bytes a second or more"
    )
    return Problem(
        HTTPStatus.REQUEST_TIMEOUT, "too_slow", detail, limit_bytes_per_second=SLOWEST_BYTES, received_bytes=received
    )
