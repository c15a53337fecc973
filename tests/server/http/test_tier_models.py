"""What is told of the models of tiers, and of their labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.models import Models
from server.settings.live import Live
from server.settings.sources import Files
from tests.server.http.http_site import Site, assert_problem, running
from tests.server.models.test_folder import LABELS, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "models", link="flowers")
    return tmp_path / "models"


@pytest.fixture
def florist(folder: Path, tmp_path: Path) -> Iterator[Site]:
    """A site whose tier free has a model of its own; that of the tier premium is missing."""
    live = Live(Files(overrides=("tiers.free.model.name=flowers",)))
    with running(tmp_path / "site", live, models=Models(folder)) as found:
        yield found


def test_the_tiers_tell_version_and_classes_of_their_models(florist: Site) -> None:
    free, premium = (tier["model"] for tier in florist.get("/v1/tiers").json["tiers"])
    assert free == {
        "name": "flowers",
        "variant": "int8",
        "runtime": "onnx",
        "version": "3f9a2c81",
        "classes": 3,
        "canary": None,
    }
    assert (premium["name"], premium["version"], premium["classes"]) == ("tf_efficientnet_lite2", None, None)


def test_a_tier_tells_the_labels_of_its_model(florist: Site) -> None:
    free, premium = (florist.get(f"/v1/tiers/{name}").json for name in ("free", "premium"))
    assert free["model"].pop("labels") == LABELS
    assert premium["model"].pop("labels") is None
    assert [free, premium] == florist.get("/v1/tiers").json["tiers"]


def test_a_model_that_was_built_anew_is_told(florist: Site, folder: Path) -> None:
    assert florist.get("/v1/tiers/free").json["model"]["labels"] == LABELS
    write(folder, "flowers@0f1e2d3c", link="flowers", labels=["weed", "雑草"])
    model = florist.get("/v1/tiers/free").json["model"]
    assert (model["version"], model["classes"], model["labels"]) == ("0f1e2d3c", 2, ["weed", "雑草"])
    (folder / "flowers").unlink()
    model = florist.get("/v1/tiers/free").json["model"]
    assert (model["version"], model["classes"], model["labels"]) == (None, None, None)


def test_a_server_that_does_not_see_the_models_tells_none(shared: Site) -> None:
    for tier in shared.get("/v1/tiers").json["tiers"]:
        assert (tier["model"]["version"], tier["model"]["classes"]) == (None, None)
        assert shared.get(f"/v1/tiers/{tier['name']}").json["model"]["labels"] is None


@pytest.mark.parametrize("name", ["gold", "%00", "%ff", "free%20", 300 * "x"])
def test_a_tier_that_is_not_there_is_told_with_those_that_are(shared: Site, name: str) -> None:
    answer = shared.get(f"/v1/tiers/{name}")
    assert_problem(answer, 404, "no_such_tier")
    assert answer.json["tiers"] == ["free", "premium"]
