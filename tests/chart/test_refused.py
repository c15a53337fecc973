"""Values that Helm and ``check`` refuse, and what is said of each. The cases are in bad-values.yaml.

How it could break: Helm accepts what the server refuses at its start; the two say different things; Helm 3 evaluates a
rule otherwise than Helm 4 does; a rule is never broken by anything.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from server.settings import documents, merging, rules
from server.settings import values as config
from server.settings.documents import Finding
from tests.chart.charts import NAMESPACE, Chart, Refused

pytestmark = pytest.mark.cluster

BOOK = [*rules.book()["forms"], *rules.book()["rules"]]
BAD = documents.read(Path(__file__).parent / "bad-values.yaml").value
OF_SCHEMA = [bad for bad in BAD if bad["says"].startswith(("at '", "invalid propertyName"))]
OF_RULES = [bad for bad in BAD if bad not in OF_SCHEMA]


def message(chart: Chart, arguments: list[str | Path], **where: str) -> str:
    with pytest.raises(Refused) as caught:
        chart.text(*arguments, **where)
    return str(caught.value)


def sentences(said: str) -> list[str]:
    """What the chart's own rules say, a line each."""
    found = said.partition("NOTES.txt:1:4): ")[2].partition("\n\n")[0]
    return found.split("\n") if found else []


def checked(values: Path) -> list[Finding]:
    """What ``check`` finds in a file of values."""
    try:
        config.load(values)
    except config.ConfigError as error:
        return list(error.findings)
    return []


@pytest.mark.parametrize("bad", OF_SCHEMA, ids=[bad["case"] for bad in OF_SCHEMA])
def test_what_helm_and_check_refuse_by_the_schema(chart: Chart, bad: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(bad["values"])
    assert bad["says"] in " ".join(message(chart, ["--values", tmp_path / "my.yaml"]).split())
    place = bad["says"].split("'")[1] if bad["says"].startswith("at '") else "/"
    assert any(finding.pointer.startswith(place) for finding in checked(tmp_path / "my.yaml"))


@pytest.mark.parametrize("bad", OF_RULES, ids=[bad["case"] for bad in OF_RULES])
def test_what_helm_and_check_refuse_with_the_same_sentences(chart: Chart, bad: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(bad["values"])
    said = sentences(message(chart, ["--values", tmp_path / "my.yaml"]))
    assert bad["says"] in said
    assert [finding.message for finding in checked(tmp_path / "my.yaml")] == ([] if bad.get("cluster") else said)


def test_helm_3_says_it_too(chart: Chart, tmp_path: Path) -> None:
    one = documents.Document({}, "all", {})
    for bad in OF_RULES:
        if not bad.get("cluster"):
            one = merging.merge(one, documents.parse(bad["values"], bad["case"]))
    del one.value["jobTemplates"]  # which would be named among the templates that there are
    (tmp_path / "my.yaml").write_text(json.dumps(one.value))
    said = [sentences(message(chart, ["--values", tmp_path / "my.yaml"], helm=helm)) for helm in ("helm", "helm3")]
    assert said == [[finding.message for finding in checked(tmp_path / "my.yaml")]] * 2
    assert len(said[0]) > len(rules.book()["forms"])


@pytest.mark.parametrize("number", range(len(BOOK)))
def test_every_form_and_every_rule_has_a_bad_value(number: int) -> None:
    entry = BOOK[number]
    told = entry["says"] if "says" in entry else f"{{}}: not {entry['is']}"
    pattern = re.sub(r"\\\{[^}]*\\\}", ".*", re.escape(told))
    assert any(re.fullmatch(pattern, bad["says"]) for bad in BAD), told


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
