"""Work on many rows, page by page, that leaves the database time for everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from server.leader.answers import answer
from server.leader.term import Term

T = TypeVar("T")

LONGEST_REST = 1.0


def pages(ask: Callable[[], Future[T]], term: Term, clock: Callable[[], float] = time.monotonic) -> Iterator[T]:
    """The answers of an operation that does one page each time, until the term is over; the caller stops at the last.

    Between two pages it rests for as long as the first took, but at most for ``LONGEST_REST`` seconds. So other
    operations get half of the writer's time, and none waits for more than one page.
    """
    while not term.over:
        began = clock()
        page = answer(ask())
        took = clock() - began
        yield page
        term.rest(min(took, LONGEST_REST))
