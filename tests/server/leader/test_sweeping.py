"""Sweeping deletes what nobody needs any more, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from server.blobs import BlobError, DirectoryBlobs
from server.leader import sweeping
from server.leader.sweeping import ORPHAN_SECONDS
from tests.server.leader.leader_world import Obedient, World

DAY = 86400.0


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
    assert sorted(path.name for path in (tmp_path / "blobs").iterdir()) == sorted([recent, waiting])


def test_blobs_that_are_young_are_no_orphans(world: World, tmp_path: Path) -> None:
    world.blobs.put("porphan", [[b"x"]])
    world.sweep()
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == ["porphan"]


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
    with pytest.raises(BlobError):
        world.sweep(DAY + 1)
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [old]
    Stubborn.refuses = False
    world.sweep()
    assert list((tmp_path / "blobs").iterdir()) == []


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
    assert len(swept) == 2
    world.leader.sweeping.step(world.term())
    assert len(swept) == 2, "a term that is over begins nothing"
    world.leader = world.another()
    world.sweep()
    assert len(swept) == 4
