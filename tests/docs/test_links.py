"""Every link of README and docs to a file of this repository leads somewhere, to the heading too if it names one."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.running import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = re.compile(r"[a-z]+:")
SOURCE = re.compile(r'(?:src|srcset)="([^"]+)"')


def tokens(page: Path) -> list[Token]:
    found = []
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(page.read_text("utf-8")):
        found += [token, *(token.children or ())]
    return found


def targets(page: Path) -> set[str]:
    found = set()
    for token in tokens(page):
        found |= {str(token.attrs[name]) for name in ("href", "src") if name in token.attrs}
        if token.type in ("html_block", "html_inline"):
            found |= set(SOURCE.findall(token.content))
    return {target for target in found if not ELSEWHERE.match(target)}


@cache
def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    parsed = tokens(page)
    titles = [
        "".join(part.content for part in after.children or ())
        for before, after in pairwise(parsed)
        if before.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_pages_have_links_to_each_other() -> None:
    assert len(set().union(*(targets(page) for page in PAGES))) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in targets(page):
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or there.suffix != ".md" or anchor in anchors(there), target


def test_footnotes_have_both_ends() -> None:
    for page in PAGES:
        text = page.read_text("utf-8")
        assert set(re.findall(r"\[\^(\w+)\](?!:)", text)) == set(re.findall(r"^\[\^(\w+)\]:", text, re.MULTILINE)), page
