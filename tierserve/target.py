"""Which server a command asks, and as whom."""

from __future__ import annotations

from dataclasses import dataclass, field

from tierserve.aio import AsyncClient


@dataclass(frozen=True, slots=True)
class Target:
    """The server that is asked, and the key that it gets, if any."""

    url: str
    key: str = field(default="", repr=False)

    def client(self) -> AsyncClient:
        """A client of that server. Raises ``Misconfigured`` if the URL cannot be one."""
        return AsyncClient(self.url, self.key)
