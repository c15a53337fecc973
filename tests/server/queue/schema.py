"""A schema as lines that can be compared, whether it was created at once or by migrations."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg

# Each query gives lines of text. Together they cover every kind of object that our schema has.
POSTGRESQL = (
    """
    SELECT concat_ws(' ', table_name, column_name, data_type, 'null', is_nullable, 'default', column_default)
    FROM information_schema.columns WHERE table_schema = current_schema()
    """,
    """
    SELECT concat_ws(' ', relname, relkind, unnest(coalesce(reloptions, '{plain}')))
    FROM pg_class WHERE relnamespace = current_schema()::regnamespace
    """,
    """
    SELECT concat_ws(' ', conname, conrelid::regclass, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
    """,
    "SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()",
    """
    SELECT concat_ws(' ', pg_get_triggerdef(t.oid), tgenabled)
    FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
    WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal
    """,
    "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace",
    "SELECT pg_get_serial_sequence('predictions', 'seq')",
    "SELECT current_schema()",
)


def postgresql_schema(url: str) -> set[str]:
    """The lines of a PostgreSQL schema, without the schema's name."""
    with psycopg.connect(url) as connection:
        *lines, (schema,) = (row for query in POSTGRESQL for row in connection.execute(query.encode()).fetchall())
    return {line.replace(f"{schema}.", "") for (line,) in lines}


def sqlite_schema(path: Path) -> set[str]:
    """The lines of a SQLite schema. A table's parts have no order, because ALTER TABLE adds columns at its end."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    parts: set[str] = set()
    for kind, name, table, sql in found:
        text = " ".join((sql or "made by a constraint").split())
        named = f"{kind} {name} {table}:"
        parts |= {f"{named} {part}" for part in clauses(text)} if kind == "table" else {f"{named} {text}"}
    return parts


def clauses(sql: str) -> list[str]:
    """The columns and constraints of a CREATE TABLE: the text in its outer parentheses, split at the outer commas."""
    inner = sql[sql.index("(") + 1 : sql.rindex(")")]
    depth, parts = 0, [""]
    for letter in inner:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [re.sub(r"\s*([()])\s*", r"\1", part).strip() for part in parts]
