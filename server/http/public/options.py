"""``OPTIONS``: what may be asked of a route."""

from __future__ import annotations

from http import HTTPStatus

from server.http.base import BaseHandler
from server.http.callers import Anyone


class OptionsHandler(BaseHandler):
    """Every route of the public port, for whoever asks: no key is needed."""

    callers = Anyone()

    def options(self, *_: str) -> None:
        """204, with the methods of the route."""
        self.set_status(HTTPStatus.NO_CONTENT)
        self.set_header("Allow", ", ".join(self.allow))
        self.finish()
