"""The chart and the server evaluate ``chart/rules.yaml`` alike, whatever the values are.

How it could break: the two parse or compare a quantity differently, such as ``.5``, ``1E`` and ``1E2``, or
``128974848000m``; print a number or a text differently; take a default into account on one side only; disagree about a
regular expression, about empty values, or about the order of keys. One run of Helm judges many values at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from server.settings import rules
from server.settings import values as config
from tests.chart.charts import Chart, Refused
from tests.chart.test_refused import sentences

pytestmark = pytest.mark.cluster

EXAMPLES = 5  # of about a second each
TIERS = 25

FORMS = {form["form"]: form for form in rules.book()["forms"]}
SUFFIXES = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-2", "e+1"]
ODD = ["128974848000m", "1e3", ".5", "5.", "0.5", "500m", "1Ki", "1E", "1E2", "0.1", "100m", "0e9", "99e99", "1e-99"]

numbers = st.decimals(0, 10**6, places=3).map(lambda number: f"{number:f}") | st.integers(0, 2**40).map(str)
written = st.sampled_from(ODD) | st.builds(lambda number, suffix: number + suffix, numbers, st.sampled_from(SUFFIXES))
quantities = written | st.integers(0, 2**45) | st.floats(0, 2**50)
counts = st.integers(1, 6)
# What a file of YAML may have without escapes.
characters = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"], exclude_characters="\ufeff") | st.sampled_from(
    "\n\t"
)
texts = st.text(characters, min_size=1, max_size=12)


def tier(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """A tier of which many keys may be left out, and few are what they should be."""
    seconds = st.integers(1, 9) | st.floats(1, 9)
    return st.fixed_dictionaries(
        {
            "namespace": st.fixed_dictionaries({"name": st.sampled_from(["one", "two", name])}),
            "template": st.sampled_from(["free.yaml.j2", "fre.yaml.j2"]),
            "model": st.fixed_dictionaries(
                {"name": st.just("m")},
                optional={"runtime": st.sampled_from(["onnx", "timm"]), "variant": st.sampled_from(["int8", "fp32"])},
            ),
            "quota": st.fixed_dictionaries({}, optional={"cpu": quantities, "memory": quantities, "gpus": counts}),
        },
        optional={
            "share": st.integers(1, 3),
            "job": st.fixed_dictionaries(
                {},
                optional={
                    "cpu": quantities,
                    "memory": quantities,
                    "gpus": counts,
                    "batch": counts,
                    "deadlineSeconds": counts,
                    "graceSeconds": counts,
                },
            ),
            "waits": st.fixed_dictionaries(
                {},
                optional={f"{key}Seconds": seconds for key in ("sync", "queue", "idle", "start")},
            ),
            "limits": st.fixed_dictionaries(
                {},
                optional={
                    "images": counts,
                    "imageBytes": st.integers(1024, 1100),
                    "queueBytes": st.integers(1024, 6000),
                },
            ),
        },
    )


def agree(chart: Chart, tmp_path: Path, helm: str, values: dict[str, Any]) -> list[str]:
    """Judge values by Helm and by ``check``; return what both said."""
    file = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
    file.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    try:
        chart.text("--values", file, helm=helm)
        said = []
    except Refused as refused:
        said = sentences(str(refused))
        assert said, str(refused)
    found: Iterator[str] = iter(())
    try:
        config.load(file)
    except config.ConfigError as error:
        found = (finding.message for finding in error.findings)
    assert said == list(found)
    return said


several = settings(
    max_examples=EXAMPLES,
    phases=[Phase.generate],  # to make a failing example smaller would take hundreds of runs of Helm
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@several
@given(data=st.data(), helm=st.sampled_from(["helm", "helm3"]))
def test_tiers_and_leases(chart: Chart, tmp_path: Path, data: st.DataObject, helm: str) -> None:
    names = [f"t{number}" for number in range(TIERS)]
    lease = st.fixed_dictionaries({}, optional={"seconds": st.floats(0.2, 20), "heartbeatSeconds": st.floats(0.1, 20)})
    capacity = st.fixed_dictionaries({}, optional={"cpu": quantities, "memory": quantities, "gpus": counts})
    values = {
        "capacity": data.draw(capacity),
        "server": {"lease": data.draw(lease), "port": data.draw(st.sampled_from([8080, 8081]))},
        "tiers": {name: data.draw(tier(name)) for name in names},
    }
    assert agree(chart, tmp_path, helm, values)


@several
@given(data=st.data(), helm=st.sampled_from(["helm", "helm3"]))
def test_texts_and_names(chart: Chart, tmp_path: Path, data: st.DataObject, helm: str) -> None:
    def some(form: str, most: int = 10) -> list[str]:
        good = st.from_regex(FORMS[form]["pattern"], fullmatch=True).filter(
            lambda text: len(text) <= 20
        )  # the least maxLength
        return data.draw(st.lists(texts | good, min_size=most, max_size=most, unique=True))

    origins = [f"{each}{port}" for each in ("http://a", "https://b") for port in ("", ":80", ":443")]
    values = {
        "server": {
            "hosts": some("host"),
            "trustedProxies": some("network"),
            "cors": {"origins": [*origins, *some("origin")]},
            "host": some("address", 1)[0],
        },
        "commonLabels": dict(zip(some("key"), some("label"), strict=True)),
        "pod": {
            "annotations": dict.fromkeys(some("key"), "x"),
            "extraEnv": [{"name": name} for name in (*some("variable", 3), "A", "TIERSERVE_BLOBS_URL", "A")],
        },
        "database": {"secretKey": some("secretKey", 1)[0]},
        "blobs": {"url": some("bucket", 1)[0]},
        "serviceMonitor": {"interval": some("interval", 1)[0]},
        "tiers": {
            "free": {
                "model": {"name": some("model", 1)[0]},
                "job": {"env": dict.fromkeys([*some("variable"), "TIERSERVE_X"], ""), "gpuResource": "a"},
            }
        },
    }
    said = agree(chart, tmp_path, helm, values)
    assert any(re.search("browsers leave out", sentence) for sentence in said)
