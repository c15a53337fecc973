"""The sentences of a Markdown page, and the tests that a page's table of promises names for each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
# A sentence ends at a full stop before a space and a capital letter, a quotation or code. "e.g." is not used in docs/.
END = re.compile(r"(?<=[.?!])\)?\s+(?=[A-Z`\"\[(*])")
TEST = re.compile(r"^\s*(?:(?:async )?def |class )?([Tt]est\w+)(?= =|[(:])", re.MULTILINE)
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def sentences(markdown: str) -> Iterator[str]:
    """Iterate over the sentences of a page: those of its paragraphs and lists, and the rows of its tables.

    Headings, the heads of tables and blocks of code are no sentences. Marks of links and bold text are left out.
    """
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    inside: list[str] = []
    row: list[str] = []
    for token in tokens:
        if token.nesting == 1:
            inside.append(token.type)
        elif token.nesting == -1:
            inside.pop()
            if token.type == "tr_close" and "tbody_open" in inside:
                yield " | ".join(row)
                row = []
        elif token.type == "inline":
            if "tbody_open" in inside:
                row.append(_plain(token))
            elif not {"heading_open", "thead_open"} & set(inside):
                yield from END.split(_plain(token))


def _plain(token: Token) -> str:
    return " ".join(LINK.sub(r"\1", token.content.replace("**", "")).split())


@cache
def named_tests(file: str) -> frozenset[str]:
    """The names of the tests in a file, which is given relative to the project's root."""
    path = ROOT / file
    return frozenset(TEST.findall(path.read_text())) if path.is_file() else frozenset()
