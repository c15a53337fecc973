"""The chart in clusters that are not like the one of the tests: whose users, networks and registries are others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.settings.render import Renderer
from server.settings.sources import read_templates
from tests.chart.charts import Chart, Object, only
from tests.chart.test_rendered import settings

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
