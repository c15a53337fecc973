"""A row of the list of faults, and where its tests are."""

from __future__ import annotations

from dataclasses import dataclass

SINGLE, STARTING = "tests/faults/test_faults.py", "tests/faults/test_starting_faults.py"
KILLS, CALLERS, FULL = "tests/faults/test_kills.py", "tests/faults/test_callers.py", "tests/faults/test_full_disk.py"
LOBBY, LENDING = "tests/faults/test_lobby.py", "tests/faults/test_lending.py"
SERVICE, SERVER, MODEL, E2E = "tests/service", "tests/server", "tests/model", "tests/e2e"
HOSTILE = "tests/hostile"
QUEUE, HTTP = f"{SERVER}/queue", f"{SERVER}/http"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault, with its tests, or with the ``reason`` why it has none.

    ``tests`` are paths with the test's name after ``::``. ``faults`` are those that a long run injects for it.
    """

    number: int
    what: str
    tests: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    reason: str = ""
