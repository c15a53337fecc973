"""What the server says of a tier that does not work, and of settings that it refuses."""

from __future__ import annotations

import re
from typing import Any

from tests.e2e.deployment import Deployment
from tests.e2e.pictures import CAT
from tests.e2e.watching import Watch
from tests.service.test_classify import is_cat
from tests.waiting import eventually

REASON_SECONDS = 90.0


def reasons(deployment: Deployment, tier: str, key: str) -> dict[str, str]:
    """The reasons that a waiting caller, a client and an operator see."""
    queue = deployment.prediction(key)["queue"]
    return {
        "prediction": queue["reason"] if queue else "",
        "/v1/tiers": deployment.tier(tier)["reason"],
        "/readyz": health(deployment, tier)["reason"],
    }


def health(deployment: Deployment, tier: str) -> dict[str, Any]:
    found: dict[str, Any] = deployment.get("/readyz").json["tiers"][tier]
    return found


def told(deployment: Deployment, tier: str, key: str, pattern: str, seconds: float = REASON_SECONDS) -> str:
    """Wait until the reason matches a pattern in all places, and return it."""

    def everywhere(found: dict[str, str]) -> bool:
        return all(re.search(pattern, reason) for reason in found.values())

    what = f"all reasons of {tier} match {pattern!r}"
    return eventually(lambda: reasons(deployment, tier, key), seconds, what, everywhere)["prediction"]


def counted(reason: str, watch: Watch) -> list[float]:
    """The times at which the tier's Jobs began. There are as many as the reason counts, or one more that still runs."""
    count = int(reason.split("the last ")[1].split()[0])
    watch.settled(f"{count} Jobs began, as the reason says", lambda found: found[0] >= count)
    began = sorted(watch.began.values())
    assert len(began) <= count + 1, f"{reason}, after {len(began)} Jobs"
    return began


def work(deployment: Deployment, *tiers: str) -> None:
    """Check that these tiers give the right label, and wait until they are healthy."""
    for name in tiers:
        assert is_cat(deployment.post(name, CAT)), name
    well = {"healthy": True, "reason": ""}
    eventually(
        lambda: {name: health(deployment, name) for name in tiers},
        60,
        f"{tiers} are well",
        lambda found: all(one == well for one in found.values()),
    )


def in_force(deployment: Deployment) -> dict[str, Any]:
    found: dict[str, Any] = deployment.get("/config").json["settings"]
    return found
