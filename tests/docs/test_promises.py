"""Every sentence of the pages that promise something is held by tests, was measured, or only explains."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.sentences import ROOT, named_tests, sentences

PAGES = ("api", "errors", "limits", "reliability", "routes", "worker-protocol")
KINDS = {"tests", "measured", "explains"}
PROMISES = Path(__file__).with_name("promises")


def _table(page: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load((PROMISES / f"{page}.yaml").read_text()))


def _said(page: str) -> list[str]:
    return list(sentences((ROOT / "docs" / f"{page}.md").read_text()))


@pytest.mark.parametrize("page", PAGES)
def test_every_sentence_of_a_page_is_in_its_table_of_promises(page: str) -> None:
    said, listed = Counter(_said(page)), Counter(entry["says"] for entry in _table(page))
    file = f"tests/docs/promises/{page}.yaml"
    assert not said - listed, f"add to {file}, each with the tests that hold it"
    assert not listed - said, f"remove from {file}: docs/{page}.md does not say that"


@pytest.mark.parametrize("page", PAGES)
def test_every_promise_names_tests_that_exist(page: str) -> None:
    missing: dict[str, list[str]] = {}
    for entry in _table(page):
        assert len(entry.keys() & KINDS) == 1, f"name tests, or a command, or say what it is for: {entry['says']}"
        for test in entry.get("tests", ()):
            file, _, name = test.partition("::")
            if name not in named_tests(file):
                missing.setdefault(test, []).append(entry["says"])
    assert not missing, "there are no such tests; each is to hold these sentences"


def test_the_sentences_of_a_page_are_those_of_paragraphs_lists_and_rows() -> None:
    page = """# A heading. Not one.

First **bold** sentence, with `code`. Second [link](a.md) (in
brackets. Still). `code` begins the third.

- An item.

| a | b |
|---|---|
| one | two. Three |

    A block of code. No sentence.
"""
    assert list(sentences(page)) == [
        "First bold sentence, with `code`.",
        "Second link (in brackets.",
        "Still).",
        "`code` begins the third.",
        "An item.",
        "one | two. Three",
    ]
