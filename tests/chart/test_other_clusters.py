"""The chart in clusters that are not like the one of the tests: whose users, networks and registries are others."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings.render import Renderer
from server.settings.sources import read_templates
from server.shipped import ROOT
from tests.chart.charts import CHART, Chart, Object, only
from tests.chart.test_rendered import settings
from tests.chart.test_values import SINK, VALUES

pytestmark = pytest.mark.cluster


def pods(objects: list[Object], folder: Path) -> list[Object]:
    """The specs of all pods of a release: the server's, those of helm test and one of each tier's Jobs."""
    found, templates = settings(objects, folder)
    renderer = Renderer(read_templates(templates))
    jobs = [renderer.job(tier, "run", "http://tierserve-internal:8081") for tier in found.tiers.values()]
    specs = [each["spec"]["template"]["spec"] for each in (only(objects, "Deployment"), *jobs)]
    return specs + [each["spec"] for each in objects if each["kind"] == "Pod"]


def values_of(key: str, value: Any) -> list[Any]:
    """Every value of a key, however deep."""
    if isinstance(value, list):
        return [found for item in value for found in values_of(key, item)]
    if not isinstance(value, dict):
        return []
    return ([value[key]] if key in value else []) + [found for item in value.values() for found in values_of(key, item)]


@pytest.mark.parametrize("user", [0, 1000680000])
def test_all_pods_run_as_one_user_or_as_whom_the_cluster_chooses(chart: Chart, user: int, tmp_path: Path) -> None:
    found = pods(chart.objects("--set", f"runAsUser={user}"), tmp_path)
    assert len(found) == 4
    for pod in found:
        for key in ("runAsUser", "runAsGroup", "fsGroup"):
            assert set(values_of(key, pod)) == ({user} if user else set()), key
        assert set(values_of("runAsNonRoot", pod)) == {True}


DIGEST, OTHER = (f"sha256:{digits * 8}" for digits in ("0f1e2d3c", "a1b2c3d4"))
IMAGES = {
    "the tags": ({}, "tierserve-server:0.1.0", "tierserve-worker:0.1.0", "tierserve-worker-timm:0.1.0"),
    "digests beside tags": (
        {"server": {"digest": DIGEST}, "worker": {"digest": OTHER, "tag": "0.2"}, "own": {"digest": DIGEST}},
        f"tierserve-server:0.1.0@{DIGEST}",
        f"tierserve-worker:0.2@{OTHER}",
        f"tierserve-worker-timm:0.2@{DIGEST}",
    ),
    "digests instead of those in tags": (
        {"server": {"digest": DIGEST, "tag": f"1@{OTHER}"}, "worker": {"tag": f"2@{OTHER}"}, "own": {"tag": "3"}},
        f"tierserve-server:1@{DIGEST}",
        f"tierserve-worker:2@{OTHER}",
        "tierserve-worker-timm:3",
    ),
    "one registry for all": (
        {"registry": "registry.example.org:5000/mirror", "server": {"repository": "quay.io/vision/server"}},
        "registry.example.org:5000/mirror/vision/server:0.1.0",
        "registry.example.org:5000/mirror/tierserve-worker:0.1.0",
        "registry.example.org:5000/mirror/tierserve-worker-timm:0.1.0",
    ),
}


@pytest.mark.parametrize(("given", "server", "free", "premium"), IMAGES.values(), ids=list(IMAGES))
def test_digests_and_the_registry_of_all_images_are_honoured(
    chart: Chart, given: dict[str, Any], server: str, free: str, premium: str, tmp_path: Path
) -> None:
    timm = {"repository": "tierserve-worker-timm"} | given.get("own", {})
    values = {
        "global": {"imageRegistry": given.get("registry", ""), "team": "vision"},
        "server": {"image": given.get("server", {})},
        "worker": {"image": given.get("worker", {})},
        "tiers": {"premium": {"job": {"image": timm}}},
    }
    (tmp_path / "my.json").write_text(json.dumps(values))
    found = pods(chart.objects("--values", tmp_path / "my.json"), tmp_path)
    assert [image for pod in found for image in values_of("image", pod)] == [server, free, premium, server]


def test_pull_secrets_of_all_charts_are_in_every_pod_that_pulls(chart: Chart) -> None:
    objects = chart.case("kitchen-sink")
    holders = [only(objects, "Deployment")["spec"]["template"]["spec"]]
    holders += [each for each in objects if each["kind"] == "ServiceAccount"]
    holders += [each["spec"] for each in objects if each["kind"] == "Pod"]
    assert len(holders) >= 4
    names = [{"name": "registry"}, {"name": "mirror"}, {"name": "other"}]
    assert all(each["imagePullSecrets"] == names for each in holders)


def test_the_probes_are_as_often_and_as_patient_as_the_values_say(chart: Chart) -> None:
    def probes(objects: list[Object]) -> dict[str, Any]:
        server = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
        found = {kind: dict(server[f"{kind}Probe"]) for kind in ("startup", "liveness", "readiness")}
        assert [probe.pop("httpGet")["port"] for probe in found.values()] == ["internal"] * 3
        return found

    assert probes(chart.objects()) == VALUES["pod"]["probes"]
    assert probes(chart.case("kitchen-sink")) == SINK["pod"]["probes"]


def test_the_chart_shows_the_icon_of_the_page() -> None:
    icon = yaml.safe_load((CHART / "Chart.yaml").read_text())["icon"]
    assert (
        base64.b64decode(icon.removeprefix("data:image/svg+xml;base64,"))
        == (ROOT / "server/page/icon.svg").read_bytes()
    )
