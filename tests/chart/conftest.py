"""The chart's programs, built once."""

from __future__ import annotations

import os

import pytest

from tests.chart.charts import TOOLS, Chart
from tests.cluster import binaries
from tests.cluster.shell import ClusterError


@pytest.fixture(scope="session")
def chart() -> Chart:
    """The chart, rendered by the pinned Helm; without it the test is skipped, in CI it fails."""
    try:
        return Chart(binaries.ensure(TOOLS, print))
    except ClusterError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(f"{error}. They are built by: make test-cluster")
