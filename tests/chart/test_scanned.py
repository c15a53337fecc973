"""What kube-score and checkov find in the chart and in the server's Jobs, and why each finding stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from server.settings import values as config
from server.settings.render import Renderer
from server.settings.sources import read_templates
from tests.chart.charts import Chart, Object, identity

pytestmark = pytest.mark.cluster

CHECKOV = "checkov==3.3.30"  # in an environment of its own, because it needs older versions of packages that we use
CHECKOV_SECONDS = 110

ONE_SERVER = "the queue is a SQLite file, which one process may have open: one replica, never two side by side"
TEST_ENDS = "a pod of helm test ends by itself, and nothing is routed to it"
YOUR_BUILD = "the default names a tag, for an image that was loaded or pushed by hand; production names a digest"
LOADED = "the default takes an image that is on the node already; production asks the registry every time"
BY_ENVIRONMENT = "clients of buckets read their credentials from the environment; the database is named there too"
REPLICAS = {
    ("Deployment", "CKV_K8S_35"): BY_ENVIRONMENT,
    ("Pod", "CKV_K8S_8"): TEST_ENDS,
    ("Pod", "CKV_K8S_9"): TEST_ENDS,
}
PRODUCTION = {
    ("Deployment", "deployment-replicas"): ONE_SERVER,
    ("Deployment", "deployment-strategy"): ONE_SERVER,
    ("Pod", "CKV_K8S_8"): TEST_ENDS,
    ("Pod", "CKV_K8S_9"): TEST_ENDS,
}
DEFAULT = PRODUCTION | {
    (kind, check): reason
    for kind in ("Deployment", "Pod", "Job")
    for check, reason in {"CKV_K8S_43": YOUR_BUILD, "CKV_K8S_15": LOADED, "container-image-pull-policy": LOADED}.items()
}
EXPECTED = {"replicas": REPLICAS, "production": PRODUCTION, "default": DEFAULT}

Findings = set[tuple[str, str]]


def jobs(objects: list[Object], folder: Path) -> list[Object]:
    """A Job for each tier, as the server makes it from the rendered ConfigMaps."""
    for each in objects:
        for name, text in each["data"].items() if each["kind"] == "ConfigMap" else ():
            (folder / name).write_text(text)
    settings = config.load(folder / "values.yaml", base=None, templates=folder)
    return [
        Renderer(read_templates(folder)).job(tier, "run", "http://tierserve-internal:8081")
        for tier in settings.tiers.values()
    ]


@pytest.fixture(scope="module")
def manifests(chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By case, a file with all objects that would be in the cluster."""
    folder, files = tmp_path_factory.mktemp("manifests"), {}
    for case in EXPECTED:
        objects = chart.case(case)
        made = jobs(objects, tmp_path_factory.mktemp(case))
        files[case] = folder / f"{case}.yaml"
        files[case].write_text(yaml.safe_dump_all([*objects, *made], sort_keys=False))
    return files


@pytest.fixture(scope="module")
def checkov(manifests: dict[str, Path]) -> dict[str, Findings]:
    """By case, what checkov finds."""
    argv = [sys.executable, "-m", "uv", "tool", "run", "--python", sys.executable, CHECKOV, "--framework", "kubernetes"]
    argv += ["--skip-download", "--output", "json", "--directory", str(manifests["default"].parent)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=CHECKOV_SECONDS, check=False)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    results = json.loads(done.stdout)["results"]
    assert not results["parsing_errors"]
    for case in EXPECTED:
        assert len([each for each in results["passed_checks"] if each["file_path"] == f"/{case}.yaml"]) > 350
    return {
        case: {
            (each["resource"].split(".")[0], each["check_id"])
            for each in results["failed_checks"]
            if each["file_path"] == f"/{case}.yaml"
        }
        for case in EXPECTED
    }


def kube_score(chart: Chart, manifest: Path) -> Findings:
    """What kube-score finds in a manifest."""
    flags = [
        "--output-format",
        "json",
        "--kubernetes-version",
        "v1.34",
        "--enable-optional-test",
        "container-seccomp-profile",
    ]
    done = chart.run("kube-score", "score", *flags, manifest)
    scored = json.loads(done.stdout)
    assert {"Deployment", "Job", "Pod", "Service", "NetworkPolicy"} <= {each["type_meta"]["kind"] for each in scored}
    return {
        (each["type_meta"]["kind"], check["check"]["id"])
        for each in scored
        for check in each["checks"]
        if not check["skipped"] and check["grade"] < 10
    }


@pytest.mark.parametrize("case", EXPECTED)
def test_the_scanners_find_what_is_listed_and_nothing_else(
    chart: Chart, manifests: dict[str, Path], checkov: dict[str, Findings], case: str
) -> None:
    assert checkov[case] | kube_score(chart, manifests[case]) == set(EXPECTED[case])


def test_the_manifests_have_a_job_for_every_tier(manifests: dict[str, Path]) -> None:
    objects = [each for each in yaml.safe_load_all(manifests["production"].read_text()) if each["kind"] == "Job"]
    assert [identity(each)[2] for each in objects] == ["tierserve-free", "tierserve-premium"]
