"""What the operators' routes have in common. On the internal port only, with the admin token."""

from __future__ import annotations

from typing import Any

from server.http.base import BaseHandler
from server.http.callers import Operators

MOST_BYTES = 16 * 1024


class OperatorHandler(BaseHandler):
    """``caller`` is the address that the operator asks from, ``received`` the body."""

    callers = Operators()
    parameters = ()
    caller: str

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Called by Tornado for each request."""
        super().initialize(*args, **kwargs)
        self.received = bytearray()

    def most_bytes(self) -> int:
        """More than any terms of a key need."""
        return MOST_BYTES

    async def admit(self) -> None:
        """Raises ``Problem`` with 415 for a compressed body."""
        if self.body.comes:
            self.body.refuse_compressed()

    def take(self, chunk: bytes) -> None:
        """Keep a part of the body."""
        self.received += chunk
