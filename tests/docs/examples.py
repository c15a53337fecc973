"""The examples of a Markdown page: its blocks of code, what the page says that they print, and how they are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_it import MarkdownIt
from playwright._impl._driver import compute_driver_executable

from tests.docs.sentences import ROOT
from tests.foreign import environment
from tests.running import lacking

SECONDS = 60.0
SUFFIXES = {"sh": "sh", "python": "py", "javascript": "mjs"}
PRINTED = {"json", "text"}
"""The languages of the blocks that show what the blocks before them print."""
FOREIGN = re.compile(r"^(?:from|import) (?:kserve|tritonclient)\b", re.MULTILINE)
"""What imports a package that the tests of this project cannot have beside their own."""


@dataclass(frozen=True, slots=True)
class Example:
    """All code of one language in one section of a page, in order, and what it prints.

    ``printed`` has one text for each block of output that is shown for it.
    """

    section: str
    language: str
    source: str
    printed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.section}, {self.language}"


def examples(markdown: str) -> list[Example]:
    """The examples of a page.

    A fenced block of JSON or text is what each block of code prints that stands between it and the last such block.
    """
    found: dict[tuple[str, str], Example] = {}
    before: list[tuple[str, str]] = []
    for section, language, text in _fences(markdown):
        if language in PRINTED:
            for key in before:
                found[key] = replace(found[key], printed=(*found[key].printed, text))
            before = []
        elif language in SUFFIXES:
            key = (section, language)
            whole = found[key].source + text if key in found else text
            found[key] = replace(found.get(key, Example(section, language, "")), source=whole)
            before = [*(one for one in before if one[0] == section), key]
    return list(found.values())


def _fences(markdown: str) -> Iterator[tuple[str, str, str]]:
    section, is_heading = "", False
    for token in MarkdownIt("commonmark").parse(markdown):
        if token.type == "heading_open":
            is_heading = True
        elif token.type == "inline" and is_heading:
            section, is_heading = token.content, False
        elif token.type == "fence":
            yield section, token.info.strip(), token.content


def run(example: Example, folder: Path, meant: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """What an example prints, run in this folder. ``meant`` says what stands for the words of the page.

    Skips the test if the example needs a package that is not there. Raises ``AssertionError`` if the example fails, and
    ``subprocess.TimeoutExpired`` if it takes too long.
    """
    source = example.source
    for word, real in meant.items():
        source = source.replace(word, real)
    file = folder / f"example.{SUFFIXES[example.language]}"
    file.write_text(source)
    done = subprocess.run(
        [*_command(example), file.name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{source}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _command(example: Example) -> list[str]:
    if example.language == "sh":
        return ["bash", "-e", "-o", "pipefail"]
    if example.language == "javascript":
        return [compute_driver_executable()[0]]
    if FOREIGN.search(example.source) is None:
        return [sys.executable]
    if not environment.made():
        lacking(environment.MISSING)
    return [str(environment.folder() / "bin" / "python")]


def shows(printed: str, output: str) -> bool:
    """Whether the output is what a page shows.

    White space does not count in JSON, nor at the end of a line elsewhere. Three dots stand for anything within a
    line, and in a line of their own for any lines.
    """
    if printed.startswith("{"):
        return re.fullmatch(_pattern("".join(printed.split())), "".join(output.split())) is not None
    lines = "".join("(?:.*\n)*" if line == "..." else _pattern(line) + " *\n" for line in printed.splitlines())
    return re.fullmatch(lines, output) is not None


def _pattern(text: str) -> str:
    return ".*?".join(map(re.escape, text.split("...")))
