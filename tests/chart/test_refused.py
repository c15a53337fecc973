"""Values that Helm refuses, and its message for each. The cases are in bad-values.yaml."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from server.settings import documents
from server.settings import values as config
from tests.chart.charts import NAMESPACE, Chart, Refused

pytestmark = pytest.mark.cluster

BAD = documents.read(Path(__file__).parent / "bad-values.yaml").value


def message(chart: Chart, arguments: list[str | Path], **where: str) -> str:
    with pytest.raises(Refused) as caught:
        chart.text(*arguments, **where)
    return str(caught.value)


@pytest.mark.parametrize("bad", BAD, ids=[bad["case"] for bad in BAD])
def test_bad_values_are_refused_with_a_reason(chart: Chart, bad: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(bad["values"])
    said = message(chart, ["--values", tmp_path / "my.yaml"])
    assert bad["says"] in " ".join(said.split())


BY_SCHEMA = [bad for bad in BAD if bad["says"].startswith(("at '", "invalid propertyName"))]


@pytest.mark.parametrize("bad", BY_SCHEMA, ids=[bad["case"] for bad in BY_SCHEMA])
def test_what_the_schema_refuses_the_server_refuses_too(bad: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(bad["values"])
    with pytest.raises(config.ConfigError) as caught:
        config.load(tmp_path / "my.yaml")
    place = bad["says"].split("'")[1] if bad["says"].startswith("at '") else "/"
    assert any(finding.pointer.startswith(place) for finding in caught.value.findings)


def test_no_tier_runs_in_the_servers_namespace(chart: Chart) -> None:
    said = message(chart, [], namespace="tierserve-free")
    assert 'tiers.free.namespace.name is "tierserve-free", where the server itself is' in said


LONG = "r" * 53


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("tierserve", "tierserve"),
        ("my-tierserve-2", "my-tierserve-2"),
        ("v1.2", "v1-2-tierserve"),
        ("1-tierserve", "tierserve-1-tierserve"),  # no Service may have a name that starts with a digit
        ("9991103", "tierserve-9991103-tierserve"),
        ("r" * 40, f"{'r' * 40}-tierserve"),
        (LONG, f"{'r' * 41}-{hashlib.sha256(f'{LONG}-tierserve'.encode()).hexdigest()[:8]}"),
    ],
)
def test_the_name_follows_from_the_release(chart: Chart, release: str, name: str) -> None:
    services = [each for each in chart.objects(release=release, namespace=NAMESPACE) if each["kind"] == "Service"]
    assert {each["metadata"]["name"] for each in services} == {name, f"{name}-internal"}


def test_a_version_of_kubernetes_that_is_too_old(chart: Chart) -> None:
    said = message(chart, ["--kube-version", "1.28.9"])
    assert "requires kubeVersion: >=1.29.0-0 which is incompatible with Kubernetes v1.28.9" in said
    assert chart.objects("--kube-version", "v1.29.3-eks-1-29") == chart.objects()
