"""Asks the port for workers as a worker does, with any token."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.channel import Channel, Lease, Refused
from tests.e2e.deployment import RELEASE, Deployment
from tests.e2e.pictures import CAT
from tests.running import Answer

LEASE_SECONDS = 60.0
FORGED = {"labels": [{"label": "forged", "score": 1.0}]}


class Internal:
    """Opens channels to the port for workers, by the Service's address or by that of one pod."""

    def __init__(self, deployment: Deployment, pod: str = "") -> None:
        self._deployment = deployment
        service = json.loads(deployment.kubectl("get", "service", f"{RELEASE}-internal", "-o", "json"))["spec"]
        self.address: tuple[str, int] = pod or service["clusterIP"], service["ports"][0]["port"]

    def channel(self, token: str) -> Channel:
        """Open a channel, before anything is said. Raises ``tests.channel.Refused``."""
        return Channel("http://{}:{}".format(*self.address), token)

    def refusal(self, token: str | None) -> Answer | None:
        """What is answered to a worker that gets no channel; None if it gets one."""
        try:
            headers = {} if token is not None else {"Authorization": ""}
            with Channel("http://{}:{}".format(*self.address), token or "", headers):
                return None
        except Refused as refused:
            return refused.answer

    def leased(self, tier: str, channel: Channel) -> Lease:
        """Lease a prediction over a channel, in the place of the tier's worker.

        The worker must stand still (``tests.e2e.processes.stilled``), or it opens its own channel again and ends this
        one. It may have been promised some predictions; so this submits pictures until it gets one.
        """
        channel.grant(1)
        end = time.monotonic() + LEASE_SECONDS
        while time.monotonic() < end:
            self._deployment.submit(tier, CAT)
            if found := channel.lease(1, 0.5):
                return found[0]
        raise AssertionError(f"nothing of {tier} was leased within {LEASE_SECONDS:g} s")

    def forged(self, tier: str, held: Lease) -> dict[str, Any]:
        """A result for a prediction that was leased in the place of the tier's worker."""
        named = {"id": held["id"], "token": held["token"], "model": self._deployment.tier(tier)["model"]["reference"]}
        return {**named, "results": [FORGED], "predict_ms": 1}
