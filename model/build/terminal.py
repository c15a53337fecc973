"""What the commands print: names as they are, in any encoding, and tables that are whole in a pipe."""

from __future__ import annotations

import os

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from model.build.files import printable

WIDEST = 1000
"""Columns of a table that is printed into a pipe; longer lines are folded."""


class Terminal:
    """Prints on standard output, or on standard error."""

    def __init__(self, stderr: bool = False) -> None:
        self.console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)

    def cell(self, text: str) -> Text:
        """The text as it is, but for control characters and what the encoding has not, which are escaped."""
        encoding = self.console.encoding
        return Text(printable(text).encode(encoding, "backslashreplace").decode(encoding))

    def line(self, text: str, mark: str = "", style: str = "red") -> None:
        """Print one line, which begins with ``mark`` in this style."""
        self.console.print(Text.assemble((mark, style), self.cell(text)), soft_wrap=True)

    def table(self, table: Table) -> None:
        """Print a table: as wide as the terminal or COLUMNS says, or else as it needs to be."""
        if not self.console.is_terminal and "COLUMNS" not in os.environ:
            options = self.console.options.update(width=WIDEST)
            self.console.width = Measurement.get(self.console, options, table).maximum
        self.console.print(table)
