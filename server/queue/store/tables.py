"""The tables and their indexes. Statements over them stand beside the operations that use them.

A new column of ``predictions`` is named in three places: here; in a step of ``store.migrations``, for both databases;
and, as a field of the same name, in the records of ``facts.records`` that carry it: ``Submission`` if the caller gives
it, ``Prediction`` if readers see it, ``Leased`` if workers need it (``facts.jobs`` for a column of ``jobs``). What is
inserted and selected follows from the fields of these records.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex
from sqlalchemy.sql.compiler import DDLCompiler, SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from server.queue.facts.states import FINAL, Status

ANONYMOUS = sa.literal_column("'anonymous'", sa.Text)  # the owner of what comes without a key

metadata = sa.MetaData()


def literal(status: Status) -> sa.ColumnElement[str]:
    """The state as part of the SQL text: a partial index is only taken when its condition can be read there."""
    return sa.literal_column(f"'{status.value}'", sa.Text)


def in_lane(*, canary: bool) -> sa.ColumnElement[bool]:
    """Of the canary's lane, or of the main model's, as part of the SQL text: it costs no value."""
    return predictions.c.canary == (sa.true() if canary else sa.false())


class Moment(FunctionElement[int]):
    """In which sixteenth of a second a time lies, as ``waiting`` counts them."""

    inherit_cache = True
    type = sa.BigInteger()


@compiles(Moment)
def _moment(element: Moment, compiler: SQLCompiler, **given: Any) -> str:
    return f"CAST(floor({compiler.process(element.clauses, **given)} * 16) AS BIGINT)"


@compiles(Moment, "sqlite")
def _moment_of_sqlite(element: Moment, compiler: SQLCompiler, **given: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **given)} * 16 AS INTEGER)"  # floor() need not be there


def _index(name: str, *columns: sa.ColumnElement[Any], where: sa.ColumnElement[bool], unique: bool = False) -> None:
    """Declare a partial index, without SQLAlchemy's option for PostgreSQL, which would import all of its drivers."""
    sa.Index(name, *columns, unique=unique, info={"where": where})


@compiles(CreateIndex)
def _create_index(element: CreateIndex, compiler: DDLCompiler, **given: Any) -> str:
    text: str = compiler.visit_create_index(element, **given)  # type: ignore[no-untyped-call]
    if (where := element.element.info.get("where")) is None:
        return text
    return f"{text} WHERE {compiler.sql_compiler.process(where, include_table=False, literal_binds=True)}"


def _in(statuses: frozenset[Status]) -> str:
    return "(" + ", ".join(sorted(f"'{status.value}'" for status in statuses)) + ")"


predictions = sa.Table(
    "predictions",
    metadata,
    # The order of arrival of rows. No AUTOINCREMENT: a new row gets more than any row still there. It decides only
    # between rows of one turn that were accepted at the same time: a prediction may come into the table after it was
    # accepted.
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("images", sa.Integer, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("top_k", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("turn", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("caller", sa.Text, nullable=False, server_default=""),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("fingerprint", sa.Text),
    sa.Column("accepted_at", sa.Float, nullable=False),
    sa.Column("deadline_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("completed_at", sa.Float),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    # True from the moment that a lease of it is lost. The next lease takes it alone: should its pictures have killed
    # the worker, they take no other prediction along.
    sa.Column("solo", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("job", sa.Text),
    sa.Column("token", sa.Text),  # of the lease it is in, or of the one that finished it
    # Of the leases that it is no longer in, each followed by a space. A worker that was only slow, or whose network was
    # away, may still bring the result of a lease that was taken from it: by its token we know that it had one.
    sa.Column("lost_tokens", sa.Text, nullable=False, server_default=""),
    sa.Column("lease_until", sa.Float),
    sa.Column("results", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("predict_ms", sa.Float),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    # Its lane: whether it waits for a worker of its tier's canary, or for one of the main model.
    sa.Column("canary", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("function", sa.Text, nullable=False, server_default="softmax"),
    sa.Column("trace", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("names", sa.Text),
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
    sa.Column("model", sa.Text, nullable=False, server_default=""),  # which its workers run: ``Served.key``
    sa.Column("recalled_at", sa.Float),  # ``reason`` says why until the Job ends
)

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("view", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

# Kept by triggers. A tier's depth is the sum over its slots, and the turn that it has reached their highest one: the
# turn of what was leased last, see ``operations.leases`` for the canary's. What is of the canary's lane is counted in
# ``queued`` and ``leased``, too.
depths = sa.Table(
    "depths",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("queued", sa.Integer, nullable=False),
    sa.Column("leased", sa.Integer, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),  # of queued and leased ones
    sa.Column("turn", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("canary_queued", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("canary_leased", sa.Integer, nullable=False, server_default=sa.text("0")),
)

# Kept by triggers. How many wait is counted in three levels: at level 0 those of each 1024 turns (``turn`` is then the
# number of this block), at level 1 those of each turn, and at level 2 those of each turn that were accepted in one
# sixteenth of a second (``moment``, since the epoch; 0 at the other levels). It is the sum over the slots, and may be
# 0.
waiting = sa.Table(
    "waiting",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("level", sa.Integer, primary_key=True),
    sa.Column("priority", sa.Integer, primary_key=True),
    sa.Column("turn", sa.BigInteger, primary_key=True),
    sa.Column("moment", sa.BigInteger, primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("queued", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Each caller's share of a tier: where its next prediction stands. ``operations.shares`` says what the columns mean.
shares = sa.Table(
    "shares",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("caller", sa.Text, primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("finish", sa.Float, nullable=False),
    sa.Column("spent", sa.Float, nullable=False),
    sa.Column("seen", sa.Float, nullable=False),
    sa.Column("used_at", sa.Float, nullable=False),
    sqlite_with_rowid=False,
)

# The keys of owners. ``tiers`` and ``limits`` are JSON.
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("tiers", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("revoked_at", sa.Float),
    sa.Column("limits", sa.Text, nullable=False),
    sa.Column("weight", sa.Float, nullable=False),
)

# How often something that servers keep in memory was changed, by its name.
changes = sa.Table(
    "changes",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)

# What each caller has used of its limits in a tier: the sum over its slots. ``day`` counts days since the epoch, and
# ``until`` says when the row can go. Each session writes in a slot of its own, as it does in ``depths``: callers may
# use several servers at once, whose transactions would wait for each other, or lock rows in different orders.
uses = sa.Table(
    "uses",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("caller", sa.Text, primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("pictures", sa.BigInteger, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)

# The models that were pushed. ``files`` is JSON: the SHA-256 and the size of each.
models = sa.Table(
    "models",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("files", sa.Text, nullable=False),
    sa.Column("pushed_at", sa.Float, nullable=False),
)

model_tags = sa.Table(
    "model_tags",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, nullable=False),
)

# What each tier serves, as JSON.
serving = sa.Table(
    "serving",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

# How each model did in a tier: the sum over its slots, one for each session, as in ``uses``. ``milliseconds`` is JSON.
measures = sa.Table(
    "measures",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("predictions", sa.BigInteger, nullable=False),
    sa.Column("pictures", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("unsure", sa.BigInteger, nullable=False),
    sa.Column("milliseconds", sa.Text, nullable=False),
    sa.Column("touched_at", sa.Float, nullable=False),
)

# What happened to the predictions of a tier in a minute, counted since the epoch: the sum over its slots, one for each
# session, as in ``uses``. ``waits`` is JSON.
minutes = sa.Table(
    "minutes",
    metadata,
    sa.Column("tier", sa.Text, primary_key=True),
    sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("accepted", sa.BigInteger, nullable=False),
    sa.Column("succeeded", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("waits", sa.Text, nullable=False),
)

# What all servers of an installation share and nobody else knows, by its name.
secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

_p = predictions.c
_queued = _p.status == literal(Status.QUEUED)
_leased = _p.status == literal(Status.LEASED)
# With the status, though it is the same in every entry: without it, SQLite looks at each row that it counts.
_place = (_p.priority, _p.turn, _p.accepted_at, _p.seq)
_index("predictions_queue", _p.tier, _p.canary, *_place, _p.status, where=_queued)
_index("predictions_oldest", _p.tier, _p.canary, _p.accepted_at, where=_queued)
_index("predictions_deadline", _p.tier, _p.deadline_at, where=_queued)
_index("predictions_lease", _p.tier, _p.lease_until, where=_leased)
_index("predictions_holder", _p.job, where=_leased)
_index("predictions_completed", _p.tier, _p.completed_at, where=_p.completed_at.is_not(None))
_keyed = _p.idempotency_key.is_not(None)
_index("predictions_key", _p.owner, _p.idempotency_key, _p.fingerprint, where=_keyed, unique=True)
# Of one who has a key: its predictions, the newest first.
_index("predictions_listed", _p.owner, _p.tier, _p.status, _p.accepted_at, _p.seq, where=_p.owner != ANONYMOUS)
_index("predictions_caller", _p.tier, _p.caller, _p.size, where=_queued)
sa.Index("uses_until", uses.c.until)
_index("jobs_live", jobs.c.opened_at, where=jobs.c.ended_at.is_(None))
sa.Index("jobs_tier", jobs.c.tier, jobs.c.ended_at)
sa.Index("jobs_model", jobs.c.tier, jobs.c.model, jobs.c.ended_at)
_index("jobs_ended", jobs.c.ended_at, where=jobs.c.ended_at.is_not(None))

# On PostgreSQL an UPDATE leaves a dead row behind. Rows change all the time: without these settings, dead ones would
# slow the look for the next to lease; and room in the pages lets a count be written beside its old self.
_settings = (
    "ALTER TABLE predictions SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)",
    "ALTER TABLE depths SET (fillfactor = 20, autovacuum_vacuum_threshold = 500)",
    "ALTER TABLE waiting SET (fillfactor = 50, autovacuum_vacuum_threshold = 500)",
    "ALTER TABLE shares SET (fillfactor = 50, autovacuum_vacuum_threshold = 500)",
    "ALTER TABLE measures SET (fillfactor = 50, autovacuum_vacuum_threshold = 500)",
    "ALTER TABLE minutes SET (fillfactor = 50, autovacuum_vacuum_threshold = 500)",
)
for _text in _settings:
    _alter = sa.DDL(_text).execute_if(dialect="postgresql")  # type: ignore[no-untyped-call]
    sa.event.listen(metadata, "after_create", _alter)
