"""How models did: nothing is counted twice or lost, quantiles are near, and models no longer served are forgotten."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.models.measures import LAST_CLASS, Counts, Measures, shown
from server.queue import Completion, Measured, QueueError, Served, Serving
from server.time_classes import class_of, quantile

OLD = Served("flowers@11111111", "1" * 64, "onnx", "int8", 0.0)
NEW = replace(OLD, reference="flowers@22222222")


class Book:
    """A queue that adds up what it is told; while ``away`` it fails."""

    def __init__(self) -> None:
        self.away = False
        self.sums: dict[tuple[str, str], Counts] = {}
        self.serving = Serving(main=OLD)

    def write(self, rows: Sequence[tuple[str, str, Measured]]) -> Future[None]:
        done: Future[None] = Future()
        if self.away:
            done.set_exception(QueueError("away"))
            return done
        for tier, key, one in rows:
            counts = self.sums.setdefault((tier, key), Counts())
            counts.predictions += one.predictions
            counts.pictures += one.pictures
            counts.failed += one.failed
            counts.unsure += one.unsure
            counts.milliseconds += Counter(one.milliseconds)
        done.set_result(None)
        return done

    def of(self, tier: str) -> Serving:
        return self.serving if tier == "free" else Serving()


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def measures(book: Book) -> Measures:
    return Measures(book.write, book.of)


def result(score: float | None, code: str = "model_failed") -> dict[str, object]:
    if score is None:
        return {"error": {"code": code, "detail": "It failed."}}
    return {"labels": [{"label": "rose", "score": score}, {"label": "tulip", "score": 0.01}]}


def completion(*results: dict[str, object], took: float = 10.0) -> Completion:
    return Completion("p", "t", list(results), None, took, OLD.reference)


def accept(measures: Measures, key: str, one: Completion) -> None:
    measures.add("free", key, [one], ["accepted"])


def test_only_accepted_results_of_known_models_count(measures: Measures) -> None:
    outcomes = ["accepted", "duplicate", "invalid", "again", "unknown", "final"]
    measures.add("free", OLD.key, [completion(result(0.9))] * 6, outcomes)
    measures.add("free", NEW.key, [completion(result(0.9))] * 5, outcomes[1:])
    measures.add("free", "", [completion(result(0.9))], ["accepted"])
    assert {pair: one.predictions for pair, one in measures.counts().items()} == {("free", OLD.key): 1}


def test_a_result_counts_its_pictures_failures_and_low_scores(book: Book, measures: Measures) -> None:
    results = [result(0.9), result(0.499), result(None), result(None, "image_broken"), result(0.5)]
    accept(measures, OLD.key, completion(*results, took=8))
    measures.flush()
    assert book.sums == {("free", OLD.key): Counts(1, 5, 1, 1, 0.0, Counter({12: 1}))}
    assert measures.counts()["free", OLD.key].seconds == 0.008


def test_scores_of_another_function_are_not_of_low_confidence(book: Book, measures: Measures) -> None:
    accept(measures, OLD.key, replace(completion(result(-3.5)), function="none"))
    measures.flush()
    assert (book.sums["free", OLD.key].pictures, book.sums["free", OLD.key].unsure) == (1, 0)


def test_each_flush_writes_only_what_is_new(book: Book, measures: Measures) -> None:
    for _ in range(3):
        accept(measures, OLD.key, completion(result(0.9)))
        accept(measures, NEW.key, completion(result(0.1)))
        measures.flush()
        measures.flush()
    assert {key: one.predictions for (_, key), one in book.sums.items()} == {OLD.key: 3, NEW.key: 3}
    assert book.sums["free", NEW.key].unsure == 3


def test_what_the_database_could_not_take_comes_with_the_next_flush(book: Book, measures: Measures) -> None:
    accept(measures, OLD.key, completion(result(0.9)))
    book.away = True
    with pytest.raises(QueueError):
        measures.flush()
    accept(measures, OLD.key, completion(result(0.9)))
    book.away = False
    measures.flush()
    assert book.sums["free", OLD.key].predictions == 2


def test_models_that_are_served_no_more_are_forgotten_once_they_are_written(book: Book, measures: Measures) -> None:
    for number in range(100):
        accept(measures, f"flowers@{number:08} onnx/int8", completion(result(0.9)))
    accept(measures, OLD.key, completion(result(0.9)))
    measures.flush()
    assert len(measures.counts()) == 101
    measures.flush()
    assert list(measures.counts()) == [("free", OLD.key)]
    book.serving = Serving(main=NEW, canary=OLD, percent=5)
    measures.flush()
    assert list(measures.counts()) == [("free", OLD.key)]
    book.serving = Serving(main=NEW)
    measures.flush()
    assert measures.counts() == {}
    assert sum(one.predictions for one in book.sums.values()) == 101
    accept(measures, OLD.key, completion(result(0.9)))  # a late one
    measures.flush()
    assert book.sums["free", OLD.key].predictions == 2


@given(st.floats(0, 1e9, allow_nan=False))
def test_a_time_lies_in_its_class(took: float) -> None:
    at = class_of(took, LAST_CLASS)
    assert 0 <= at <= LAST_CLASS
    assert at == LAST_CLASS or took <= 2 ** (at / 4) * (1 + 1e-12)
    assert at == 0 or took > 2 ** ((at - 1) / 4) * (1 - 1e-12)


@given(st.lists(st.floats(1, 100_000), min_size=1, max_size=300), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_within_nine_percent(times: list[float], part: float) -> None:
    found = quantile(Counter(class_of(took, LAST_CLASS) for took in times), part)
    assert found is not None
    true = sorted(times)[math.ceil(part * len(times)) - 1]
    assert found == pytest.approx(true, rel=0.1, abs=0.1)


def test_what_is_told(measures: Measures) -> None:
    for took in range(1, 101):
        accept(measures, OLD.key, completion(result(0.9 if took > 10 else 0.2), took=took))
    told = shown(measures.counts()["free", OLD.key].since(Counts()))
    assert told["predictions"] == told["pictures"] == 100
    assert told["failed"] == 0
    assert told["low_confidence"] == 0.1
    assert told["p50_ms"] == pytest.approx(statistics.median(range(1, 101)), rel=0.1)
    assert told["p95_ms"] == pytest.approx(95, rel=0.1)


def test_of_a_model_without_a_result_nothing_is_known() -> None:
    assert shown(None) == {
        "predictions": 0,
        "pictures": 0,
        "failed": 0,
        "low_confidence": None,
        "p50_ms": None,
        "p95_ms": None,
    }
