"""Rows 1, 2 and 8 of the list of faults: a server killed before and after each durable step loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.points import Point
from tests.faults.databases import SQLITE, Database
from tests.faults.kills import kills

pytestmark = [pytest.mark.faults, pytest.mark.timeout(480)]

LIVES = {SQLITE: 3, "postgresql": 2}


def test_01_a_server_killed_at_every_named_point_loses_nothing(
    models: Path, tmp_path: Path, each_database: Database, seed: int
) -> None:
    figures = kills(tmp_path, models, LIVES[each_database.name] * len(Point), seed, each_database)
    print(figures.table())  # noqa: T201
    assert figures.violations == []
    assert figures.accepted > len(Point)
    missed = {point.value for point in Point} - figures.kills.keys()
    assert not missed


@pytest.mark.parametrize(
    ("sabotage", "rules"),
    [
        ("owners", {"strangers_see_nothing", "owners_are_apart", "lists_are_whole"}),
        ("limits", {"limits_hold"}),
        ("events", {"ends_once"}),
    ],
)
def test_a_server_that_breaks_its_promises_to_callers_is_found(
    models: Path, tmp_path: Path, seed: int, sabotage: str, rules: set[str]
) -> None:
    figures = kills(tmp_path, models, 3, seed, Database(), life_seconds=5.0, sabotage=sabotage)
    assert {one.rule for one in figures.violations} & rules, figures.table()
