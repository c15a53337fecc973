"""The tables, their indexes and counters. Statements over them stand beside the operations that use them."""

from __future__ import annotations

import sqlalchemy as sa

from server.queue.states import FINAL, Status

VERSION = 1  # of everything in this file; stored in the database itself

metadata = sa.MetaData()


def literal(status: Status) -> sa.ColumnElement[str]:
    """The state as part of the SQL text: SQLite takes a partial index only when it can read the value."""
    return sa.literal_column(f"'{status.value}'", sa.Text)


def _in(statuses: frozenset[Status]) -> str:
    return "(" + ", ".join(sorted(f"'{status.value}'" for status in statuses)) + ")"


predictions = sa.Table(
    "predictions",
    metadata,
    # The order of arrival. No AUTOINCREMENT: a new row gets more than any row still there, which is all FIFO needs.
    sa.Column("seq", sa.Integer, primary_key=True),
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
)

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("view", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

# Kept by the triggers below: counting 10,000 waiting rows takes 0.4 ms, twice as long as a whole submit.
depths = sa.Table(
    "depths",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("queued", sa.Integer, nullable=False),
    sa.Column("leased", sa.Integer, nullable=False),
)

_p = predictions.c
_queued = _p.status == literal(Status.QUEUED)
_leased = _p.status == literal(Status.LEASED)
# With the status, though it is the same in every entry: without it, SQLite looks at each row that it counts.
sa.Index("predictions_queue", _p.tier, _p.priority, _p.seq, _p.status, sqlite_where=_queued)
sa.Index("predictions_deadline", _p.tier, _p.deadline_at, sqlite_where=_queued)
sa.Index("predictions_lease", _p.tier, _p.lease_until, sqlite_where=_leased)
sa.Index("predictions_holder", _p.job, sqlite_where=_leased)
sa.Index("predictions_completed", _p.tier, _p.completed_at, sqlite_where=_p.completed_at.is_not(None))
sa.Index(
    "predictions_key",
    _p.owner,
    _p.tier,
    _p.idempotency_key,
    unique=True,
    sqlite_where=_p.idempotency_key.is_not(None),
)
sa.Index("jobs_live", jobs.c.opened_at, sqlite_where=jobs.c.ended_at.is_(None))
sa.Index("jobs_tier", jobs.c.tier, jobs.c.ended_at)
sa.Index("jobs_ended", jobs.c.ended_at, sqlite_where=jobs.c.ended_at.is_not(None))

TRIGGERS = (
    """
    CREATE TRIGGER predictions_inserted AFTER INSERT ON predictions BEGIN
        INSERT INTO depths (tier, queued, leased) VALUES (new.tier, new.status = 'queued', new.status = 'leased')
        ON CONFLICT (tier) DO UPDATE SET queued = queued + excluded.queued, leased = leased + excluded.leased;
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
)


def create(connection: sa.Connection) -> None:
    """Make everything above in an empty database."""
    metadata.create_all(connection, checkfirst=False)
    for trigger in TRIGGERS:
        connection.exec_driver_sql(trigger)
