"""What becomes of the models of tiers besides the leader's decisions: at a server's start, and by a rollback."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TypeVar

from server.models.catalog import Catalog
from server.models.deciding import decide, roll_back, startable
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


def unserved(queue: Queue, catalog: Catalog, tiers: Mapping[str, Tier]) -> dict[str, tuple[str, str]]:
    """The tiers whose model cannot be served: why, and the reference of what they go on with (empty: nothing).

    Blocks. Raises what the queue raises.
    """
    catalog.refresh()
    serving, found = _answer(queue.serving()), {}
    for name, tier in tiers.items():
        try:
            catalog.usable(tier, tier.model.name)
        except NoModel as error:
            now = decide(tier.model, serving.get(name, Serving()), partial(catalog.usable, tier), 0.0)
            instead = now.main.reference if now.main and startable(now, tier.model) else ""
            found[name] = str(error), instead
    return found


def _answer(future: Future[T]) -> T:
    return future.result(ANSWER_SECONDS)
