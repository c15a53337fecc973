"""What the commands about models print is what was written, not markup."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.__main__ import main

STRANGE = "[red]x[/] [/y] :rose:"


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
