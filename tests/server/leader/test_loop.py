"""A loop goes on whatever its step does, and pauses as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from server.leader.loop import QUIET_SECONDS, Loop
from server.queue import StorageError

EVERY = 7.0


class Pauses:
    """Does not wait, but records for how long it should."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, event: threading.Event, seconds: float) -> None:
        if not event.is_set():
            self.seconds.append(seconds)


def run(steps: int, step: Callable[[Loop, int], None]) -> list[float]:
    """Run a loop for so many steps, each of which gets its number; returns the pauses between them."""
    done, pauses = [], Pauses()

    def numbered() -> None:
        done.append(1)
        if len(done) == steps:
            loop.stop()
        step(loop, len(done))

    loop = Loop("sweeping", numbered, lambda: EVERY, wait=pauses)
    loop.run()
    assert len(done) == steps
    return pauses.seconds


@pytest.mark.parametrize("error", [StorageError("the disk refused"), OSError("the disk refused"), KeyError("a bug")])
def test_a_step_that_fails_is_told_and_tried_again_after_a_pause(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_once(loop: Loop, number: int) -> None:
        if number == 1:
            raise error

    assert run(3, fail_once) == 2 * [QUIET_SECONDS, EVERY - QUIET_SECONDS]
    (record,) = caplog.records
    assert record.getMessage().startswith("sweeping failed, and is tried again within 7 s")
    assert str(error) in caplog.text


def test_an_outage_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    def fail(loop: Loop, number: int) -> None:
        if number in (1, 2, 3, 6):
            raise StorageError("the disk refused")

    run(6, fail)
    told = [record.getMessage().partition(",")[0] for record in caplog.records]
    assert told == ["sweeping failed", "sweeping works again", "sweeping failed"]


def test_a_nudge_during_a_step_brings_the_next_one_soon() -> None:
    def nudge_once(loop: Loop, number: int) -> None:
        if number == 1:
            loop.nudge()

    assert run(3, nudge_once) == [QUIET_SECONDS, QUIET_SECONDS, EVERY - QUIET_SECONDS]


def test_a_loop_that_was_stopped_before_it_began_does_nothing() -> None:
    steps: list[int] = []
    loop = Loop("starting", lambda: steps.append(1), lambda: EVERY)
    loop.stop()
    loop.start()
    assert loop.join(10)
    assert not steps
