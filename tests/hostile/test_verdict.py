"""The verdict is given bad rounds, and says what is wrong with each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.oddities import GUESSED
from tests.hostile.seen import Sample, Stretch, samples
from tests.hostile.verdict import Round, broken, slow

FINE = Stretch(
    [
        Sample(kind, 0.1 * number, number % 2 == 0, 0.01, 200)
        for kind in ("healthz", "premium", "free")
        for number in range(20)
    ],
    peak_mb=100.0,
)
GOOD = Round(FINE, FINE, b"")


def with_samples(kind: str, count: int, **changes: Any) -> Round:
    """The good round, in which so many of one kind's requests were different."""
    of_kind = FINE.of(kind)
    changed = [replace(sample, **changes) for sample in of_kind[:count]] + of_kind[count:]
    others = [sample for sample in FINE.samples if sample.kind != kind]
    return replace(GOOD, during=replace(FINE, samples=[*others, *changed]))


def test_a_good_round_is_good() -> None:
    assert broken(GOOD) == slow(GOOD) == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param(with_samples("free", 1, status=500), "1 honest requests of free: answered 500", id="500"),
        pytest.param(with_samples("free", 1, status=503), "free: answered 503", id="503 without Retry-After"),
        pytest.param(
            with_samples("free", 2, status=0, trouble="reset"), "2 honest requests of free: reset", id="no answer"
        ),
        pytest.param(with_samples("healthz", 2, status=0, took=None), "healthz: no answer", id="still no answer"),
        pytest.param(with_samples("premium", 4, status=503, retry=True), "too few were done", id="refused"),
        pytest.param(replace(GOOD, during=replace(FINE, peak_mb=401.0)), "401 MB", id="memory"),
        pytest.param(replace(GOOD, log=b"Traceback (most recent call last)"), "traceback", id="traceback"),
        pytest.param(replace(GOOD, log=f"bad key {GUESSED}".encode()), "a key is in the log", id="key"),
        pytest.param(replace(GOOD, log=b"x" * 9000), "grew by 9000 bytes", id="long log"),
        pytest.param(replace(GOOD, ended="a worker has ended"), "a worker has ended", id="dead worker"),
    ],
)
def test_what_must_never_happen_is_seen(bad: Round, words: str) -> None:
    (complaint,) = broken(bad)
    assert words in complaint


def test_one_connection_that_was_closed_for_another_is_no_fault() -> None:
    assert broken(with_samples("free", 1, status=0, trouble="reset")) == []


def test_a_free_tier_that_says_when_to_come_back_is_no_fault() -> None:
    assert broken(with_samples("free", 20, status=503, retry=True)) == []


@pytest.mark.parametrize("kind", ["healthz", "premium"])
def test_slow_answers_are_seen(kind: str) -> None:
    (complaint,) = slow(with_samples(kind, 2, took=0.07))
    assert complaint == f"{kind}: p95 70 ms; 60 are allowed, 10 is usual"


def test_a_test_minds_only_very_slow_answers() -> None:
    assert slow(with_samples("premium", 2, took=0.07), 1.0) == []
    assert slow(with_samples("premium", 2, took=1.1), 1.0) != []


def test_too_few_answers_are_no_proof() -> None:
    assert slow(with_samples("premium", 17, status=503, retry=True)) == ["premium: too few answers to tell"]


def test_samples_are_read_while_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "honest.jsonl"
    lines = [
        {"number": 0, "kind": "free", "began": 1.0, "apart": True},
        {"number": 1, "kind": "free", "began": 2.0, "apart": False},
        {"number": 0, "took": 0.5, "status": 200, "retry": False},
        {"number": 2, "kind": "free", "began": 3.0, "apart": True},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"number": 1, "to')
    assert samples(file, 1.0, 3.0) == [Sample("free", 1.0, True, 0.5, 200), Sample("free", 2.0, False)]
