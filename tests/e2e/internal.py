"""The port for workers, asked as a worker asks it, by whatever token."""

from __future__ import annotations

import http.client
import json
import struct
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from tests.e2e.deployment import RELEASE, Deployment
from tests.e2e.pictures import CAT
from tests.running import Answer


class Internal:
    """The port for workers, asked with any token: the Service's, or that of one pod."""

    def __init__(self, deployment: Deployment, pod: str = "") -> None:
        self._deployment = deployment
        service = json.loads(deployment.kubectl("get", "service", f"{RELEASE}-internal", "-o", "json"))["spec"]
        self.address: tuple[str, int] = pod or service["clusterIP"], service["ports"][0]["port"]

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

    def leased(self, tier: str, token: str) -> dict[str, Any]:
        """A prediction, leased in the place of the tier's worker: whoever asked first gets the next one."""
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(self.lease, token, 30)
            while not wait([asking], 0.5).done:
                self._deployment.submit(tier, CAT)
            answer = asking.result()
        assert answer.status == 200
        (size,) = struct.unpack_from(">I", answer.body)
        (held,) = json.loads(answer.body[4 : 4 + size])["predictions"]
        return dict(held)

    def complete(self, held: dict[str, Any], token: str) -> Answer:
        """Hand in a result for it."""
        result = {"labels": [{"label": "forged", "score": 1.0}]}
        one = {"id": held["id"], "token": held["token"], "results": [result], "predict_ms": 1}
        return self.ask("/work/complete", {"completions": [one]}, token)
