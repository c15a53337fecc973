"""Whatever happens, the log grows by some lines a minute, and says how many it leaves out."""

from __future__ import annotations

import logging

import pytest

from server.logs import AUDIT, LINES, SECONDS, Tally, Throttle
from tests.server.given import HandClock


class Kept(logging.Handler):
    """Keeps the texts that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def kept() -> Kept:
    return Kept()


def logger(name: str, kept: Kept) -> logging.Logger:
    found = logging.Logger(name)
    found.addHandler(kept)
    return found


def test_a_tally_says_the_first_at_once_and_then_once_a_minute_how_many(kept: Kept) -> None:
    clock = HandClock()
    tally = Tally(logger("a", kept), "%d failed, last: %s", clock)
    tally.say()
    for number in range(1000):
        tally.add(f"reason {number}")
    assert kept.texts == ["1 failed, last: reason 0"]
    clock.now += SECONDS
    tally.say()
    tally.say()
    assert kept.texts[1:] == ["999 failed, last: reason 999"]


def test_a_flood_of_one_logger_is_cut_and_others_are_heard(kept: Kept) -> None:
    clock = HandClock()
    kept.addFilter(Throttle(clock))
    loud, quiet = logger("loud", kept), logger("quiet", kept)
    for _ in range(10 * LINES):
        loud.warning("%s went wrong", "something")
    assert kept.texts == ["something went wrong"] * LINES
    quiet.warning("hello")
    clock.now += SECONDS
    loud.warning("again")
    loud.warning("and again")
    assert kept.texts[LINES:] == ["hello", f"({9 * LINES} lines left out before) again", "and again"]


def test_no_line_of_the_audit_is_left_out(kept: Kept) -> None:
    kept.addFilter(Throttle(HandClock()))
    audit = logger(AUDIT, kept)
    for number in range(3 * LINES):
        audit.warning("%d", number)
    assert kept.texts == [str(number) for number in range(3 * LINES)]


def test_the_filter_passes_what_was_never_too_much(kept: Kept) -> None:
    clock = HandClock()
    kept.addFilter(Throttle(clock))
    quiet = logger("quiet", kept)
    for number in range(LINES + 1):
        quiet.warning("100 %")
        clock.now += SECONDS / LINES + number % 2
    assert kept.texts == ["100 %"] * (LINES + 1)
