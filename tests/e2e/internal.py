"""Asks the port for workers as a worker does, with any token."""

from __future__ import annotations

import http.client
import json
import struct
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from tests.e2e.deployment import RELEASE, Deployment
from tests.e2e.pictures import CAT
from tests.running import MODEL, Answer


class Internal:
    """Asks the port for workers, by the Service's address or by that of one pod."""

    def __init__(self, deployment: Deployment, pod: str = "") -> None:
        self._deployment = deployment
        service = json.loads(deployment.kubectl("get", "service", f"{RELEASE}-internal", "-o", "json"))["spec"]
        self.address: tuple[str, int] = pod or service["clusterIP"], service["ports"][0]["port"]

    def ask(self, path: str, body: Any, token: str | None) -> Answer:
        """POST a body as a worker does."""
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
        """Lease a prediction in the place of the tier's worker.

        The worker waits for work too, and whoever asked first gets the next prediction. So this asks first and then
        submits pictures until it gets one.
        """
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
        """Hand in a result for a leased prediction."""
        result = {"labels": [{"label": "forged", "score": 1.0}]}
        named = {"id": held["id"], "token": held["token"], "model": MODEL}
        return self.ask("/work/complete", {"completions": [{**named, "results": [result], "predict_ms": 1}]}, token)
