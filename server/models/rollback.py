"""What an operator's rollback does to a tier, while the leader may decide something else."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TypeVar

from server.models.catalog import Catalog
from server.models.deciding import decide, roll_back
from server.models.folder import NoModel
from server.queue import Collided, Queue, Serving
from server.settings.records import Tier

ANSWER_SECONDS = 30.0  # longer than the database may take for a statement or a lock
TRIES = 5

T = TypeVar("T")


def rolled_back(queue: Queue, catalog: Catalog, tier: Tier, now: float, *, undo: bool) -> Serving:
    """Have the tier serve what it served before, or (``undo``) what its settings name again; what it serves then.

    Blocks. Raises ``NoModel`` where nothing changes, and what the queue raises.
    """
    catalog.refresh()
    resolve = partial(catalog.usable, tier)
    for _ in range(TRIES):
        before = _answer(queue.serving()).get(tier.name, Serving())
        if not undo:
            after = roll_back(tier.model, before, resolve, now)
        elif before.instead_of:
            after = decide(tier.model, replace(before, instead_of=""), resolve, now)
        else:
            raise NoModel(f"the tier {tier.name} was not rolled back")
        if _answer(queue.serve(tier.name, after, before)):
            return after
    raise Collided("the leader decided something else at the same time, again and again")


def _answer(future: Future[T]) -> T:
    return future.result(ANSWER_SECONDS)
