"""The packaged viewer is the version that its record names, byte for byte."""

from __future__ import annotations

import json

from tests.supply.viewer import FOLDER, PACKAGE, PROGRAM, RECORD, digest


def test_the_viewer_is_the_one_that_was_recorded() -> None:
    record = json.loads(RECORD.read_text())
    assert record["package"] == PACKAGE
    assert {name: digest(FOLDER / name) for name in record["sha256"]} == record["sha256"]
    assert PROGRAM in record["sha256"]
    assert f" {record['version']} " in (FOLDER / PROGRAM).read_text().splitlines()[0]


def test_the_license_of_the_viewer_lets_everybody_pass_it_on() -> None:
    assert json.loads(RECORD.read_text())["license"] == "Apache-2.0"
    assert "Apache License" in (FOLDER / "LICENSE").read_text()
