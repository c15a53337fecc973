"""How often something was changed that servers keep in memory: they read it again when its number has grown."""

from __future__ import annotations

import sqlalchemy as sa

from server.queue.operations.moves import bind
from server.queue.store.tables import changes
from server.queue.store.transactions import Transaction

_NUMBER = sa.select(changes.c.number).where(changes.c.name == bind("name"))
_COUNT = sa.update(changes).where(changes.c.name == bind("row")).values(number=changes.c.number + 1)
_COUNT_FIRST = sa.insert(changes).values(name=bind("row"), number=1)


def count_change(tx: Transaction, name: str) -> None:
    """Count one more change of what has this name in the table ``changes``."""
    if tx.change(_COUNT, {"row": name}) == 0:
        tx.change(_COUNT_FIRST, {"row": name})


def number_of(tx: Transaction, name: str) -> int:
    """How often it was changed."""
    row = tx.first(_NUMBER, name=name)
    return int(row.number) if row is not None else 0
