"""The chart, with the programs that render and check it."""

from __future__ import annotations

import pytest

from tests.chart.charts import TOOLS, Chart
from tests.cluster import binaries
from tests.running import lacking


@pytest.fixture(scope="session")
def chart() -> Chart:
    """The chart, rendered by the pinned Helm. Where Helm is not built the test is skipped, and in CI it fails."""
    if missing := binaries.absent(TOOLS):
        lacking(f"{', '.join(missing)}: build with python -m tests.cluster binaries --all")
    return Chart(binaries.folder())
