"""The chart's own suites in ``chart/tests``, run by helm-unittest."""

from __future__ import annotations

import re

import pytest

from tests.chart.charts import CHART, Chart

pytestmark = pytest.mark.cluster

SUITES = len(list(CHART.glob("tests/*_test.yaml")))


def test_every_suite_passes(chart: Chart) -> None:
    done = chart.run("untt", ".")
    assert f"Test Suites: {SUITES} passed, {SUITES} total" in done.stdout, done.stdout


def test_every_template_is_in_a_suite() -> None:
    suites = "".join(path.read_text() for path in CHART.glob("tests/*_test.yaml"))
    templates = {str(path.relative_to(CHART / "templates")) for path in CHART.glob("templates/*/*.yaml")}
    assert {name for name in templates if not re.search(rf"\b{re.escape(name)}\b", suites)} == set()
