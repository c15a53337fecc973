"""The port for workers, asked as a worker asks it, by whatever token."""

from __future__ import annotations

import http.client
import json
from typing import Any

from tests.e2e.deployment import RELEASE, Deployment
from tests.running import Answer


class Internal:
    """The port for workers, asked with any token."""

    def __init__(self, deployment: Deployment) -> None:
        service = json.loads(deployment.kubectl("get", "service", f"{RELEASE}-internal", "-o", "json"))["spec"]
        self.address: tuple[str, int] = service["clusterIP"], service["ports"][0]["port"]

    def ask(self, path: str, body: Any, token: str | None) -> Answer:
        """POST what a worker posts."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def lease(self, token: str | None, wait: float = 0) -> Answer:
        """Ask for one prediction."""
        return self.ask("/work/lease", {"most": 1, "wait": wait}, token)

    def complete(self, held: dict[str, Any], token: str) -> Answer:
        """Hand in a result for it."""
        result = {"labels": [{"label": "forged", "score": 1.0}]}
        one = {"id": held["id"], "token": held["token"], "results": [result], "predict_ms": 1}
        return self.ask("/work/complete", {"completions": [one]}, token)
