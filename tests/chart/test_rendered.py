"""What Helm renders from every file of ``chart/ci``."""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from server.settings import records
from server.settings import values as config
from server.settings.manifests import SERVICE_ACCOUNT
from server.settings.render import Renderer
from server.settings.shares import shares
from server.settings.sources import read_templates
from tests.chart import schemas
from tests.chart.charts import CASES, CHART, HELMS, NAMESPACE, Chart, Object, identity, only

pytestmark = pytest.mark.cluster

CUSTOM = {"HTTPRoute", "PrometheusRule", "ServiceMonitor"}
READ = ("server", "worker", "capacity", "tiers", "commonLabels", "commonAnnotations", "runAsUser")  # by the server
CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}


def settings(objects: list[Object], folder: Path) -> tuple[records.Settings, Path]:
    """What the server reads in its pod: the settings, and the folder with the values and Job templates."""
    deployment = only(objects, "Deployment")
    volumes = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["volumes"]}
    for source in volumes["config"]["projected"]["sources"]:
        for name, text in only(objects, "ConfigMap", source["configMap"]["name"])["data"].items():
            (folder / name).write_text(text)
    return config.load(folder / "values.yaml", base=None, templates=folder), folder


@pytest.mark.parametrize(
    ("helm", "case"), [*(("helm", case) for case in CASES), ("helm3", "default"), ("helm3", "kitchen-sink")]
)
def test_helm_lint_finds_nothing(chart: Chart, helm: str, case: str) -> None:
    done = chart.run(helm, "lint", "--strict", ".", "--values", CASES[case])
    assert "1 chart(s) linted, 0 chart(s) failed" in done.stdout, done.stdout + done.stderr
    assert "WARNING" not in done.stdout


@pytest.mark.parametrize("case", CASES)
def test_helm_3_renders_what_helm_4_renders(chart: Chart, case: str) -> None:
    rendered = [chart.text("--values", CASES[case], helm=helm).splitlines() for helm in HELMS]
    fourth, third = ([line for line in lines if line.strip()] for lines in rendered)
    assert third == fourth


def test_every_object_is_valid_in_three_versions_of_kubernetes(chart: Chart, tmp_path: Path) -> None:
    kinds = {(each["apiVersion"], each["kind"]) for case in CASES for each in chart.case(case)}
    assert {kind for _, kind in kinds} >= CUSTOM
    location = schemas.write(tmp_path, kinds)
    text = "---\n".join(chart.text("--values", path) for path in CASES.values())
    for version in schemas.VERSIONS:
        flags = ["-strict", "-summary", "-n", "2", "-kubernetes-version", version, "-schema-location", location]
        done = chart.run("kubeconform", *flags, text=text)
        assert ", Invalid: 0, Errors: 0, Skipped: 0" in done.stdout, done.stdout
    broken = chart.text("--values", CASES["httproute"]).replace("parentRefs:", "parents:")
    assert "additional properties 'parents' not allowed" in chart.run("kubeconform", *flags, text=broken).stdout


@pytest.mark.parametrize("case", CASES)
def test_objects_have_names_and_namespaces_of_their_own(chart: Chart, case: str) -> None:
    objects = chart.case(case)
    assert [each for each, times in Counter(map(identity, objects)).items() if times > 1] == []
    tiers = {each["metadata"]["namespace"] for each in objects if each["kind"] == "LimitRange"}
    for each in objects:
        metadata = each["metadata"]
        assert len(metadata["name"]) <= 63 or each["kind"] in ("Pod", "ClusterRole", "ClusterRoleBinding")
        if each["kind"] in CLUSTER_WIDE:
            assert "namespace" not in metadata
        else:
            dashboards = {"monitoring"} if metadata["name"].endswith("-dashboard") else set()
            assert metadata["namespace"] in {NAMESPACE, *tiers} | dashboards
        if each["kind"] == "Namespace":
            assert metadata["name"] in tiers
            assert metadata["annotations"]["helm.sh/resource-policy"] == "keep"
            assert metadata["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("case", CASES)
def test_every_object_has_the_common_labels(chart: Chart, case: str) -> None:
    for each in chart.case(case):
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == ("classifier" if case == "kitchen-sink" else "tierserve")
        assert labels["app.kubernetes.io/part-of"] == "tierserve"
        assert (labels["app.kubernetes.io/instance"], labels["app.kubernetes.io/managed-by"]) == ("tierserve", "Helm")
        assert labels["app.kubernetes.io/component"] in ("server", "tier", "test", "extra")
        assert (labels["app.kubernetes.io/version"], labels["helm.sh/chart"]) == ("0.1.0", "tierserve-0.1.0")


def keyed_lists(value: Any) -> list[list[str]]:
    """The keys of every list that the API server merges by key."""
    found: list[list[str]] = []
    if isinstance(value, dict):
        for key, item in value.items():
            by = "mountPath" if key == "volumeMounts" else "name"
            if isinstance(item, list) and item and all(isinstance(each, dict) and by in each for each in item):
                found.append([each[by] for each in item])
            found += keyed_lists(item)
    elif isinstance(value, list):
        found += [keys for item in value for keys in keyed_lists(item)]
    return found


@pytest.mark.parametrize("case", CASES)
def test_no_list_has_a_key_twice(chart: Chart, case: str) -> None:
    lists = [keys for each in chart.case(case) for keys in keyed_lists(each)]
    assert len(lists) > 10
    assert [keys for keys in lists if len(set(keys)) < len(keys)] == []


@pytest.mark.parametrize("case", CASES)
def test_the_server_takes_what_helm_merged_and_renders_every_tiers_job(chart: Chart, case: str, tmp_path: Path) -> None:
    objects = chart.case(case)
    found, folder = settings(objects, tmp_path)
    assert set(yaml.safe_load((folder / "values.yaml").read_text())) == set(READ)
    for tier in found.tiers.values():
        job = Renderer(read_templates(folder)).job(tier, "run", "http://tierserve-internal:8081")
        kubernetes_validate.validate(job, schemas.VERSIONS[-1], strict=True)
        assert only(objects, "ServiceAccount", SERVICE_ACCOUNT, tier.namespace)["automountServiceAccountToken"] is False
        quotas = [
            each["spec"]["hard"]
            for each in objects
            if each["kind"] == "ResourceQuota" and each["metadata"]["namespace"] == tier.namespace
        ]
        hard = {name: value for quota in quotas for name, value in quota.items() if not name.startswith("limits.")}
        names = {"pods": "pods", "gpus": f"requests.{tier.job.gpu_resource}"}
        assert hard == {names.get(key, f"requests.{key}"): value for key, value in tier.quota.items()}


def test_common_labels_and_annotations_reach_every_object_pod_and_job_and_no_selector(
    chart: Chart, tmp_path: Path
) -> None:
    objects = chart.case("extras")
    found, folder = settings(objects, tmp_path)
    renderer = Renderer(read_templates(folder))
    jobs = [renderer.job(tier, "run", "http://tierserve-internal:8081") for tier in found.tiers.values()]
    for each in (
        *objects,
        only(objects, "Deployment")["spec"]["template"],
        *jobs,
        *(job["spec"]["template"] for job in jobs),
    ):
        assert each["metadata"]["labels"]["team"] == "vision"
        assert each["metadata"]["annotations"]["example.org/contact"] == "vision@example.org"
    for selected in (
        each["spec"].get("selector") or each["spec"].get("podSelector") for each in objects if "spec" in each
    ):
        assert "team" not in (selected or {}).get("matchLabels", selected or {})


def test_a_tier_on_gpus_has_its_own_image_and_a_quota_of_gpus(chart: Chart, tmp_path: Path) -> None:
    objects = chart.case("gpu")
    found, folder = settings(objects, tmp_path)
    quota = only(objects, "ResourceQuota", namespace="tierserve-premium")["spec"]["hard"]
    assert (quota["requests.nvidia.com/gpu"], "limits.nvidia.com/gpu" in quota) == (
        "2",
        False,
    )  # Kubernetes has no limits
    job = Renderer(read_templates(folder)).job(found.tiers["premium"], "run", "http://tierserve-internal:8081")
    pod = job["spec"]["template"]["spec"]
    (worker,) = pod["containers"]
    assert (pod["runtimeClassName"], worker["image"]) == ("nvidia", "tierserve-worker-timm:0.1.0")
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert worker["args"][-4:] == ["--device", "cuda", "--batch", "32"]
    free = Renderer(read_templates(folder)).job(found.tiers["free"], "run", "http://tierserve-internal:8081")
    assert "--device" not in free["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("case", CASES)
def test_names_that_objects_call_each_other_by_exist(chart: Chart, case: str) -> None:
    objects = chart.case(case)
    deployment = only(objects, "Deployment")
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    server = pod["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    for service in (each for each in objects if each["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= labels
        assert service["spec"]["ports"][0]["targetPort"] in ports
    internal = only(objects, "Service", f"{deployment['metadata']['name']}-internal")
    port = internal["spec"]["ports"][0]["port"]
    assert f"http://{internal['metadata']['name']}.{NAMESPACE}.svc:{port}" in server["args"]
    accounts = {
        (each["metadata"]["namespace"], each["metadata"]["name"])
        for each in objects
        if each["kind"] == "ServiceAccount"
    }
    assert (NAMESPACE, pod["spec"]["serviceAccountName"]) in accounts
    for binding in (each for each in objects if each["kind"].endswith("RoleBinding")):
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": pod["spec"]["serviceAccountName"], "namespace": NAMESPACE}
        ]
        only(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"], binding["metadata"].get("namespace"))
    state = next(each for each in pod["spec"]["volumes"] if each["name"] == "state")
    claims = [each["metadata"]["name"] for each in objects if each["kind"] == "PersistentVolumeClaim"]
    if case == "existing-claim" or "emptyDir" in state:
        assert claims == []
    else:
        assert claims == [state["persistentVolumeClaim"]["claimName"]]
    for scaler in (each for each in objects if each["kind"] == "HorizontalPodAutoscaler"):
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


@pytest.mark.parametrize("case", CASES)
def test_several_servers_share_what_they_keep(chart: Chart, case: str) -> None:
    objects = chart.case(case)
    spec = only(objects, "Deployment")["spec"]
    scaled = [each for each in objects if each["kind"] == "HorizontalPodAutoscaler"]
    assert ("replicas" in spec) != bool(scaled)
    pod = spec["template"]["spec"]
    volume = any("persistentVolumeClaim" in each for each in pod["volumes"])
    assert spec["strategy"]["type"] == ("Recreate" if volume else "RollingUpdate")
    assert not volume or spec["replicas"] == 1
    assert volume == (case not in ("autoscaling", "kitchen-sink", "replicas"))
    names = {each["name"] for each in pod["containers"][0].get("env", ())}
    assert volume or names >= {"TIERSERVE_DATABASE_URL", "TIERSERVE_BLOBS_URL"}
    assert "postgresql://" not in chart.text("--values", CASES[case])


LIVE: list[list[str | Path]] = [
    ["--set", "server.accessLog=json"],
    ["--set", "server.trustedProxies={10.0.0.0/8}"],
    ["--set", "server.cors.origins={https://app.example.org}"],
    ["--set", "server.cors.origins=*"],
    ["--set", "access.test.secretName=mine"],
    ["--set", "tiers.free.quota.cpu=3"],
    ["--set", "tiers.free.quota.gpus=3"],
    ["--set", "capacity.cpu=4,tiers.free.share=2,tiers.free.quota.cpu=null"],
    ["--set", "tiers.free.model.name=flowers@3f9a2c81"],
    ["--set", "tiers.free.job.labels.a=b"],
    ["--set", "tiers.premium=null"],
    ["--set", "grafana.dashboards.enabled=true"],
    ["--set", "prometheusRule.enabled=true"],
    ["--values", CASES["extra-tier"]],
    ["--values", CASES["existing-namespaces"]],
    ["--values", CASES["job-template"]],
    ["--set-string", "jobTemplates.free\\.yaml\\.j2=edited"],
]
NEW_POD = [
    "server.tickSeconds=2",
    "server.lobbySeconds=0",
    "worker.image.tag=0.2.0",
    "server.image.tag=0.2.0",
    "pod.labels.a=b",
]


@pytest.mark.parametrize("arguments", LIVE, ids=lambda arguments: Path(arguments[1]).name)
def test_a_change_that_a_server_takes_up_restarts_no_pod(chart: Chart, arguments: list[str | Path]) -> None:
    changed = chart.objects(*arguments)
    assert changed != chart.objects()
    assert only(changed, "Deployment") == only(chart.objects(), "Deployment")


@pytest.mark.parametrize("change", NEW_POD)
def test_a_change_that_the_server_reads_once_makes_a_new_pod(chart: Chart, change: str) -> None:
    changed = only(chart.objects("--set", change), "Deployment")
    assert changed["spec"]["template"] != only(chart.objects(), "Deployment")["spec"]["template"]


def immutable(each: Object) -> Any:
    """The part of an object that nobody can change in the API server."""
    spec = each.get("spec", {})
    if each["kind"] == "Deployment":
        return spec["selector"]
    if each["kind"].endswith("RoleBinding"):
        return each["roleRef"]
    if each["kind"] == "PersistentVolumeClaim":
        return {key: value for key, value in spec.items() if key != "resources"}
    return spec.get("clusterIP")


@pytest.mark.parametrize("case", ["default", "kitchen-sink", "lending"])
def test_the_notes_tell_of_shares_what_check_tells(chart: Chart, case: str) -> None:
    done = chart.run("helm", "install", "x", ".", "--dry-run=client", "--values", CASES[case])
    notes = [line.strip() for line in done.stdout.partition("\nNOTES:\n")[2].splitlines()]
    told = list(shares(config.load(CASES[case])))
    assert [line for line in notes if re.search("Jobs in its part|nothing of the capacity", line)] == told
    assert bool(told) == (case != "default")


@pytest.mark.parametrize("case", CASES)
def test_going_from_the_defaults_to_a_case_changes_nothing_immutable(chart: Chart, case: str) -> None:
    before = {identity(each): immutable(each) for each in chart.objects()}
    after = {identity(each): immutable(each) for each in chart.case(case)}
    chosen = {("v1", "PersistentVolumeClaim", NAMESPACE, "tierserve-state")}
    if case not in ("production", "no-default-class", "eks"):  # these choose another storage class or access mode
        chosen = set()
    assert {key for key in before.keys() & after.keys() if before[key] != after[key]} == chosen


def test_prometheus_and_grafana_are_given_the_files_of_the_chart(chart: Chart) -> None:
    objects = chart.case("servicemonitor")
    rules = yaml.safe_load((CHART / "alerts" / "tierserve.yaml").read_text())
    assert only(objects, "PrometheusRule")["spec"] == rules
    text = only(objects, "ConfigMap", "tierserve-dashboard")["data"]["tierserve.json"]
    assert json.loads(text) == json.loads((CHART / "dashboards" / "tierserve.json").read_text())


def test_a_packed_chart_is_whole(chart: Chart, tmp_path: Path) -> None:
    done = chart.run("helm", "package", ".", "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    packed = chart.run("helm", "template", "tierserve", tmp_path / "tierserve-0.1.0.tgz", "--namespace", NAMESPACE)
    assert packed.returncode == 0, packed.stderr
    assert packed.stdout == chart.text()
    refused = chart.run("helm", "template", "x", tmp_path / "tierserve-0.1.0.tgz", "--set", "server.port=http")
    assert "got string, want integer" in refused.stderr
    with tarfile.open(tmp_path / "tierserve-0.1.0.tgz") as archive:
        names = [name.removeprefix("tierserve/") for name in archive.getnames()]
    given = {"files/jobtemplates/base.yaml.j2", "dashboards/tierserve.json", "alerts/tierserve.yaml"}
    assert given | {"values.schema.json"} <= set(names)
    assert not [name for name in names if name.startswith(("ci/", "tests/"))]


def test_a_tier_that_is_not_enabled_is_as_if_it_were_not_there(chart: Chart, tmp_path: Path) -> None:
    disabled, gone = chart.objects("--set", "tiers.premium.enabled=false"), chart.objects("--set", "tiers.premium=null")
    assert len(disabled) < len(chart.objects())
    found, _ = settings(disabled, tmp_path)
    assert [*found.tiers] == ["free"]
    values = only(disabled, "ConfigMap", "tierserve")
    assert [each for each in disabled if each != values] == [
        each for each in gone if identity(each) != identity(values)
    ]
