"""The triggers that count what is alive, for each database. Every migration makes them anew: no step names them.

Counting 10,000 waiting rows takes 0.4 ms, twice as long as a whole submit: hence two tables of counts. ``depths`` says
how much of each tier is alive, how much of that is of the canary's lane, and which turn of main's lane was leased
last. ``waiting`` says how many wait of each 1024 turns, of each turn, and of each moment of a turn, which gives
positions. A row that is inserted in a final state costs nothing.
"""

from __future__ import annotations

# Also names that only older versions used: what is not there is passed over.
DROP = {
    "sqlite": tuple(
        f"DROP TRIGGER IF EXISTS predictions_{name}"
        for name in ("inserted", "moved", "laned", "deleted", "arrived", "queued", "unqueued", "gone")
    ),
    "postgresql": (
        *(
            f"DROP TRIGGER IF EXISTS predictions_{name} ON predictions"
            for name in ("counted", "inserted", "moved", "laned", "deleted")
        ),
        "DROP FUNCTION IF EXISTS predictions_counted()",
    ),
}

_COLUMNS = "tier, level, priority, turn, moment, slot, queued"
_ADD = "ON CONFLICT (tier, level, priority, turn, moment, slot) DO UPDATE SET queued = queued + excluded.queued"


def _waits(row: str, more: int) -> str:
    """SQLite: count one more, or one less, that waits."""
    levels = (
        (0, f"{row}.turn >> 10", "0"),
        (1, f"{row}.turn", "0"),
        (2, f"{row}.turn", f"CAST({row}.accepted_at * 16 AS INTEGER)"),
    )
    values = ", ".join(
        f"({row}.tier, {level}, {row}.priority, {turn}, {moment}, 0, {more})" for level, turn, moment in levels
    )
    return f"INSERT INTO waiting ({_COLUMNS}) VALUES {values} {_ADD};"  # noqa: S608 (all of it is ours)


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
            INSERT INTO depths (tier, slot, queued, leased, bytes, turn, canary_queued, canary_leased)
            VALUES (
                new.tier, 0, new.status = 'queued', new.status = 'leased', new.size,
                iif(new.status = 'leased' AND NOT new.canary, new.turn, 0),
                new.canary AND new.status = 'queued', new.canary AND new.status = 'leased'
            )
            ON CONFLICT (tier, slot) DO UPDATE SET
                queued = queued + excluded.queued, leased = leased + excluded.leased, bytes = bytes + excluded.bytes,
                turn = max(turn, excluded.turn),
                canary_queued = canary_queued + excluded.canary_queued,
                canary_leased = canary_leased + excluded.canary_leased;
        END
        """,
        """
        CREATE TRIGGER predictions_moved AFTER UPDATE OF status ON predictions BEGIN
            UPDATE depths SET
                queued = queued - (old.status = 'queued') + (new.status = 'queued'),
                leased = leased - (old.status = 'leased') + (new.status = 'leased'),
                bytes = bytes - iif(new.status IN ('queued', 'leased'), 0, old.size),
                turn = max(turn, iif(new.status = 'leased' AND NOT new.canary, new.turn, 0)),
                canary_queued = canary_queued + new.canary * ((new.status = 'queued') - (old.status = 'queued')),
                canary_leased = canary_leased + new.canary * ((new.status = 'leased') - (old.status = 'leased'))
            WHERE tier = new.tier;
        END
        """,
        """
        CREATE TRIGGER predictions_laned AFTER UPDATE OF canary ON predictions WHEN old.completed_at IS NULL BEGIN
            UPDATE depths SET
                canary_queued = canary_queued + (new.canary - old.canary) * (old.status = 'queued'),
                canary_leased = canary_leased + (new.canary - old.canary) * (old.status = 'leased')
            WHERE tier = old.tier;
        END
        """,
        """
        CREATE TRIGGER predictions_deleted AFTER DELETE ON predictions WHEN old.completed_at IS NULL BEGIN
            UPDATE depths SET
                queued = queued - (old.status = 'queued'),
                leased = leased - (old.status = 'leased'),
                bytes = bytes - old.size,
                canary_queued = canary_queued - (old.canary AND old.status = 'queued'),
                canary_leased = canary_leased - (old.canary AND old.status = 'leased')
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
            of_priority integer := coalesce(new.priority, old.priority);
            of_turn bigint := coalesce(new.turn, old.turn);
            of_moment bigint := floor(coalesce(new.accepted_at, old.accepted_at) * 16)::bigint;
            was text := coalesce(old.status, '');
            is_now text := coalesce(new.status, '');
            more_queued integer := (is_now = 'queued')::int - (was = 'queued')::int;
            more_leased integer := (is_now = 'leased')::int - (was = 'leased')::int;
            more_bytes bigint := (more_queued + more_leased)::bigint * coalesce(new.size, old.size);
            was_canary text := CASE WHEN old.canary THEN was ELSE '' END;
            is_canary text := CASE WHEN new.canary THEN is_now ELSE '' END;
        BEGIN
            INSERT INTO depths AS d (tier, slot, queued, leased, bytes, turn, canary_queued, canary_leased)
            VALUES (
                of_tier, of_slot, more_queued, more_leased, more_bytes,
                CASE WHEN is_now = 'leased' AND is_canary = '' THEN of_turn ELSE 0 END,
                (is_canary = 'queued')::int - (was_canary = 'queued')::int,
                (is_canary = 'leased')::int - (was_canary = 'leased')::int
            )
            ON CONFLICT (tier, slot) DO UPDATE SET
                queued = d.queued + excluded.queued,
                leased = d.leased + excluded.leased,
                bytes = d.bytes + excluded.bytes,
                turn = greatest(d.turn, excluded.turn),
                canary_queued = d.canary_queued + excluded.canary_queued,
                canary_leased = d.canary_leased + excluded.canary_leased;
            IF more_queued <> 0 THEN
                INSERT INTO waiting AS w (tier, level, priority, turn, moment, slot, queued)
                VALUES
                    (of_tier, 0, of_priority, of_turn >> 10, 0, of_slot, more_queued),
                    (of_tier, 1, of_priority, of_turn, 0, of_slot, more_queued),
                    (of_tier, 2, of_priority, of_turn, of_moment, of_slot, more_queued)
                ON CONFLICT (tier, level, priority, turn, moment, slot)
                DO UPDATE SET queued = w.queued + excluded.queued;
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
        CREATE TRIGGER predictions_laned AFTER UPDATE OF canary ON predictions FOR EACH ROW
        WHEN (old.canary <> new.canary AND old.status = new.status) EXECUTE FUNCTION predictions_counted()
        """,
        """
        CREATE TRIGGER predictions_deleted AFTER DELETE ON predictions
        FOR EACH ROW WHEN (old.completed_at IS NULL) EXECUTE FUNCTION predictions_counted()
        """,
    ),
}
