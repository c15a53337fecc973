"""Waits for worker pods and for the predictions that they hold."""

from __future__ import annotations

import operator
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.e2e.clients import Clients
from tests.e2e.deployment import Deployment
from tests.e2e.things import Thing
from tests.waiting import eventually

SUBMITTED = 10


def name_of(thing: dict[str, Any]) -> str:
    return str(thing["metadata"]["name"])


def ready(deployment: Deployment, tier: str) -> dict[str, Thing]:
    """The ready worker pods of a tier, by name."""
    return {
        name_of(pod): pod
        for pod in deployment.pods(tier)
        if "deletionTimestamp" not in pod["metadata"]  # a pod that is being deleted may still be ready
        and any(status["ready"] for status in pod["status"].get("containerStatuses", ()))
    }


def workers(deployment: Deployment, tier: str, count: int) -> dict[str, Thing]:
    """Wait until the tier has so many ready worker pods, and return them by name."""
    what = f"{count} workers of {tier} run"
    return eventually(lambda: ready(deployment, tier), 120, what, lambda found: len(found) >= count)


def workers_on(deployment: Deployment, *nodes: str) -> list[str]:
    """Wait until free has one worker pod on each of these nodes and no other; returns their names."""

    def there(found: dict[str, Thing]) -> bool:
        return sorted(pod["spec"]["nodeName"] for pod in found.values()) == list(nodes)

    found = eventually(lambda: ready(deployment, "free"), 120, f"the workers of free run on {nodes}", there)
    return list(found)


def gone(deployment: Deployment, pods: set[str]) -> None:
    """Return when none of these pods of free is left."""

    def left() -> list[Thing]:
        return [pod for pod in deployment.pods("free") if name_of(pod) in pods]

    eventually(left, 60, f"no pod of {sorted(pods)} is left", operator.not_)


@dataclass(frozen=True, slots=True)
class Work:
    """Ids of slow predictions: ``all`` of them, and those that workers ``held`` at one moment."""

    all: list[str]
    held: list[str]


def busy(deployment: Deployment, clients: Clients) -> tuple[dict[str, Thing], Work]:
    """Get two workers of free, by name, and slow predictions of which they hold at least two."""
    clients.submit_slow(8)  # these start the workers, and may have ended before both are ready
    return workers(deployment, "free", 2), under_way(deployment, clients)


def under_way(deployment: Deployment, clients: Clients) -> Work:
    """Submit slow predictions until workers of free hold at least two of them at once."""
    keys: list[str] = []

    def look() -> dict[str, str]:
        with ThreadPoolExecutor(SUBMITTED) as pool:  # one after another, each answer would be of another moment
            stand = dict(zip(keys, pool.map(lambda key: str(deployment.prediction(key)["status"]), keys), strict=True))
        if "queued" not in stand.values():
            keys.extend(clients.submit_slow(SUBMITTED))
        return stand

    stand = eventually(look, 90, "two predictions are held", lambda found: list(found.values()).count("leased") >= 2)
    return Work(keys, [key for key, status in stand.items() if status == "leased"])


def taken_up(deployment: Deployment, keys: list[str], since: float) -> float:
    """How many seconds it took until each of these was done or begun for the second time."""

    def untouched() -> list[dict[str, Any]]:
        found = [deployment.prediction(key) for key in keys]
        return [one for one in found if not one["completed_at"] and one["attempts"] < 2]

    eventually(untouched, 180, f"all of {keys} are done or taken up", operator.not_)
    return time.monotonic() - since


def begun_again(deployment: Deployment, keys: list[str]) -> float:
    """Wait until one of these is begun for the second time; returns that moment."""
    eventually(
        lambda: {key: deployment.prediction(key)["attempts"] for key in keys},
        180,
        "a prediction is begun for the second time",
        lambda attempts: max(attempts.values()) > 1,
    )
    return time.monotonic()
