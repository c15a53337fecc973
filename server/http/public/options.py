"""``OPTIONS``: what may be asked of a route, and for a browser also whether a page of another site may ask it."""

from __future__ import annotations

from http import HTTPStatus

from server.http import origins
from server.http.base import BaseHandler
from server.http.callers import Anyone

TAKEN = (
    "Authorization, Cancel-After, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, X-API-Key, X-Request-Id, "
    "traceparent"
)
REMEMBERED_SECONDS = 600  # so that a browser notices changed settings; Chromium allows 7200


class OptionsHandler(BaseHandler):
    """Every route of the public port, for whoever asks: a browser sends no key here."""

    callers = Anyone()

    def options(self, *_: str) -> None:
        """204, with the methods of the route, and the answer to a preflight (CORS, in the Fetch standard of WHATWG)."""
        methods = ", ".join(self.allow)
        self.set_status(HTTPStatus.NO_CONTENT)
        self.set_header("Allow", methods)
        if origins.ALLOWED in self.for_pages:
            self.set_header("Access-Control-Allow-Methods", methods)
            self.set_header("Access-Control-Allow-Headers", TAKEN)
            self.set_header("Access-Control-Max-Age", REMEMBERED_SECONDS)
        self.finish()
