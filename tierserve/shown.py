"""Text of others, made safe to show, and how it is printed: on a terminal or into a pipe, in any encoding.

What prints on standard output raises ``TierserveError`` if that is full, and ``BrokenPipeError`` if nobody reads it.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tierserve.errors import TierserveError

WIDEST = 1000
"""Columns of a table that is printed into a pipe; longer lines are folded."""
TURNING = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What breaks lines or turns the direction of text: it shows a name as another one."""


def cell(*lines: str, stream: IO[str] | None = None) -> Text:
    """The lines as ``stream`` can show them: no markup, no names of emojis, and nothing that steers a terminal."""
    return Text("\n".join(visible(line, stream) for line in lines))


def visible(text: str, stream: IO[str] | None = None) -> str:
    """The text with its control characters escaped, and with what the encoding of ``stream`` has not.

    The stream is standard output if none is given.
    """
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return harmless(text).encode(encoding, "backslashreplace").decode(encoding)


def harmless(text: str) -> str:
    """The text with its control characters escaped."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cs") or character in TURNING
    return character.encode("unicode_escape").decode() if hidden else character


def plain_table(*names: str) -> Table:
    """A table without lines between its rows. What is too long for a column is folded, and nothing is left out."""
    table = Table(*names, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in table.columns:
        column.overflow = "fold"
    return table


def show(table: Table) -> None:
    """Print a table on standard output: as wide as the terminal or COLUMNS says, or else as it needs to be."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        needed = Measurement.get(console, console.options.update(width=WIDEST), table).maximum
        console = Console(markup=False, emoji=False, highlight=False, width=needed)
    with _printing():
        console.print(table)


def say(sentence: str) -> None:
    """Print a line on standard output."""
    with _printing():
        print(visible(sentence))  # noqa: T201


def say_json(told: Any) -> None:
    """Print something as JSON on standard output."""
    with _printing():
        print(json.dumps(told, indent=2))  # noqa: T201


def remark(sentence: str) -> None:
    """Print a line on standard error, for people."""
    print(visible(sentence, sys.stderr), file=sys.stderr)  # noqa: T201


@contextmanager
def _printing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # nobody reads on, which is no error
    except OSError as error:
        raise TierserveError(f"standard output cannot be written: {error.strerror}") from error
