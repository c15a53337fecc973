"""The triggers that count what is alive, for each database. Every migration makes them anew: no step names them.

Counting 10,000 waiting rows takes 0.4 ms, twice as long as a whole submit: hence two tables of counts. ``depths`` says
how much of each tier is alive. ``waiting`` says how many wait that were accepted in each second, which gives positions.
A row that is inserted in a final state costs nothing.
"""

from __future__ import annotations

# Also names that only older versions used: what is not there is passed over.
DROP = {
    "sqlite": tuple(
        f"DROP TRIGGER IF EXISTS predictions_{name}"
        for name in ("inserted", "moved", "deleted", "arrived", "queued", "unqueued", "gone")
    ),
    "postgresql": (
        *(
            f"DROP TRIGGER IF EXISTS predictions_{name} ON predictions"
            for name in ("counted", "inserted", "moved", "deleted")
        ),
        "DROP FUNCTION IF EXISTS predictions_counted()",
    ),
}

_ADD = "ON CONFLICT (tier, priority, second, slot) DO UPDATE SET queued = queued + excluded.queued"


def _waits(row: str, more: int) -> str:
    """SQLite: count one more, or one less, that waits."""
    values = f"{row}.tier, {row}.priority, CAST({row}.accepted_at AS INTEGER), 0, {more}"
    return f"INSERT INTO waiting (tier, priority, second, slot, queued) VALUES ({values}) {_ADD};"  # noqa: S608 (all of it is ours)


# In triggers of their own, since a WHEN that is not met costs next to nothing.
_QUEUED = {
    "arrived": ("INSERT", "new.status = 'queued'", _waits("new", 1)),
    "queued": ("UPDATE OF status", "new.status = 'queued' AND old.status <> 'queued'", _waits("new", 1)),
    "unqueued": ("UPDATE OF status", "old.status = 'queued' AND new.status <> 'queued'", _waits("new", -1)),
    "gone": ("DELETE", "old.status = 'queued'", _waits("old", -1)),
}

CREATE = {
    "sqlite": (
        """
        CREATE TRIGGER predictions_inserted AFTER INSERT ON predictions WHEN new.completed_at IS NULL BEGIN
            INSERT INTO depths (tier, slot, queued, leased, bytes)
            VALUES (new.tier, 0, new.status = 'queued', new.status = 'leased', new.size)
            ON CONFLICT (tier, slot) DO UPDATE SET
                queued = queued + excluded.queued, leased = leased + excluded.leased, bytes = bytes + excluded.bytes;
        END
        """,
        """
        CREATE TRIGGER predictions_moved AFTER UPDATE OF status ON predictions BEGIN
            UPDATE depths SET
                queued = queued - (old.status = 'queued') + (new.status = 'queued'),
                leased = leased - (old.status = 'leased') + (new.status = 'leased'),
                bytes = bytes - iif(new.status IN ('queued', 'leased'), 0, old.size)
            WHERE tier = new.tier;
        END
        """,
        """
        CREATE TRIGGER predictions_deleted AFTER DELETE ON predictions WHEN old.completed_at IS NULL BEGIN
            UPDATE depths SET
                queued = queued - (old.status = 'queued'),
                leased = leased - (old.status = 'leased'),
                bytes = bytes - old.size
            WHERE tier = old.tier;
        END
        """,
        *(
            f"CREATE TRIGGER predictions_{name} AFTER {event} ON predictions WHEN {when} BEGIN {counts} END"
            for name, (event, when, counts) in _QUEUED.items()
        ),
    ),
    # Each session counts in a slot of its own, or the commits of several servers would wait for each other.
    "postgresql": (
        """
        CREATE FUNCTION predictions_counted() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            of_tier text := coalesce(new.tier, old.tier);
            of_slot integer := mod(pg_backend_pid(), 64);
            was text := coalesce(old.status, '');
            is_now text := coalesce(new.status, '');
            more_queued integer := (is_now = 'queued')::int - (was = 'queued')::int;
            more_leased integer := (is_now = 'leased')::int - (was = 'leased')::int;
            more_bytes bigint := (more_queued + more_leased)::bigint * coalesce(new.size, old.size);
        BEGIN
            INSERT INTO depths AS d (tier, slot, queued, leased, bytes)
            VALUES (of_tier, of_slot, more_queued, more_leased, more_bytes)
            ON CONFLICT (tier, slot) DO UPDATE SET
                queued = d.queued + excluded.queued,
                leased = d.leased + excluded.leased,
                bytes = d.bytes + excluded.bytes;
            IF more_queued <> 0 THEN
                INSERT INTO waiting AS w (tier, priority, second, slot, queued)
                VALUES (
                    of_tier, coalesce(new.priority, old.priority),
                    floor(coalesce(new.accepted_at, old.accepted_at))::bigint, of_slot, more_queued
                )
                ON CONFLICT (tier, priority, second, slot) DO UPDATE SET queued = w.queued + excluded.queued;
            END IF;
            RETURN NULL;
        END $$
        """,
        """
        CREATE TRIGGER predictions_inserted AFTER INSERT ON predictions
        FOR EACH ROW WHEN (new.completed_at IS NULL) EXECUTE FUNCTION predictions_counted()
        """,
        """
        CREATE TRIGGER predictions_moved AFTER UPDATE OF status ON predictions
        FOR EACH ROW WHEN (old.status <> new.status) EXECUTE FUNCTION predictions_counted()
        """,
        """
        CREATE TRIGGER predictions_deleted AFTER DELETE ON predictions
        FOR EACH ROW WHEN (old.completed_at IS NULL) EXECUTE FUNCTION predictions_counted()
        """,
    ),
}
