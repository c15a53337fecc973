"""The list of faults is complete, and the tests and faults that it names exist."""

from __future__ import annotations

import re

import pytest

from tests.faults.catalogue import CATALOGUE, ROWS, table
from tests.faults.faults import FAULTS
from tests.faults.row import Row
from tests.running import ROOT


def test_every_fault_is_accounted_for_once() -> None:
    assert [row.number for row in CATALOGUE] == list(range(1, ROWS + 1))


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: str(row.number))
def test_what_is_named_is_there(row: Row) -> None:
    assert row.tests or row.reason
    for test in row.tests:
        path, _, name = test.partition("::")
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), test
    assert set(row.faults) <= FAULTS.keys()


def test_every_fault_of_long_runs_is_listed() -> None:
    assert {name for row in CATALOGUE for name in row.faults} == FAULTS.keys()
    assert len(table().splitlines()) > ROWS
