"""Who may talk to whom. cyclonus evaluates the rendered NetworkPolicies, so no cluster is needed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings.manifests import job_labels
from tests.chart.charts import NAMESPACE, Chart, Object, only

pytestmark = pytest.mark.cluster

SERVER = {
    f"app.kubernetes.io/{key}": value
    for key, value in {"name": "tierserve", "instance": "tierserve", "component": "server"}.items()
}
PODS: dict[str, tuple[str, dict[str, str]]] = {
    "server": (NAMESPACE, SERVER),
    "test": (NAMESPACE, SERVER | {"app.kubernetes.io/component": "test"}),
    "neighbour": (NAMESPACE, {"app": "neighbour"}),
    "portal": (NAMESPACE, {"app": "portal"}),
    "free": ("tierserve-free", job_labels("free", "run")),
    "premium": ("tierserve-premium", job_labels("premium", "run")),
    "free in premium": ("tierserve-premium", job_labels("free", "run")),
    "free elsewhere": ("default", job_labels("free", "run")),
    "adopted": ("vision-free", job_labels("free", "run")),
    "stranger": ("tierserve-free", {"app": "stranger"}),
    "client": ("default", {"app": "portal"}),
    "other server": ("default", SERVER),
    "ingress": ("ingress", {"app": "proxy"}),
    "prometheus": ("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "grafana": ("monitoring", {"app.kubernetes.io/name": "grafana"}),
    "postgresql": ("postgresql", {"app": "postgresql"}),
    "dns": ("kube-system", {"k8s-app": "kube-dns"}),
    "openshift's dns": ("openshift-dns", {"dns.operator.openshift.io/daemonset-dns": "default"}),
    "metrics-server": ("kube-system", {"k8s-app": "metrics-server"}),
}
ADDRESSES = {
    "api": "10.96.0.1",
    "internet": "203.0.113.9",
    "metadata": "169.254.169.254",
    "node-dns": "169.254.20.10",
    "office": "10.20.1.1",
    "guests": "10.20.9.1",
    "bucket": "192.0.2.5",
    "office of IPv6": "2001:db8::7",
    "guests of IPv6": "2001:db8:1::7",
    "api of IPv6": "fd00:10:96::1",
}
DEFAULT = """
    free > server:8081                  premium > server:8081           free > dns:53/UDP
    free > dns:53/TCP                   premium > dns:53/UDP            server > dns:53/UDP
    server > api:443                    server > api:6443               client > server:8080
    internet > server:8080              ingress > server:8080           neighbour > server:8080
    test > server:8080                  test > dns:53/UDP               client > neighbour:80

    not free > server:8080              not free > other server:8081    not free > dns:80
    not free > metrics-server:53/UDP    not free > internet:443         not free > internet:53/UDP
    not free > metadata:80              not free > api:443              not free > premium:8081
    not free > free:8081                not premium > neighbour:8081    not free > free in premium:80
    not stranger > server:8081          not stranger > internet:443     not stranger > dns:53/UDP
    not free in premium > server:8081   not free elsewhere > server:8081
    not client > free:8081              not server > free:8081          not internet > premium:80
    not client > server:8081            not internet > server:8081      not neighbour > server:8081
    not test > server:8081              not prometheus > server:8081    not client > server:22
    not server > client:80              not server > internet:80        not server > metadata:80
    not server > neighbour:8080         not test > internet:443         not client > test:80
"""
OTHERS = {
    "production": """
        ingress > server:8080           test > server:8080              prometheus > server:8081
        free > server:8081              server > api:443                server > dns:53/TCP
        not client > server:8080        not internet > server:8080      not neighbour > server:8080
        not grafana > server:8081       not ingress > server:8081       not server > internet:443
    """,
    "locked-network": """
        office > server:8080            portal > server:8080            free > node-dns:53/UDP
        server > node-dns:53/UDP        prometheus > server:8081        grafana > server:8081
        not guests > server:8080        not client > server:8080        not free > dns:53/UDP
        not office > server:8081        not server > internet:6443      test > server:8080
    """,
    "replicas": """
        server > postgresql:5433        server > bucket:9000            server > api:443
        free > server:8081              not free > postgresql:5433      not free > bucket:9000
        not server > postgresql:5432    not server > internet:9000      not server > neighbour:5433
        not test > postgresql:5433      not server > bucket:5433        not test > bucket:9000
    """,
    "autoscaling": """
        server > postgresql:5432        server > internet:5432          server > bucket:443
        not server > bucket:80          not free > internet:5432        not free > bucket:443
    """,
    "postgres-only": "server > postgresql:5432   not server > bucket:9000",
    "other-ports": "not free > server:8081",
    "existing-namespaces": "adopted > server:8081   not free > server:8081   not adopted > internet:443",
    "openshift": """
        free > openshift's dns:5353/UDP     server > openshift's dns:5353/TCP   test > openshift's dns:5353/UDP
        not free > openshift's dns:53/UDP   not free > dns:53/UDP               not free > internet:5353/UDP
        free > server:8081                  client > server:8080                server > api:443
    """,
    "ipv6": """
        office of IPv6 > server:8080        not guests of IPv6 > server:8080    not office > server:8080
        server > api of IPv6:443            not server > api:443                not office of IPv6 > server:8081
    """,
    "one-tier": "free > server:8081   not premium > server:8081",
}


def end(name: str) -> dict[str, Any]:
    """A pod, or an address outside the cluster, in cyclonus' format."""
    if name in ADDRESSES:
        return {"IP": ADDRESSES[name]}
    namespace, labels = PODS[name]
    names = {"kubernetes.io/metadata.name": namespace}
    internal = {"PodLabels": labels, "NamespaceLabels": names, "Namespace": namespace}
    return {"Internal": internal, "IP": f"10.244.0.{list(PODS).index(name) + 1}"}


def verdicts(chart: Chart, objects: list[Object], pairs: list[str], folder: Path) -> dict[str, bool]:
    """Whether each of ``source > destination:port/protocol`` is allowed."""
    traffic = []
    for pair in pairs:
        source, destination, port, protocol = re.fullmatch(r"(.+) > (.+):(\d+)(?:/(\w+))?", pair).groups()  # type: ignore[union-attr]
        ends = {"Source": end(source), "Destination": end(destination)}
        traffic.append(ends | {"ResolvedPort": int(port), "Protocol": protocol or "TCP"})
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    (folder / "policies").mkdir()
    for number, each in enumerate(policies):  # one file each: cyclonus reads only the first document of a file
        (folder / "policies" / f"{number}.yaml").write_text(yaml.safe_dump(each))
    (folder / "traffic.json").write_text(json.dumps(traffic))
    files: list[str | Path] = ["--policy-path", folder / "policies", "--traffic-path", folder / "traffic.json"]
    done = chart.run("cyclonus", "analyze", "--mode", "query-traffic", *files)
    allowed = re.findall(r"IS ALLOWED\? +\| +(TRUE|FALSE)", done.stdout)
    assert len(allowed) == len(pairs), done.stdout + done.stderr
    return {pair: word == "TRUE" for pair, word in zip(pairs, allowed, strict=True)}


@pytest.mark.parametrize(("case", "table"), [("default", DEFAULT), *OTHERS.items()], ids=["default", *OTHERS])
def test_the_table_of_allowed_and_denied_pairs(chart: Chart, case: str, table: str, tmp_path: Path) -> None:
    rows = re.split(r"\s{2,}", table.strip())
    expected = {row.removeprefix("not "): not row.startswith("not ") for row in rows}
    assert verdicts(chart, chart.case(case), list(expected), tmp_path) == expected


def test_the_table_speaks_of_the_pods_that_there_are(chart: Chart) -> None:
    objects = chart.objects()
    assert only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"].items() >= PODS["server"][1].items()
    assert only(objects, "Pod", "tierserve-test-free")["metadata"]["labels"].items() >= PODS["test"][1].items()
    tiers = {each["metadata"]["namespace"] for each in objects if each["kind"] == "LimitRange"}
    assert tiers == {PODS["free"][0], PODS["premium"][0]}


def test_every_policy_names_both_directions(chart: Chart) -> None:
    policies = [each for each in chart.objects() if each["kind"] == "NetworkPolicy"]
    assert len(policies) == 6
    for each in policies:
        assert each["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_without_policies_there_are_none(chart: Chart) -> None:
    assert [each for each in chart.case("no-network-policies") if each["kind"] == "NetworkPolicy"] == []
