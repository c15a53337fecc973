"""Worker pods and what they hold, waited for."""

from __future__ import annotations

import operator
import time
from typing import Any

from tests.e2e.deployment import Deployment
from tests.e2e.things import Thing
from tests.waiting import eventually


def name_of(thing: dict[str, Any]) -> str:
    return str(thing["metadata"]["name"])


def ready(deployment: Deployment, tier: str) -> dict[str, Thing]:
    """The worker pods of a tier that run, by name."""
    return {
        name_of(pod): pod
        for pod in deployment.pods(tier)
        if "deletionTimestamp" not in pod["metadata"]
        and any(status["ready"] for status in pod["status"].get("containerStatuses", ()))
    }


def workers(deployment: Deployment, tier: str, count: int) -> dict[str, Thing]:
    """The tier's worker pods, once so many run."""
    what = f"{count} workers of {tier} run"
    return eventually(lambda: ready(deployment, tier), 120, what, lambda found: len(found) >= count)


def workers_on(deployment: Deployment, *nodes: str) -> list[str]:
    """The pods of free, once there is one on each of these nodes and no other."""

    def there(found: dict[str, Thing]) -> bool:
        return sorted(pod["spec"]["nodeName"] for pod in found.values()) == list(nodes)

    found = eventually(lambda: ready(deployment, "free"), 120, f"the workers of free run on {nodes}", there)
    return list(found)


def gone(deployment: Deployment, pods: set[str]) -> None:
    """Return once none of these pods of free is left."""

    def left() -> list[Thing]:
        return [pod for pod in deployment.pods("free") if name_of(pod) in pods]

    eventually(left, 60, f"no pod of {sorted(pods)} is left", operator.not_)


def under_way(deployment: Deployment, keys: list[str]) -> list[str]:
    """The predictions that workers hold, once two do."""
    stand = eventually(
        lambda: {key: deployment.prediction(key)["status"] for key in keys},
        90,
        "two predictions are under way",
        lambda found: list(found.values()).count("leased") >= 2,
    )
    return [key for key, status in stand.items() if status == "leased"]


def taken_up(deployment: Deployment, keys: list[str], since: float) -> float:
    """Seconds until the last one of these was done, or begun for the second time."""

    def untouched() -> list[dict[str, Any]]:
        found = [deployment.prediction(key) for key in keys]
        return [one for one in found if not one["completed_at"] and one["attempts"] < 2]

    eventually(untouched, 180, f"all of {keys} are done or taken up", operator.not_)
    return time.monotonic() - since


def begun_again(deployment: Deployment, keys: list[str]) -> float:
    """The moment at which the first of these was begun for the second time."""
    eventually(
        lambda: {key: deployment.prediction(key)["attempts"] for key in keys},
        180,
        "a prediction is begun for the second time",
        lambda attempts: max(attempts.values()) > 1,
    )
    return time.monotonic()
