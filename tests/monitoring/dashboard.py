"""The dashboard of the chart, as Grafana reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.chart.charts import CHART

DASHBOARD = CHART / "dashboards" / "tierserve.json"
ALERTS = CHART / "alerts" / "tierserve.yaml"
LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+), (?P<label>\w+)\)")


def read() -> Any:
    """The dashboard."""
    return json.loads(DASHBOARD.read_text())


@dataclass(frozen=True, slots=True)
class Query:
    """A query of a panel."""

    panel: str
    expression: str

    def filled(self, variables: Mapping[str, str]) -> str:
        """The expression with values in the place of Grafana's variables. Raises ``AssertionError`` for others."""
        return filled(self.expression, variables)


def queries() -> Iterator[Query]:
    """Every query of every panel."""
    for panel in read()["panels"]:
        for target in panel.get("targets", ()):
            yield Query(panel["title"], target["expr"])


def filled(text: str, variables: Mapping[str, str]) -> str:
    """A text with values in the place of Grafana's variables."""
    for name, value in variables.items():
        text = re.sub(rf"\${name}\b", value.replace("\\", r"\\"), text)
    assert "$" not in text, text
    return text
