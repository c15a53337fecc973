"""Statements that are compiled once and run by the driver give what SQLAlchemy would give."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from server.queue.store.statements import Statements
from server.queue.store.tables import predictions
from server.queue.store.transactions import Transaction
from tests.server.queue.queue_world import World

_p = predictions.c
AMONG = sa.select(_p.id, _p.solo, sa.literal(1)).where(_p.id.in_(sa.bindparam("ids", expanding=True)))
RENAME = sa.update(predictions).where(_p.id == sa.bindparam("of")).values(solo=sa.bindparam("alone"), attempts=3)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 64, 500])
def test_a_list_of_any_length_finds_its_rows_and_no_other(world: World, size: int) -> None:
    ids = [world.submit() for _ in range(6)]
    asked = [*ids[:5], *(f"p{number}" for number in range(size))][:size]
    found = world.database.read(lambda tx: [row.id for row in tx.rows(AMONG, ids=asked)]).result()
    assert sorted(found) == sorted(ids[: min(size, 5)])


def test_lists_of_many_lengths_make_few_statements(world: World) -> None:
    def ask(tx: Transaction) -> None:
        for size in range(501):
            tx.rows(AMONG, ids=[f"p{number}" for number in range(size)])

    world.database.read(ask).result()
    assert len(world.database._statements._sized) <= 11


def test_values_and_columns_have_the_types_of_the_tables(world: World) -> None:
    first, second = world.submit(), world.submit()

    def change(tx: Transaction) -> tuple[int, int]:
        one = tx.change(RENAME, {"of": first, "alone": True})
        return one, tx.change(RENAME, [{"of": key, "alone": key == second} for key in (first, second, "nobody")])

    assert world.database.write(change).result() == (1, 2)
    rows = world.database.read(lambda tx: tx.rows(AMONG, ids=[first, second])).result()
    assert {row.id: row.solo for row in rows} == {first: False, second: True}
    assert all(type(row.solo) is bool for row in rows)
    assert [row[2] for row in rows] == [1, 1]


def test_a_value_that_is_missing_is_no_null(world: World) -> None:
    key = world.submit()
    with pytest.raises(KeyError):
        world.database.write(lambda tx: tx.change(RENAME, [{"of": key, "alone": True}, {"of": key}])).result()
    statements = Statements(world.database._statements._dialect)
    with pytest.raises(sa.exc.InvalidRequestError, match="alone"):
        statements(RENAME, {"of": key})
