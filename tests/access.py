"""An operator of a server: makes and revokes keys by the operators' routes of its internal port."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.running import Answer, Client

KEYS = "/v1/keys"


@dataclass(frozen=True, slots=True)
class Issued:
    """A key: its id, and the whole of it, which is shown once."""

    id: str
    key: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What a request with this key sends."""
        return {"Authorization": f"Bearer {self.key}"}


class Operator:
    """Somebody who has the admin token of a server."""

    def __init__(self, internal_port: int, token_file: Path) -> None:
        self._client, self._token_file = Client(internal_port), token_file

    def create(self, owner: str, *tiers: str, **more: Any) -> Issued:
        """Make a key; ``more`` are further properties of the request's body. Raises ``AssertionError``."""
        answer = self.ask("POST", KEYS, {"owner": owner, "tiers": list(tiers) or ["free"], **more})
        assert answer.status == 201, answer
        return issued(answer)

    def rotate(self, key_id: str, **more: Any) -> Issued:
        """Make a new key in the place of an old one. Raises ``AssertionError``."""
        answer = self.ask("POST", f"{KEYS}/{key_id}/rotate", more)
        assert answer.status == 201, answer
        return issued(answer)

    def revoke(self, key_id: str) -> Answer:
        """Revoke a key."""
        return self.ask("DELETE", f"{KEYS}/{key_id}")

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """Make any request with the admin token."""
        headers = {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        data = None if body is None else json.dumps(body).encode()
        return self._client.ask(method, path, data, headers | ({"Content-Type": "application/json"} if body else {}))


def issued(answer: Answer) -> Issued:
    """The key in an answer."""
    key = answer.json["key"]
    return Issued(key.split("_")[1], key)
