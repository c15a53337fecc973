"""Sweeping deletes what nobody needs any more, page by page."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from server.blobs import BlobError, DirectoryBlobs
from server.leader import sweeping
from server.leader.sweeping import ORPHAN_SECONDS
from server.queue import new_id
from server.queue.operations import sweeps
from server.queue.operations.upkeep import PAGE
from server.queue.store.tables import shares, waiting
from server.queue.store.transactions import Transaction
from tests.server.given import submission
from tests.server.leader.leader_world import Obedient, World

DAY = 86400.0


def names(folder: Path) -> list[str]:
    """The names of the blobs."""
    return sorted(path.name for path in (folder / "blobs").iterdir())


class Aged(DirectoryBlobs):
    """Takes all its files for old."""

    def older_than(self, seconds: float) -> Iterator[str]:
        assert seconds == ORPHAN_SECONDS
        return super().older_than(-10.0)


def aged(folder: Path, kind: type[Aged] = Aged) -> World:
    return World(folder, Obedient(), blobs=kind(folder / "blobs"))


def test_old_results_go_with_their_blobs_and_orphans_too(tmp_path: Path, worlds: list[World]) -> None:
    worlds.append(world := aged(tmp_path))
    old = world.finish()
    world.clock.now += DAY
    recent, waiting = world.finish("premium"), world.submit("premium", deadline=10 * DAY)
    world.blobs.put("porphan", [[b"x"]])
    world.sweep(1)
    assert world.queue.get(old).result(10) is None
    assert world.get(recent).id == recent
    assert names(tmp_path) == sorted([old, recent, waiting, "porphan"]), "one look is not enough to delete a blob"
    world.sweep()
    assert names(tmp_path) == [waiting], "a crash left the pictures of those that have ended"
    world.sweep()
    assert names(tmp_path) == [waiting]


def test_a_blob_that_looks_old_and_gets_its_row_stays(tmp_path: Path, worlds: list[World]) -> None:
    """As after a clock that was set ahead by an hour while the request was under way."""
    worlds.append(world := aged(tmp_path))
    key = new_id(world.clock)
    size = world.blobs.put(key, [[b"picture"]])
    world.sweep()
    world.queue.submit(submission(world.clock, id=key, size=size), 1000).result(10)
    world.sweep()
    world.sweep()
    assert names(tmp_path) == [key]


def test_a_sweep_trusts_no_clock_but_that_of_the_files(tmp_path: Path, world: World) -> None:
    world.blobs.put("porphan", [[b"x"]])
    for _ in range(3):
        world.sweep(DAY)  # the server's clock runs ahead
    assert names(tmp_path) == ["porphan"]
    long_ago = time.time() - ORPHAN_SECONDS - 10
    os.utime(tmp_path / "blobs" / "porphan", (long_ago, long_ago))
    world.clock.now -= 30 * DAY
    world.sweep()
    world.sweep()
    assert names(tmp_path) == []


def test_blobs_that_are_young_are_no_orphans(world: World, tmp_path: Path) -> None:
    world.blobs.put("porphan", [[b"x"]])
    world.sweep()
    world.sweep()
    assert names(tmp_path) == ["porphan"]


def test_what_a_store_kept_the_next_sweep_removes(tmp_path: Path, worlds: list[World]) -> None:
    class Stubborn(Aged):
        """Refuses to delete at first."""

        refuses = True

        def delete(self, keys: Iterable[str]) -> None:
            if self.refuses:
                raise BlobError("cannot delete blobs: no answer in time")
            super().delete(keys)

    worlds.append(world := aged(tmp_path, Stubborn))
    old = world.finish()
    world.sweep()
    with pytest.raises(BlobError):
        world.sweep()
    assert names(tmp_path) == [old]
    Stubborn.refuses = False
    world.sweep()
    assert names(tmp_path) == []


def test_a_sweep_stops_between_two_pages_when_its_term_is_over(
    tmp_path: Path, worlds: list[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "PAGE", 2)
    swept: list[str] = []

    class Ending(Aged):
        """Ends the leader's term while the first page is deleted."""

        def delete(self, keys: Iterable[str]) -> None:
            world.term().end()
            swept.extend(taken := list(keys))
            super().delete(taken)

    worlds.append(world := aged(tmp_path, Ending))
    for number in range(6):
        world.blobs.put(f"porphan{number}", [[b"x"]])
    world.sweep()
    world.sweep()
    assert len(swept) == 2
    world.leader.sweeping.step(world.term())
    assert len(swept) == 2, "a term that is over begins nothing"
    world.leader = world.another()
    world.sweep()
    assert len(swept) == 2, "a leader believes its own looks only"
    world.sweep()
    assert len(swept) == 4


def test_all_jobs_of_long_ago_are_forgotten_in_one_sweep(world: World) -> None:
    for number in range(2 * PAGE + 1):
        world.queue.open_job(f"job-{number}", "free", "run")
        world.queue.end_job(f"job-{number}", "done", blame=False)
    assert world.queue.open_job("job-0", "free", "run").result(20) is False
    world.sweep(DAY + 1)
    assert world.queue.open_job("job-0", "free", "run").result(20) is True
    assert world.queue.open_job(f"job-{2 * PAGE}", "free", "run").result(20) is True


def test_counts_and_shares_that_nobody_needs_go_in_one_sweep_page_after_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_COUNTS", "_SHARES"):
        monkeypatch.setattr(sweeps, name, getattr(sweeps, name).limit(2))
    monkeypatch.setattr(sweeps, "PAGE", 2)
    for number in range(5):
        one = submission(world.clock, caller=f"owner:{number}")
        world.queue.submit(one, 1000).result(10)
        world.queue.cancel(one.id).result(10)
    world.sweep(DAY)

    def left(tx: Transaction) -> int:
        return sum(len(tx.rows(sa.select(table.c.tier))) for table in (waiting, shares))

    assert world.database.read(left).result(10) == 0
