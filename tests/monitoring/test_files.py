"""The files of the dashboard and of the alerts. These tests need no other program."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import yaml

from tests.monitoring import dashboard
from tests.running import ROOT

PANELS = [panel for panel in dashboard.read()["panels"] if panel["type"] != "row"]
RULES = [rule for group in yaml.safe_load(dashboard.ALERTS.read_text())["groups"] for rule in group["rules"]]
METRIC = re.compile(r"\b(?:tierserve|process)_\w+")


def exported() -> Iterator[str]:
    """The names of the series of every metric of docs/metrics.md."""
    table = re.findall(r"^\| `(\w+)` \| (\w+)", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    for name, kind in table:
        yield from (f"{name}_{part}" for part in ("bucket", "sum", "count")) if kind == "histogram" else (name,)


def test_rows_answer_the_questions_in_order() -> None:
    rows = [panel["title"] for panel in dashboard.read()["panels"] if panel["type"] == "row"]
    assert rows == [
        "Is it well?",
        "Who waits, and why?",
        "Quotas and workers",
        "Speed by stage",
        "Errors by code",
        "Storage and servers",
    ]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_explains_itself_and_has_a_unit(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["options"]["yAxis"]["unit"] if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"]["unit"]
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def test_panels_have_ids_titles_and_places_of_their_own() -> None:
    panels = dashboard.read()["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_every_query_is_of_metrics_that_are_exported_and_of_one_release() -> None:
    known = set(exported())
    for query in dashboard.queries():
        names = METRIC.findall(query.expression)
        assert names, query
        assert set(names) <= known, query
        selectors = re.findall(r"\b(?:tierserve|process)_\w+(\{[^}]*\})?", query.expression)
        assert all('namespace=~"$namespace", job=~"$release"' in selector for selector in selectors), query


def test_every_alert_is_of_metrics_that_are_exported_and_says_what_it_means() -> None:
    known = set(exported())
    for rule in RULES:
        assert set(METRIC.findall(rule["expr"])) <= known, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert all(rule["annotations"][key].endswith(".") for key in ("summary", "description")), rule["alert"]


def test_the_dashboard_is_written_as_a_program_writes_it() -> None:
    text = dashboard.DASHBOARD.read_text()
    assert text == json.dumps(json.loads(text), indent=2) + "\n", "so that its changes can be read"
