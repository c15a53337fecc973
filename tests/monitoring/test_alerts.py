"""The alerts, as promtool reads and tries them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster import binaries
from tests.monitoring.dashboard import ALERTS
from tests.running import lacking

pytestmark = pytest.mark.cluster

CASES = Path(__file__).parent / "alerts.yaml"
SECONDS = 60


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if binaries.absent(["promtool"]):
        lacking("promtool: build with python -m tests.cluster binaries promtool")
    argv = [str(binaries.folder() / "promtool"), *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)


def names(path: Path = ALERTS) -> set[str]:
    return {rule["alert"] for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]}


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(names())} rules found" in done.stdout


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    done = promtool("test", "rules", CASES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names()
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names()


def test_a_rule_that_never_fires_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "tierserve.yaml").write_text(ALERTS.read_text().replace("tierserve_tier_healthy", "tier_health"))
    cases = CASES.read_text().replace("../../chart/alerts/tierserve.yaml", "tierserve.yaml")
    (tmp_path / "alerts.yaml").write_text(cases)
    done = promtool("test", "rules", tmp_path / "alerts.yaml")
    assert done.returncode != 0
    assert "TierserveTierUnhealthy" in done.stdout + done.stderr
