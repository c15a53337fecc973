"""What is told of the models of tiers, and of their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.models import Models
from server.queue import Completion, Served, Serving
from server.settings.live import Live
from server.settings.sources import Files
from tests.server.http.http_site import Site, assert_problem, running
from tests.server.models.model_folder import LABELS, MEASURED, write

OLD, NEW = (
    Served(f"flowers@{version}", version * 8, "onnx", "int8", since)
    for version, since in (("3f9a2c81", 5.0), ("0f1e2d3c", 7.0))
)
CANARY = (
    "tiers.free.model.name=flowers",
    "tiers.free.model.canary.name=flowers@new",
    "tiers.free.model.canary.percent=5",
)
NOTHING = {
    "predictions": 0,
    "pictures": 0,
    "failed": 0,
    "low_confidence": None,
    "p50_ms": None,
    "p95_ms": None,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "models", OLD.reference, variants=["onnx/int8"])
    write(tmp_path / "models", NEW.reference, variants=["onnx/int8"], labels=["weed", "雑草"])
    return tmp_path / "models"


@pytest.fixture
def florist(folder: Path, tmp_path: Path) -> Iterator[Site]:
    """A site whose tier free has a canary; what its tiers serve is not decided yet."""
    with running(tmp_path / "site", Live(Files(overrides=CANARY)), models=Models(folder)) as found:
        yield found


def model(site: Site, tier: str = "free") -> Any:
    told = site.get(f"/v1/tiers/{tier}").json["model"]
    labels = told.pop("labels")
    assert {one["name"]: one["model"] for one in site.get("/v1/tiers").json["tiers"]}[tier] == told
    return {**told, "labels": labels}


def test_a_tier_tells_what_it_serves(florist: Site) -> None:
    florist.serve("free", Serving(OLD, NEW, 5))
    assert model(florist) == {
        "name": "flowers",
        "variant": "int8",
        "runtime": "onnx",
        "reference": "flowers@3f9a2c81",
        "version": "3f9a2c81",
        "classes": 3,
        "since": "1970-01-01T00:00:05.000Z",
        "labels": LABELS,
        "measured": NOTHING,
        "canary": {
            "name": "flowers@new",
            "percent": 5.0,
            "live": True,
            "reference": "flowers@0f1e2d3c",
            "version": "0f1e2d3c",
            "classes": 2,
            "since": "1970-01-01T00:00:07.000Z",
            "measured": NOTHING,
        },
        "previous": [],
        "instead_of": None,
        "problem": None,
    }


def test_a_tier_tells_what_was_rolled_back_and_what_is_wrong(florist: Site) -> None:
    rolled = Serving(OLD, NEW, 0, previous=(replace(NEW, reference="weeds@00000001"),), instead_of="flowers@00000007")
    florist.serve("free", replace(rolled, problem="the canary rests"))
    told = model(florist)
    assert (told["canary"]["live"], told["canary"]["percent"]) == (False, 5.0)
    assert (told["previous"], told["instead_of"]) == (["weeds@00000001"], "flowers@00000007")
    assert told["problem"] == "the canary rests"


def test_until_it_is_decided_a_tier_tells_what_its_settings_name(florist: Site) -> None:
    told = model(florist)
    assert (told["name"], told["canary"]["name"]) == ("flowers", "flowers@new")
    for part in (told, told["canary"]):
        assert [part[name] for name in ("reference", "version", "classes", "since")] == [None] * 4
    assert told["labels"] is None
    assert model(florist, "premium")["canary"] is None
    assert florist.get("/v1/models").json == {"models": []}


def test_each_model_that_a_tier_serves_is_told_with_its_tiers(florist: Site) -> None:
    florist.serve("free", Serving(OLD, NEW, 5))
    florist.serve("premium", Serving(NEW))
    old, new = florist.get("/v1/models").json["models"]
    assert old == {
        "reference": "flowers@3f9a2c81",
        "name": "flowers",
        "version": "3f9a2c81",
        "digest": OLD.digest,
        "architecture": "tf_efficientnet_lite0",
        "classes": 3,
        "input": {"width": 224, "height": 224},
        "variants": [{"runtime": "onnx", "name": "int8", "bytes": 1000, "measured": MEASURED}],
        "tiers": [
            {
                "name": "free",
                "lane": "main",
                "percent": 95.0,
                "runtime": "onnx",
                "variant": "int8",
                "since": "1970-01-01T00:00:05.000Z",
                "measured": NOTHING,
            }
        ],
    }
    lanes = [(tier["name"], tier["lane"], tier["percent"]) for tier in new["tiers"]]
    assert lanes == [("free", "canary", 5), ("premium", "main", 100)]
    assert florist.get("/v1/models/flowers@3f9a2c81").json == {**old, "labels": LABELS}


def test_main_model_and_canary_are_measured_apart(florist: Site) -> None:
    florist.serve("free", Serving(OLD, NEW, 5))
    sure, unsure, failed = (
        {"labels": [{"label": "rose", "score": 0.9}]},
        {"labels": [{"label": "rose", "score": 0.4}]},
        {"error": {"code": "model_failed", "detail": "It failed."}},
    )
    for served, results, took in ((OLD, [sure], 8.0), (OLD, [sure, unsure], 8.0), (NEW, [failed], 1000.0)):
        done = Completion("p", "t", results, None, took, served.reference)
        florist.services.measures.add("free", served.key, [done], ["accepted"])
    florist.services.look_at_tiers()
    told = model(florist)
    assert told["measured"] == {
        "predictions": 2,
        "pictures": 3,
        "failed": 0,
        "low_confidence": 0.3333,
        "p50_ms": 7.3,
        "p95_ms": 7.3,
    }
    assert told["canary"]["measured"] == {
        "predictions": 1,
        "pictures": 1,
        "failed": 1,
        "low_confidence": 0.0,
        "p50_ms": 939.0,
        "p95_ms": 939.0,
    }
    of_models = {one["reference"]: one["tiers"][0]["measured"] for one in florist.get("/v1/models").json["models"]}
    assert of_models == {OLD.reference: told["measured"], NEW.reference: told["canary"]["measured"]}
    florist.serve("premium", Serving(OLD))
    assert model(florist, "premium")["measured"] == NOTHING


def test_a_model_that_no_tier_serves_is_told_with_those_that_are_served(florist: Site) -> None:
    florist.serve("free", Serving(OLD))
    for reference in ("flowers@0f1e2d3c", "flowers", "%00", "%ff", 300 * "x"):
        answer = florist.get(f"/v1/models/{reference}")
        assert_problem(answer, 404, "no_such_model")
        assert answer.json["models"] == ["flowers@3f9a2c81"]


def test_a_server_that_does_not_see_the_records_tells_the_versions(shared: Site) -> None:
    shared.serve("premium", Serving(NEW))
    told = model(shared, "premium")
    assert (told["version"], told["classes"], told["labels"]) == ("0f1e2d3c", None, None)
    assert shared.get("/v1/models/flowers@0f1e2d3c").json["input"] is None


@pytest.mark.parametrize("name", ["gold", "%00", "%ff", "free%20", 300 * "x"])
def test_a_tier_that_is_not_there_is_told_with_those_that_are(shared: Site, name: str) -> None:
    answer = shared.get(f"/v1/tiers/{name}")
    assert_problem(answer, 404, "no_such_tier")
    assert answer.json["tiers"] == ["free", "premium"]
