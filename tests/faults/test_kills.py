"""Rows 1, 2 and 8 of the list of faults: a server killed before and after each durable step loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.points import Point
from tests.faults.databases import SQLITE, Database
from tests.faults.kills import kills

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

LIVES = {SQLITE: 4, "postgresql": 3}


def test_01_a_server_killed_at_every_named_point_loses_nothing(
    models: Path, tmp_path: Path, each_database: Database, seed: int
) -> None:
    figures = kills(tmp_path, models, LIVES[each_database.name] * len(Point), seed, each_database)
    print(figures.table())  # noqa: T201
    assert figures.violations == []
    assert figures.accepted > len(Point)
    missed = {point.value for point in Point} - figures.kills.keys()
    assert not missed
