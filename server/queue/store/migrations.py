"""The versions of the schema: each step says for both databases what makes one version of the one before it.

A step is never changed once it is released: it meets data of that time. A step that changes the states of predictions
must mend ``depths`` too, since the triggers are away meanwhile. With a new step, ``python -m tests.server.queue.dump``
writes what the next versions have to be able to open.
"""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_hex

import sqlalchemy as sa

from server.queue.facts.errors import NewerSchema
from server.queue.store import triggers
from server.queue.store.tables import metadata, secrets


@dataclass(frozen=True, slots=True)
class Step:
    """What makes version ``number`` of the version before it; ``unneeded`` says why a database needs nothing."""

    number: int
    sqlite: tuple[str, ...]
    postgresql: tuple[str, ...]
    unneeded: str = ""

    def __post_init__(self) -> None:
        if not self.unneeded and not (self.sqlite and self.postgresql):
            raise ValueError(f"step {self.number} has nothing for one of the databases and does not say why")

    def statements(self, dialect: str) -> tuple[str, ...]:
        """The statements for one of the databases."""
        return {"sqlite": self.sqlite, "postgresql": self.postgresql}[dialect]


_KEYED = (
    # Of several predictions with one key and one fingerprint, in several tiers, only the oldest stays with its key.
    "CREATE INDEX predictions_keyed ON predictions (owner, idempotency_key, fingerprint, seq)",
    """
    UPDATE predictions SET idempotency_key = NULL WHERE idempotency_key IS NOT NULL AND EXISTS (
        SELECT 1 FROM predictions AS older
        WHERE older.owner = predictions.owner AND older.idempotency_key = predictions.idempotency_key
        AND older.fingerprint = predictions.fingerprint AND older.seq < predictions.seq
    )
    """,
    "DROP INDEX predictions_keyed",
    "DROP INDEX predictions_key",
    "CREATE UNIQUE INDEX predictions_key ON predictions (owner, idempotency_key, fingerprint) "
    "WHERE idempotency_key IS NOT NULL",
    "CREATE TABLE secrets (name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name))",
)
_CALLERS = (
    "ALTER TABLE predictions ADD COLUMN caller TEXT DEFAULT '' NOT NULL",
    "CREATE TABLE keys (id TEXT NOT NULL, owner TEXT NOT NULL, tiers TEXT NOT NULL, digest TEXT NOT NULL, "
    "created_at FLOAT NOT NULL, expires_at FLOAT, revoked_at FLOAT, limits TEXT NOT NULL, weight FLOAT NOT NULL, "
    "PRIMARY KEY (id))",
    "CREATE TABLE changes (name TEXT NOT NULL, number BIGINT NOT NULL, PRIMARY KEY (name))",
    "CREATE TABLE uses (tier TEXT NOT NULL, caller TEXT NOT NULL, day INTEGER NOT NULL, slot INTEGER NOT NULL, "
    "requests BIGINT NOT NULL, pictures BIGINT NOT NULL, until FLOAT NOT NULL, "
    "PRIMARY KEY (tier, caller, day, slot))",
    "CREATE INDEX uses_until ON uses (until)",
    "CREATE INDEX predictions_listed ON predictions (owner, tier, status, accepted_at, seq) WHERE owner != 'anonymous'",
    "CREATE INDEX predictions_caller ON predictions (tier, caller, size) WHERE status = 'queued'",
)
# What waits already is of turn 0, and so comes before all that is new.
_TURNS = (
    "ALTER TABLE predictions ADD COLUMN turn BIGINT DEFAULT 0 NOT NULL",
    "DROP INDEX predictions_queue",
    "CREATE INDEX predictions_queue ON predictions (tier, priority, turn, accepted_at, seq, status) "
    "WHERE status = 'queued'",
    "CREATE INDEX predictions_oldest ON predictions (tier, accepted_at) WHERE status = 'queued'",
    "ALTER TABLE depths ADD COLUMN turn BIGINT DEFAULT 0 NOT NULL",
    "DROP TABLE waiting",
)
_SHARES = """
    CREATE TABLE shares (tier TEXT NOT NULL, caller TEXT NOT NULL, slot INTEGER NOT NULL, finish FLOAT NOT NULL,
    spent FLOAT NOT NULL, seen FLOAT NOT NULL, used_at FLOAT NOT NULL, PRIMARY KEY (tier, caller, slot))
"""
_LEVELS = """
    CREATE TABLE waiting (tier TEXT NOT NULL, level INTEGER NOT NULL, priority INTEGER NOT NULL, turn BIGINT NOT NULL,
    moment BIGINT NOT NULL, slot INTEGER NOT NULL, queued INTEGER NOT NULL,
    PRIMARY KEY (tier, level, priority, turn, moment, slot))
"""


def _counted(moment: str) -> tuple[str, ...]:
    """Count in three levels what waits; all of it is of turn 0."""
    levels = ((0, "0"), (1, "0"), (2, moment))
    selects = (
        f"SELECT tier, {level}, priority, 0, {of}, 0, count(*) FROM predictions"  # noqa: S608 (all of it is ours)
        for level, of in levels
    )
    into = "INSERT INTO waiting (tier, level, priority, turn, moment, slot, queued)"
    return tuple(f"{into} {select} WHERE status = 'queued' GROUP BY 1, 3, 5" for select in selects)


_BYTES = (
    "ALTER TABLE depths ADD COLUMN bytes BIGINT DEFAULT 0 NOT NULL",
    # Into one of the tier's slots: its depth is the sum over all of them.
    """
    UPDATE depths SET bytes = (
        SELECT coalesce(sum(size), 0) FROM predictions WHERE tier = depths.tier AND completed_at IS NULL
    ) WHERE slot = (SELECT min(slot) FROM depths AS others WHERE others.tier = depths.tier)
    """,
)
_WAITING = """
    CREATE TABLE waiting (tier TEXT NOT NULL, priority INTEGER NOT NULL, second BIGINT NOT NULL, slot INTEGER NOT NULL,
    queued INTEGER NOT NULL, PRIMARY KEY (tier, priority, second, slot))
"""
_LANES = (
    "DROP INDEX predictions_queue",
    "DROP INDEX predictions_oldest",
    "CREATE INDEX predictions_queue ON predictions (tier, canary, priority, turn, accepted_at, seq, status) "
    "WHERE status = 'queued'",
    "CREATE INDEX predictions_oldest ON predictions (tier, canary, accepted_at) WHERE status = 'queued'",
    "ALTER TABLE depths ADD COLUMN canary_queued INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE depths ADD COLUMN canary_leased INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE jobs ADD COLUMN model TEXT DEFAULT '' NOT NULL",
    "CREATE INDEX jobs_model ON jobs (tier, model, ended_at)",
)
_MODELS = (
    "CREATE TABLE models (name TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL, record TEXT NOT NULL, "
    "files TEXT NOT NULL, pushed_at FLOAT NOT NULL, PRIMARY KEY (name, version))",
    "CREATE TABLE model_tags (name TEXT NOT NULL, tag TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY (name, tag))",
    "CREATE TABLE serving (tier TEXT NOT NULL, state TEXT NOT NULL, at FLOAT NOT NULL, PRIMARY KEY (tier))",
    "CREATE TABLE measures (tier TEXT NOT NULL, model TEXT NOT NULL, slot INTEGER NOT NULL, "
    "predictions BIGINT NOT NULL, pictures BIGINT NOT NULL, failed BIGINT NOT NULL, unsure BIGINT NOT NULL, "
    "milliseconds TEXT NOT NULL, touched_at FLOAT NOT NULL, PRIMARY KEY (tier, model, slot))",
)
_MINUTES = (
    "CREATE TABLE minutes (tier TEXT NOT NULL, minute BIGINT NOT NULL, slot INTEGER NOT NULL, "
    "accepted BIGINT NOT NULL, succeeded BIGINT NOT NULL, failed BIGINT NOT NULL, waits TEXT NOT NULL, "
    "PRIMARY KEY (tier, minute, slot))"
)
_TRACED = (
    "ALTER TABLE predictions ADD COLUMN function TEXT DEFAULT 'softmax' NOT NULL",
    "ALTER TABLE predictions ADD COLUMN trace TEXT",
    "ALTER TABLE predictions ADD COLUMN request_id TEXT",
)
_NAMED = ("ALTER TABLE predictions ADD COLUMN names TEXT",)
_RECALLED = ("ALTER TABLE jobs ADD COLUMN recalled_at FLOAT",)
_BY_TIME = (
    "DROP INDEX predictions_queue",
    "CREATE INDEX predictions_queue ON predictions (tier, priority, accepted_at, seq, status) WHERE status = 'queued'",
)
STEPS = (
    Step(
        2,
        sqlite=(
            "ALTER TABLE jobs ADD COLUMN heard_at FLOAT",
            # A new table, as SQLite cannot change a primary key.
            "ALTER TABLE depths RENAME TO depths_1",
            "CREATE TABLE depths (tier TEXT NOT NULL, slot INTEGER NOT NULL, queued INTEGER NOT NULL, "
            "leased INTEGER NOT NULL, PRIMARY KEY (tier, slot))",
            "INSERT INTO depths SELECT tier, 0, queued, leased FROM depths_1",
            "DROP TABLE depths_1",
        ),
        postgresql=(),
        unneeded="PostgreSQL came with version 2, so that none holds version 1",
    ),
    Step(3, sqlite=_BYTES, postgresql=_BYTES),
    Step(4, sqlite=_KEYED, postgresql=_KEYED),
    Step(
        5,
        sqlite=(
            *_BY_TIME,
            f"{_WAITING} WITHOUT ROWID",
            "INSERT INTO waiting (tier, priority, second, slot, queued) "
            "SELECT tier, priority, CAST(accepted_at AS INTEGER), 0, count(*) FROM predictions "
            "WHERE status = 'queued' GROUP BY 1, 2, 3",
        ),
        postgresql=(
            *_BY_TIME,
            _WAITING,
            "ALTER TABLE waiting SET (fillfactor = 50, autovacuum_vacuum_threshold = 500)",
            "INSERT INTO waiting (tier, priority, second, slot, queued) "
            "SELECT tier, priority, floor(accepted_at)::bigint, 0, count(*) FROM predictions "
            "WHERE status = 'queued' GROUP BY 1, 2, 3",
        ),
    ),
    Step(
        6,
        sqlite=(
            *_CALLERS,
            *_TURNS,
            f"{_SHARES} WITHOUT ROWID",
            f"{_LEVELS} WITHOUT ROWID",
            *_counted("CAST(accepted_at * 16 AS INTEGER)"),
        ),
        postgresql=(
            *_CALLERS,
            *_TURNS,
            _SHARES,
            "ALTER TABLE shares SET (fillfactor = 50, autovacuum_vacuum_threshold = 500)",
            _LEVELS,
            "ALTER TABLE waiting SET (fillfactor = 50, autovacuum_vacuum_threshold = 500)",
            *_counted("floor(accepted_at * 16)::bigint"),
        ),
    ),
    Step(
        7,
        sqlite=("ALTER TABLE predictions ADD COLUMN canary BOOLEAN DEFAULT 0 NOT NULL", *_LANES, *_MODELS),
        postgresql=(
            "ALTER TABLE predictions ADD COLUMN canary BOOLEAN DEFAULT false NOT NULL",
            *_LANES,
            *_MODELS,
            "ALTER TABLE measures SET (fillfactor = 50, autovacuum_vacuum_threshold = 500)",
        ),
    ),
    Step(
        8,
        sqlite=(_MINUTES,),
        postgresql=(_MINUTES, "ALTER TABLE minutes SET (fillfactor = 50, autovacuum_vacuum_threshold = 500)"),
    ),
    Step(9, sqlite=_TRACED, postgresql=_TRACED),
    Step(10, sqlite=_NAMED, postgresql=_NAMED),
    Step(11, sqlite=_RECALLED, postgresql=_RECALLED),
)
VERSION = STEPS[-1].number  # of the tables and their triggers; stored in the database itself


def bring_up(connection: sa.Connection, found: int, where: str) -> bool:
    """Make the schema in an empty database (``found`` is 0), or of version ``found``; whether that was needed.

    Raises ``NewerSchema`` when ``where`` was written by a version that this one does not know.
    """
    if found > VERSION:
        raise NewerSchema(where, found, VERSION)
    if found == VERSION:
        return False
    dialect = connection.dialect.name
    statements: list[str] = []
    if found == 0:
        metadata.create_all(connection, checkfirst=False)
    else:
        statements += triggers.DROP[dialect]
        statements += [text for step in STEPS if step.number > found for text in step.statements(dialect)]
    for statement in [*statements, *triggers.CREATE[dialect]]:
        connection.exec_driver_sql(statement)
    return True


def shared_key(connection: sa.Connection) -> bytes:
    """The key by which the servers of this database know each other's ids; it is made when there is none yet.

    Two servers must not call it at the same time.
    """
    found = connection.execute(sa.select(secrets.c.value).where(secrets.c.name == "ids")).scalar()
    if found is None:
        found = token_hex(32)
        connection.execute(sa.insert(secrets).values(name="ids", value=found))
    return bytes.fromhex(found)
