"""The tables, their indexes and counters, and what older ones lack.

Statements over them stand beside the operations that use them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from server.queue.facts.states import FINAL, Status

VERSION = 2  # of everything in this file; stored in the database itself

metadata = sa.MetaData()


def literal(status: Status) -> sa.ColumnElement[str]:
    """The state as part of the SQL text: a partial index is only taken when its condition can be read there."""
    return sa.literal_column(f"'{status.value}'", sa.Text)


def _index(name: str, *columns: sa.ColumnElement[Any], where: sa.ColumnElement[bool], unique: bool = False) -> None:
    sa.Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


def _in(statuses: frozenset[Status]) -> str:
    return "(" + ", ".join(sorted(f"'{status.value}'" for status in statuses)) + ")"


predictions = sa.Table(
    "predictions",
    metadata,
    # The order of arrival. No AUTOINCREMENT: a new row gets more than any row still there, which is all FIFO needs.
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("images", sa.Integer, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("top_k", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("fingerprint", sa.Text),
    sa.Column("accepted_at", sa.Float, nullable=False),
    sa.Column("deadline_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("completed_at", sa.Float),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("solo", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("job", sa.Text),
    sa.Column("token", sa.Text),  # of the lease it is in, or of the one that finished it
    sa.Column(
        "lost_tokens", sa.Text, nullable=False, server_default=""
    ),  # of its lost leases, each followed by a space
    sa.Column("lease_until", sa.Float),
    sa.Column("results", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("predict_ms", sa.Float),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.CheckConstraint(f"status IN {_in(frozenset(Status))}"),
    sa.CheckConstraint(f"(completed_at IS NOT NULL) = (status IN {_in(FINAL)})"),
    sa.CheckConstraint("(lease_until IS NOT NULL) = (status = 'leased')"),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("opened_at", sa.Float, nullable=False),
    sa.Column("asked_at", sa.Float),
    sa.Column("leased_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("blamed", sa.Boolean, nullable=False),
    sa.Column("heard_at", sa.Float),
)

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("view", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

# Kept by the triggers below: counting 10,000 waiting rows takes 0.4 ms, twice as long as a whole submit. A tier's depth
# is the sum over its slots; with several writers, each has a slot of its own, or they would wait for each other.
depths = sa.Table(
    "depths",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("queued", sa.Integer, nullable=False),
    sa.Column("leased", sa.Integer, nullable=False),
)

_p = predictions.c
_queued = _p.status == literal(Status.QUEUED)
_leased = _p.status == literal(Status.LEASED)
# With the status, though it is the same in every entry: without it, SQLite looks at each row that it counts.
_index("predictions_queue", _p.tier, _p.priority, _p.seq, _p.status, where=_queued)
_index("predictions_deadline", _p.tier, _p.deadline_at, where=_queued)
_index("predictions_lease", _p.tier, _p.lease_until, where=_leased)
_index("predictions_holder", _p.job, where=_leased)
_index("predictions_completed", _p.tier, _p.completed_at, where=_p.completed_at.is_not(None))
_keyed = _p.idempotency_key.is_not(None)
_index("predictions_key", _p.owner, _p.tier, _p.idempotency_key, where=_keyed, unique=True)
_index("jobs_live", jobs.c.opened_at, where=jobs.c.ended_at.is_(None))
sa.Index("jobs_tier", jobs.c.tier, jobs.c.ended_at)
_index("jobs_ended", jobs.c.ended_at, where=jobs.c.ended_at.is_not(None))

_TRIGGERS = {
    "sqlite": (
        """
        CREATE TRIGGER predictions_inserted AFTER INSERT ON predictions BEGIN
            INSERT INTO depths (tier, slot, queued, leased)
            VALUES (new.tier, 0, new.status = 'queued', new.status = 'leased')
            ON CONFLICT (tier, slot) DO UPDATE SET queued = queued + excluded.queued, leased = leased + excluded.leased;
        END
        """,
        """
        CREATE TRIGGER predictions_moved AFTER UPDATE OF status ON predictions BEGIN
            UPDATE depths SET
                queued = queued - (old.status = 'queued') + (new.status = 'queued'),
                leased = leased - (old.status = 'leased') + (new.status = 'leased')
            WHERE tier = new.tier;
        END
        """,
        """
        CREATE TRIGGER predictions_deleted AFTER DELETE ON predictions WHEN old.completed_at IS NULL BEGIN
            UPDATE depths SET queued = queued - (old.status = 'queued'), leased = leased - (old.status = 'leased')
            WHERE tier = old.tier;
        END
        """,
    ),
    "postgresql": (
        """
        CREATE FUNCTION predictions_counted() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            of_tier text := coalesce(new.tier, old.tier);
            was text := coalesce(old.status, '');
            is_now text := coalesce(new.status, '');
            more_queued integer := (is_now = 'queued')::int - (was = 'queued')::int;
            more_leased integer := (is_now = 'leased')::int - (was = 'leased')::int;
        BEGIN
            IF more_queued <> 0 OR more_leased <> 0 THEN
                INSERT INTO depths AS d (tier, slot, queued, leased)
                VALUES (of_tier, mod(pg_backend_pid(), 64), more_queued, more_leased)
                ON CONFLICT (tier, slot) DO UPDATE
                SET queued = d.queued + excluded.queued, leased = d.leased + excluded.leased;
            END IF;
            RETURN NULL;
        END $$
        """,
        """
        CREATE TRIGGER predictions_counted AFTER INSERT OR DELETE OR UPDATE OF status ON predictions
        FOR EACH ROW EXECUTE FUNCTION predictions_counted()
        """,
        # Rows come and go all the time: without it, dead ones would slow the look for the next to lease.
        "ALTER TABLE predictions SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)",
        "ALTER TABLE depths SET (fillfactor = 20, autovacuum_vacuum_threshold = 500)",
    ),
}

# What makes version N of version N - 1.
_STEPS = {
    2: {
        "sqlite": (
            "ALTER TABLE jobs ADD COLUMN heard_at FLOAT",
            "DROP TRIGGER predictions_inserted",
            "DROP TRIGGER predictions_moved",
            "DROP TRIGGER predictions_deleted",
            "ALTER TABLE depths RENAME TO depths_1",
            "CREATE TABLE depths (tier TEXT NOT NULL, slot INTEGER NOT NULL, queued INTEGER NOT NULL, "
            "leased INTEGER NOT NULL, PRIMARY KEY (tier, slot))",
            "INSERT INTO depths SELECT tier, 0, queued, leased FROM depths_1",
            "DROP TABLE depths_1",
            *_TRIGGERS["sqlite"],
        )
    }
}


def bring_up(connection: sa.Connection, found: int) -> None:
    """Make everything above in an empty database (``found`` is 0), or of what version ``found`` left."""
    dialect = connection.dialect.name
    if found == 0:
        metadata.create_all(connection, checkfirst=False)
        statements: tuple[str, ...] = _TRIGGERS[dialect]
    else:
        steps = range(found + 1, VERSION + 1)
        statements = tuple(statement for step in steps for statement in _STEPS[step].get(dialect, ()))
    for statement in statements:
        connection.exec_driver_sql(statement)
