"""A server with all that the page has to show: tiers at work, paused, full, resting, with a canary, and locked."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.access import Issued, Operator
from tests.relabelled import broken, relabelled, unlike
from tests.running import ROOT, Service, service
from tests.waiting import eventually

DEFAULT = "tf_efficientnet_lite0"
SECONDS = 60.0
ASYNC = {"Prefer": "respond-async"}
PAUSED: Mapping[str, Any] = {"quota": {"pods": "0"}}
# A worker takes 0.9 CPUs, so that free borrows what its one worker takes beyond 0.8 CPUs.
CAPACITY = {"cpu": "8"}
TIERS: Mapping[str, Mapping[str, Any]] = {
    "free": {"waits": {"idleSeconds": 600}},
    "premium": {"share": 3, "access": {"anonymous": True}, "waits": {"idleSeconds": 600}, "quota": {"pods": "1"}},
    "paused": PAUSED,
    "crowd": PAUSED,
    "full": {**PAUSED, "limits": {"queue": 1}},
    "members": {"access": {"anonymous": False}},
    "trial": {"model": {"canary": {"name": "flowers", "percent": 20}}, "quota": {"pods": "2"}},
    "broken": {"model": {"name": "broken"}},
}


@dataclass(frozen=True, slots=True)
class World:
    """A server, and the key of an owner who may use every tier."""

    server: Service
    key: Issued

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.server.port}/"

    def fill(self, tier: str, count: int, picture: bytes) -> list[str]:
        """Have predictions wait in a tier that is paused, and return their ids."""
        answers = [self.server.post(tier, picture, {**ASYNC, **self.key.headers}) for _ in range(count)]
        assert {answer.status for answer in answers} <= {202}, answers
        return [answer.json["id"] for answer in answers]

    def empty(self, ids: list[str]) -> None:
        """Cancel predictions."""
        for one in ids:
            self.server.ask("DELETE", f"/v1/predictions/{one}", headers=self.key.headers)

    def tier(self, name: str) -> dict[str, Any]:
        """What ``/v1/tiers`` says of a tier."""
        found: dict[str, Any] = self.server.get(f"/v1/tiers/{name}").json
        return found


@contextmanager
def world(models: Path, folder: Path, *settings: str) -> Iterator[World]:
    """A server with all tiers of ``TIERS`` that runs while the block lasts. Keys are asked for where a tier says so."""
    values = folder / "values.yaml"
    values.write_text(json.dumps({"capacity": CAPACITY, "tiers": _tiers()}))
    with service(_models(models, folder), folder / "state", ["server.requireKeys=true", *settings], values) as server:
        key = Operator(server.internal_port, folder / "state" / "admin-token").create("tests", *TIERS)
        eventually(
            lambda: server.ask("GET", "/v1/predictions", headers=key.headers).status,
            SECONDS,
            "the key is known",
            lambda status: status == 200,
        )
        yield World(server, key)


def _tiers() -> dict[str, Any]:
    """The tiers of the chart, and further ones that are like free but for what TIERS says."""
    chart = yaml.safe_load((ROOT / "chart" / "values.yaml").read_text("utf-8"))["tiers"]
    found: dict[str, Any] = {}
    for name, changes in TIERS.items():
        tier = copy.deepcopy(chart.get(name, chart["free"]))
        tier["namespace"]["name"] = f"tierserve-{name}"
        tier["access"] |= {"perSecond": 0, "burst": 0}
        for part, values in changes.items():
            tier[part] = _merged(tier[part], values) if isinstance(values, Mapping) else values
        found[name] = tier
    return found


def _merged(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return old | {key: _merged(old[key], value) if isinstance(value, Mapping) else value for key, value in new.items()}


def _models(models: Path, folder: Path) -> Path:
    """The default models, one that differs in its labels, and one whose file is no graph."""
    found = folder / "models"
    found.mkdir()
    for one in models.iterdir():
        if not one.name.startswith("."):
            (found / one.name).symlink_to(one.resolve())
    source = (models / DEFAULT).resolve()
    for name, change in (("flowers", unlike), ("broken", broken)):
        made = relabelled(source, found, name, name, change)
        (found / name).symlink_to(made.path.name)
    return found
