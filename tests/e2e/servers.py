"""The servers of a release that share their stores."""

from __future__ import annotations

import operator

from tests.e2e.deployment import NAMESPACE, SERVERS, Deployment
from tests.e2e.things import Thing
from tests.waiting import eventually

GRACE_SECONDS = 90.0  # a server that is deleted has 80 s to end; for the first 10 s of them it may still lead
# Two workers of free and one of premium, all of which fit on one node: there is always room for another server.
SETS = (
    "tiers.free.job.cpu=450m",
    "tiers.free.quota.cpu=900m",
    "tiers.free.waits.idleSeconds=60",
    "tiers.premium.job.cpu=600m",
    "tiers.premium.quota.cpu=600m",
    "tiers.premium.waits.idleSeconds=60",
)


def servers(deployment: Deployment, count: int = 2, without: str = "") -> dict[str, Thing]:
    """Wait until ``count`` servers are ready, none of them in the container ``without``; return the pods by address."""

    def whole(pods: list[Thing]) -> bool:
        states = [state for pod in pods for state in pod["status"].get("containerStatuses", ())]
        well = [state["containerID"] for state in states if state["ready"]]
        return len(well) == len(pods) == count and without not in well

    pods = eventually(deployment.server_pods, 90, f"{count} servers are ready", whole)
    return {pod["status"]["podIP"]: pod for pod in pods}


def names(pods: dict[str, Thing]) -> set[str]:
    """The names of pods."""
    return {pod["metadata"]["name"] for pod in pods.values()}


def alone(deployment: Deployment, pods: dict[str, Thing]) -> None:
    """Return when these are the only pods of servers, so that all others have sent their last answers."""

    def others() -> list[Thing]:
        found = deployment.items("pods", NAMESPACE, SERVERS)
        return [pod for pod in found if pod["metadata"]["name"] not in names(pods)]

    eventually(others, GRACE_SECONDS, "the other servers are gone", operator.not_)
