"""What the commands about models print is what was written, not markup."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.table import Table

from model.__main__ import main
from model.build.terminal import Terminal

STRANGE = "[red]x[/] [/y] :rose: \\"


def test_names_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert main(["build", STRANGE, "--name", STRANGE, "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count(STRANGE) == 2
    assert main(["list", "--models", str(tmp_path / STRANGE)]) == 1
    assert STRANGE in capsys.readouterr().err
    assert main(["tag", STRANGE, "new", "--models", str(tmp_path)]) == 1
    assert STRANGE in capsys.readouterr().err


def test_what_steers_a_terminal_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["build", "x\x1b[2J\n"], ["list", "--models", "x\x1b[2J\n"]):
        assert main(words) == 1
        assert r"x\x1b[2J\n" in capsys.readouterr().err
    assert main(["tag", "x\x1b[2J", "new", "--models", str(tmp_path)]) == 1
    assert "\x1b" not in capsys.readouterr().err


def test_a_table_is_whole_in_a_pipe_and_in_any_encoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", file)
    terminal, table = Terminal(), Table("model")
    table.add_row(terminal.cell("\u84b2" + "x" * 200))
    terminal.table(table)
    terminal.line("\xe9[b]")
    file.flush()
    shown = file.buffer.getvalue().decode("ascii")
    assert r"\u84b2" + "x" * 200 in shown
    assert shown.endswith("\\xe9[b]\n")
