"""Results in a file, FILE.csv or FILE.jsonl, each line of which is whole at any moment."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from tierserve.errors import Refused, TierserveError
from tierserve.mapping import Outcome
from tierserve.pictures import name_of
from tierserve.shown import harmless

SUFFIXES = (".csv", ".jsonl")
FORMULAS = ("=", "+", "-", "@")
COLUMNS = ("file", "rank", "label", "score", "model", "milliseconds", "id", "code", "detail")
"""Of a CSV file. A picture has a line for each of its labels, or one with what went wrong."""


class Unwritable(TierserveError):
    """A file of results cannot be written."""


class Output(AbstractContextManager["Output"]):
    """Writes results into a file as they come. What was in the file before is gone.

    Raises ``Unwritable``, also if the file's suffix is neither ``.csv`` nor ``.jsonl``. Use it as a ``with``.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._csv, self._whole = path, path.suffix.lower() == ".csv", 0
        if path.suffix.lower() not in SUFFIXES:
            raise Unwritable(f"{path} must end with {' or '.join(SUFFIXES)}, which says how results are written")
        try:
            self._file = path.open("wb", buffering=0)
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from error
        if self._csv:
            self._write(_lines([COLUMNS]))

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, outcome: Outcome) -> None:
        """Write what came of a picture. Raises ``Unwritable``; what was written before stays as it is."""
        self._write(_lines(_rows(outcome)) if self._csv else json.dumps(document(outcome)) + "\n")

    def _write(self, text: str) -> None:
        """Write whole lines in one call, so that whoever ends this process ends it before or after them."""
        data = text.encode()
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError as error:
            with suppress(OSError):  # a pipe has no length
                self._file.truncate(self._whole)
            raise self._unwritable(error) from error
        self._whole += len(data)

    def _unwritable(self, error: Exception) -> Unwritable:
        return Unwritable(f"{self._path} cannot be written: {getattr(error, 'strerror', None) or error}")


def document(outcome: Outcome) -> Mapping[str, Any]:
    """What came of a picture, in JSON: its ``file``, and the prediction, or the problem instead of one."""
    return {"file": name_of(outcome.picture), **_answer(outcome)}


def _answer(outcome: Outcome) -> Mapping[str, Any]:
    if outcome.prediction is not None:
        return outcome.prediction.document
    if isinstance(outcome.error, Refused):
        return outcome.error.document
    return {"detail": str(outcome.error)}


def _rows(outcome: Outcome) -> Iterable[tuple[object, ...]]:
    file, found = _file(name_of(outcome.picture)), outcome.prediction
    known = ("", "", "") if found is None else (found.model, found.metrics.predict_ms, found.id)
    if outcome.error is not None:
        code = getattr(outcome.error, "code", "")
        return [(file, "", "", "", *known, code, _text(getattr(outcome.error, "detail", str(outcome.error))))]
    return [
        (file, rank, _text(one.label), one.score, *known, "", "") for rank, one in enumerate(outcome.labels, start=1)
    ]


def _lines(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _file(name: str) -> str:
    """A path as it stands in a cell. What spreadsheets would take for a formula is the same path with ``./``."""
    return harmless(f"./{name}" if name.startswith(FORMULAS) and name != "-" else name)


def _text(text: str) -> str:
    """Text of others as it stands in a cell. What spreadsheets would take for a formula gets an apostrophe."""
    formula = text.startswith(FORMULAS) and not re.fullmatch(r"[+-]?[0-9.]+", text)
    return harmless(f"'{text}" if formula else text)
