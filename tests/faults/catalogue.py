"""Every row of the list of faults, with the tests that cover it, or with the reason why it cannot be tested here.

The rows are in five modules, by what a fault hits or where it comes from. Their numbers never change, because tests are
named after them.
"""

from __future__ import annotations

from tests.faults.row import Row
from tests.faults.rows_of_callers import CALLER_ROWS
from tests.faults.rows_of_cluster import CLUSTER_ROWS
from tests.faults.rows_of_lobby import LOBBY_ROWS
from tests.faults.rows_of_processes import PROCESS_ROWS
from tests.faults.rows_of_surroundings import SURROUNDING_ROWS

ROWS = 54

_BY_SUBJECT = (*PROCESS_ROWS, *CLUSTER_ROWS, *SURROUNDING_ROWS, *CALLER_ROWS, *LOBBY_ROWS)
CATALOGUE: tuple[Row, ...] = tuple(sorted(_BY_SUBJECT, key=lambda row: row.number))


def table() -> str:
    """The whole list as text, one fault after another, for ``python -m tests.faults list``."""
    lines = []
    for row in CATALOGUE:
        lines.append(f"{row.number:>2}  {row.what}")
        lines += [f"      {test}" for test in row.tests]
        lines += [f"      injected by long runs: {', '.join(row.faults)}"] if row.faults else []
        lines += [f"      {row.reason}"] if row.reason else []
    return "\n".join(lines)
