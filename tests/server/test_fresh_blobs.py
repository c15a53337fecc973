"""Blobs in memory are the same as those on disk, and never take more memory than they may."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from server.blobs import DirectoryBlobs, FreshBlobs
from server.blobs.fresh import LARGEST_BYTES, MOST_BYTES, SECONDS
from tests.server.given import HandClock

PICTURE = [[b"one ", b"picture"], [b"another"]]
LARGE = [[b"\0" * (LARGEST_BYTES - 8)]]  # a blob of one picture has a header of eight bytes
ROOM = MOST_BYTES // LARGEST_BYTES


def test_it_is_the_blob_that_was_kept(tmp_path: Path) -> None:
    kept, fresh = DirectoryBlobs(tmp_path), FreshBlobs()
    kept.put("p1", PICTURE)
    fresh.remember("p1", PICTURE)
    assert fresh.take(["p1"]) == [kept.get("p1")]
    kept.close()


def test_all_of_them_or_none_and_each_but_once() -> None:
    fresh = FreshBlobs()
    for key in ("p1", "p2"):
        fresh.remember(key, PICTURE)
    assert fresh.take(["p1", "p2", "p3"]) is None
    assert len(fresh.take(["p2", "p1"]) or []) == 2
    assert fresh.take(["p1"]) is None
    assert fresh.take([]) == []


def test_what_is_not_asked_for_is_forgotten_after_a_while() -> None:
    clock = HandClock()
    fresh = FreshBlobs(clock)
    fresh.remember("p1", PICTURE)
    clock.now += SECONDS / 2
    fresh.remember("p2", PICTURE)
    clock.now += SECONDS / 2 + 1
    fresh.remember("p3", PICTURE)
    assert fresh.take(["p1"]) is None
    assert fresh.take(["p2", "p3"]) is not None


def test_the_oldest_stay_when_there_is_no_room() -> None:
    fresh = FreshBlobs()
    for number in range(ROOM + 1):
        fresh.remember(f"p{number}", LARGE)
    assert fresh.take([f"p{ROOM}"]) is None
    fresh.forget(["p0", "never"])
    fresh.remember("p", LARGE)
    assert len(fresh.take([*(f"p{number}" for number in range(1, ROOM)), "p"]) or []) == ROOM


def test_a_large_one_is_read_when_it_is_needed() -> None:
    fresh = FreshBlobs()
    fresh.remember("p1", [[*LARGE[0], b"x"]])
    assert fresh.take(["p1"]) is None


@given(st.lists(st.tuples(st.sampled_from("rtf"), st.integers(0, 40), st.floats(0, SECONDS)), max_size=120))
def test_whatever_happens_they_fit(steps: list[tuple[str, int, float]]) -> None:
    clock = HandClock()
    fresh = FreshBlobs(clock)
    for step, number, passed in steps:
        clock.now += passed / 10
        key = f"p{number}"
        if step == "r" and fresh.take([key]) is None:
            fresh.remember(key, LARGE)
        elif step == "t":
            fresh.take([key])
        elif step == "f":
            fresh.forget([key])
    held = [blobs[0] for number in range(41) if (blobs := fresh.take([f"p{number}"]))]
    assert sum(map(len, held)) <= MOST_BYTES
    for number in range(ROOM):
        fresh.remember(f"p{number}", LARGE)
    assert fresh.take([f"p{number}" for number in range(ROOM)]) is not None, "what was taken takes no room"
