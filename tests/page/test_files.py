"""The files of the page: small, valid, each of them needed, and nothing in them that comes from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.page.checker import Checker
from tests.running import ROOT

FOLDER = ROOT / "server" / "page"
MOST_BYTES = 100_000
FILES = sorted(FOLDER.iterdir())
DOCUMENTS = [path for path in FILES if path.suffix == ".html"]
NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml")


def test_all_files_together_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FILES}
    assert sum(sizes.values()) < MOST_BYTES, sizes


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_is_valid(path: Path, checker: Checker) -> None:
    assert checker.findings(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_names_no_address_elsewhere(path: Path) -> None:
    addresses = re.findall(r"\bhttps?://[\w./%-]*", path.read_text("utf-8"))
    assert [one for one in addresses if one not in NAMESPACES] == []
