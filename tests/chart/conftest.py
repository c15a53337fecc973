"""The chart, with the programs that render and judge it."""

from __future__ import annotations

import os

import pytest

from tests.chart.charts import TOOLS, Chart
from tests.cluster import binaries


@pytest.fixture(scope="session")
def chart() -> Chart:
    """The chart, rendered by the pinned Helm; where that is not built the test is skipped, in CI it fails."""
    if missing := binaries.absent(TOOLS):
        command = "python -m tests.cluster binaries --all"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{', '.join(missing)}: build with {command}")
    return Chart(binaries.folder())
