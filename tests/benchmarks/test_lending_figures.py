"""The figures of lending: a wave on a real server is measured, and what goes wrong is told."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.lending import Wave, Waves, tell_waves, waves

GOOD = Wave(started=0.3, asked=0.9, label=1.1, gone=(0.2, 0.4), jobs=2)


def told(found: Waves) -> tuple[bool, str]:
    text = io.StringIO()
    return tell_waves(Console(file=text, width=200), found), text.getvalue()


def test_a_wave_on_a_real_server_is_measured(models: Path, tmp_path: Path) -> None:
    found = waves(models, tmp_path, 1, 2)
    (wave,) = found.waves
    assert 0 < wave.started < wave.asked < wave.label
    assert len(wave.gone) == 1
    assert found.predictions > 8
    assert (found.lost, found.attempts, found.needless) == (0, 0, 0)


def test_the_moments_are_told_with_their_medians() -> None:
    late = Wave(started=3.0, asked=4.0, label=5.0, gone=(0.6,), jobs=1)
    kept, text = told(Waves([GOOD, late, GOOD], predictions=24, lost=0, attempts=0))
    assert kept
    assert "median of 3: met" in text
    assert "5 workers were recalled; they ended after 0.40 s, at most 0.60" in text
    kept, text = told(Waves([late, late, GOOD], predictions=24, lost=0, attempts=0))
    assert kept
    assert "median of 3: missed" in text


@pytest.mark.parametrize(
    "found",
    [
        Waves([GOOD], predictions=8, lost=1, attempts=0),
        Waves([GOOD], predictions=8, lost=0, attempts=1),
        Waves([Wave(0.3, 0.9, 1.1, (0.2, 0.4), 1)], predictions=8, lost=0, attempts=0),
    ],
    ids=["lost", "attempt", "needless"],
)
def test_what_must_not_be_fails(found: Waves) -> None:
    assert not told(found)[0]
