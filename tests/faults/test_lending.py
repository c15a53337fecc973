"""Tiers lend each other quota while servers and workers die. A server that counts a recall as an attempt is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.databases import Database
from tests.faults.lending import BETWEEN_FAULTS
from tests.faults.mixed import Manner, run

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

SECONDS = 40.0
FAULTS = (
    "worker-kill",
    "worker-term",
    "worker-hang",
    "server-kill",
    "server-term",
    "database-restart",
    "database-kill",
)


def recalls(folder: Path) -> int:
    """How many workers were recalled, by the log of the servers."""
    return (folder / "server.log").read_text().count("lent quota went back to")


def test_54_recalls_while_workers_and_servers_die_cost_nothing(
    models: Path, tmp_path: Path, each_database: Database, seed: int
) -> None:
    figures = run(tmp_path, models, SECONDS, seed, each_database, FAULTS, manner=Manner(BETWEEN_FAULTS, lending=True))
    print(figures.table())  # noqa: T201
    assert figures.violations == []
    assert recalls(tmp_path)


def test_a_server_that_counts_recalls_as_attempts_is_found(models: Path, tmp_path: Path, seed: int) -> None:
    manner = Manner(BETWEEN_FAULTS, sabotage="recalls", lending=True)
    figures = run(tmp_path, models, 15.0, seed, Database(), ("liars",), manner=manner)
    print(figures.table())  # noqa: T201
    assert recalls(tmp_path)
    assert "recalls_cost_nothing" in {one.rule for one in figures.violations}
