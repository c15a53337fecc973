"""Damaged pictures of every format become arrays or errors, and harm neither the worker nor its decoder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.mutants import mutant, seeds
from tests.hostile.pictures import Bench, Report, run
from tests.model.pictures import LITE0
from tests.running import ROOT


def test_thousands_of_damaged_pictures_are_arrays_or_errors() -> None:
    report = Report()
    for _ in run(3000, 20, 1, LITE0, report):
        pass
    assert report.failures == []
    assert report.codes.total() == 3000
    assert report.growth() < 40
    assert report.codes["decoded"] > 600, "the damage is so great that decoders are hardly reached"
    assert len(report.codes) >= 5


def test_every_seed_is_a_picture(tmp_path: Path) -> None:
    bench = Bench(LITE0, tmp_path)
    try:
        # The second and the third are in arithmetic coding only by their marker: their data does not fit.
        assert {bench.decode(data)[0] for data in (seeds()[0], *seeds()[3:])} == {"decoded"}
    finally:
        bench.decoder.close()
        os.close(bench.current)


def test_a_number_gives_the_same_picture_again() -> None:
    assert [mutant(3, number) for number in range(200)] == [mutant(3, number) for number in range(200)]
    assert len({mutant(3, number) for number in range(200)}) > 150


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("raise RuntimeError('a bug of ours')", "a bug of ours", id="exception"),
        pytest.param("import os; os.abort()", "a process died", id="death"),
    ],
)
def test_a_failure_is_shown_and_saved(tmp_path: Path, code: str, expected: str) -> None:
    """``code`` runs in the place of decoding."""
    program = f"""
import sys, model.decoder
def load(*args):
    {code}
model.decoder.Decoder.load = load
if __name__ == "__main__":
    import tests.hostile.pictures as pictures
    sys.exit(pictures.main())
"""
    (tmp_path / "broken.py").write_text(program)
    command = [sys.executable, str(tmp_path / "broken.py"), "--count", "3", "--save", str(tmp_path / "saved")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert expected in ended.stdout
    assert (tmp_path / "saved" / "1-0").read_bytes() == mutant(1, 0)
