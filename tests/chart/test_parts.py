"""The chart as a part of another one, once or several times, and beside other releases."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.charts import CHART, NAMESPACE, Chart, Object, identity, only

pytestmark = pytest.mark.cluster

ALIASES: list[str | None] = [None, "second_EU", "third"]
VALUES = {
    "tierserve": {"enabled": True, "tiers": {"premium": {"enabled": False}}},
    "second_EU": {
        "capacity": {"cpu": 2, "gpus": "3"},
        "tiers": {"premium": {"enabled": False}, "free": {"share": 2, "namespace": {"name": "eu-free"}}},
    },
    "third": {"enabled": False},
    "global": {"anything": ["of", "the", "parent"]},
}
HELMS = ["helm", "helm3"]
PARTS = ["tierserve", "second-eu"]  # as their names are in names of objects


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chart that contains this one three times, of which one is left out."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(CHART, folder / "charts" / "tierserve")
    parts = [
        {"name": "tierserve", "version": "0.1.0", "repository": "", "condition": f"{alias or 'tierserve'}.enabled"}
        | ({"alias": alias} if alias else {})
        for alias in ALIASES
    ]
    chart = {"apiVersion": "v2", "name": "whole", "version": "1.0.0", "dependencies": parts}
    (folder / "Chart.yaml").write_text(json.dumps(chart))
    (folder / "values.yaml").write_text(json.dumps(VALUES))
    return folder


def rendered(chart: Chart, whole: Path, helm: str = "helm", release: str = "x") -> list[Object]:
    done = chart.run(helm, "template", release, whole, "--namespace", NAMESPACE)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def pods(objects: list[Object]) -> list[tuple[str, dict[str, str]]]:
    """The namespace and the labels of all pods that the objects make."""
    templates = [(each, each["spec"]["template"]) for each in objects if each["kind"] == "Deployment"]
    templates += [(each, each) for each in objects if each["kind"] == "Pod"]
    return [(each["metadata"]["namespace"], template["metadata"]["labels"]) for each, template in templates]


def selector(each: Object) -> dict[str, str] | None:
    """By which labels the object finds pods of its own namespace."""
    if each["kind"] == "Service":
        return dict(each["spec"]["selector"])
    found = each.get("spec", {}).get("selector") or each.get("spec", {}).get("podSelector") or {}
    return found.get("matchLabels")


@pytest.mark.parametrize("helm", HELMS)
def test_several_in_one_chart_share_nothing(chart: Chart, whole: Path, helm: str) -> None:
    objects = rendered(chart, whole, helm)
    assert [each for each, times in Counter(map(identity, objects)).items() if times > 1] == []
    kinds = Counter(each["kind"] for each in objects)
    assert kinds["Deployment"] == kinds["ClusterRole"] == kinds["Namespace"] == 2
    assert {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"} == {
        "tierserve-free",
        "eu-free",
    }
    assert {each["metadata"]["name"] for each in objects if each["kind"] == "Deployment"} == {
        "x-tierserve",
        "x-second-eu",
    }
    name = "app.kubernetes.io/name"
    checked = 0
    for each in objects:
        if wanted := selector(each):
            own = {
                pod[name]
                for place, pod in pods(objects)
                if place == each["metadata"]["namespace"] and wanted.items() <= pod.items()
            }
            assert own == {each["metadata"]["labels"][name]} or each["kind"] == "NetworkPolicy", identity(each)
            assert own <= {each["metadata"]["labels"][name]}, identity(each)
            checked += 1
    assert checked > 10


def test_a_release_whose_name_has_all_aliases_in_it(chart: Chart, whole: Path) -> None:
    objects = rendered(chart, whole, release="tierserve-second-eu-third")
    assert [each for each, times in Counter(map(identity, objects)).items() if times > 1] == []


@pytest.mark.parametrize("helm", HELMS)
def test_a_capacity_is_of_one_part_alone(chart: Chart, whole: Path, helm: str) -> None:
    objects = rendered(chart, whole, helm)
    quotas = [only(objects, "ResourceQuota", namespace=name)["spec"]["hard"] for name in ("tierserve-free", "eu-free")]
    assert [hard.get("requests.nvidia.com/gpu") for hard in quotas] == [None, "3"]
    values = [yaml.safe_load(only(objects, "ConfigMap", f"x-{name}")["data"]["values.yaml"]) for name in PARTS]
    assert [each["capacity"] for each in values] == [{}, {"cpu": 2, "gpus": "3"}]


@pytest.mark.parametrize("nothing", [{"capacity": None}, {"capacity": {}}])
@pytest.mark.parametrize("helm", HELMS)
def test_a_part_without_a_capacity_has_its_quotas(
    chart: Chart, whole: Path, tmp_path: Path, nothing: dict[str, Any], helm: str
) -> None:
    (tmp_path / "values.yaml").write_text(json.dumps({"tierserve": nothing}))
    done = chart.run(helm, "template", "x", whole, "--values", tmp_path / "values.yaml", "--namespace", NAMESPACE)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    hard = only(objects, "ResourceQuota", namespace="tierserve-free")["spec"]["hard"]
    assert {key: value for key, value in hard.items() if not key.startswith("limits.")} == {
        "requests.cpu": "2",
        "requests.memory": "2Gi",
        "pods": "10",
    }


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"tierserve": {"enabeld": False}}, "additional properties 'enabeld' not allowed"),
        ({"tierserve": {"tiers": {"free": {"enabled": False}}}}, "every tier has enabled=false: leave at least one"),
        ({"second_EU": {"server": {"port": 0}}}, "server.port is 0"),
        ({"tierserve": {"tiers": {"free": {"share": 2}}}}, "tiers.free.share is 2"),
        ({"second_EU": {"capacity": {"cpu": 1}}}, "tiers.free.quota.cpu is 2, more than capacity.cpu, 1"),
    ],
)
def test_a_part_is_checked_as_a_chart_alone(
    chart: Chart, whole: Path, tmp_path: Path, values: dict[str, Any], says: str
) -> None:
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    done = chart.run("helm", "template", "x", whole, "--values", tmp_path / "values.yaml")
    assert done.returncode
    assert says in done.stderr


def test_a_part_without_a_condition_cannot_be_left_out_by_enabled(chart: Chart) -> None:
    done = chart.run("helm", "template", "x", ".", "--set", "enabled=false")
    assert "only a chart that contains this one can leave it out" in done.stderr


def test_the_notes_of_a_part_name_its_own_values(chart: Chart, whole: Path) -> None:
    done = chart.run(
        "helm", "install", "x", whole, "--dry-run=client", "--render-subchart-notes", "--namespace", NAMESPACE
    )
    assert "--set second_EU.tiers.free.quota.cpu=3" in done.stdout, done.stdout[-3000:] + done.stderr
    assert "--set tierserve.tiers.free.quota.cpu=3" in done.stdout


def test_the_same_release_in_two_namespaces_shares_no_name_of_the_cluster(chart: Chart) -> None:
    pairs = [("b", "a-x"), ("b", "a"), ("x-b", "a")]  # a dash between them would leave two of these the same
    names = []
    for release, namespace in pairs:
        objects = chart.objects(release=release, namespace=namespace)
        names += [each["metadata"]["name"] for each in objects if each["kind"] in ("ClusterRole", "ClusterRoleBinding")]
        binding = only(objects, "ClusterRoleBinding")
        assert binding["roleRef"]["name"] == only(objects, "ClusterRole")["metadata"]["name"]
    assert len(set(names)) == len(pairs)


def test_long_names_that_differ_at_the_end_stay_different(chart: Chart) -> None:
    alike = ["r" * 45 + each for each in ("-one", "-two", "-three")]
    names = [
        each["metadata"]["name"]
        for release in alike
        for each in chart.objects(release=release)
        if each["kind"] == "Service"
    ]
    assert len(set(names)) == 2 * len(alike)
    assert all(len(name) <= 63 for name in names)
