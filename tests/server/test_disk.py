"""The room of a disk: what new pictures leave, what the ballast gives, and how both come back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server import disk
from server.blobs import BlobError, BlobsFull, DirectoryBlobs
from server.disk import BALLAST, RESERVE_BYTES, Disk, NoRoom
from server.queue import SQLite
from tests.faults.small_disk import small_disk
from tests.running import lacking

MEGABYTES = 16
RESERVE = 2 * 1024 * 1024  # an eighth


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 16 MB."""
    with small_disk(tmp_path / "small", MEGABYTES) as folder:
        if folder is None:
            lacking("only root can mount a small filesystem")
        else:
            yield folder


def leave(folder: Path, free: int, name: str = "junk") -> None:
    """Have another program leave so many bytes of the filesystem."""
    room = os.statvfs(folder)
    with (folder / name).open("ab", buffering=0) as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), file.tell(), max(1, room.f_bavail * room.f_frsize - free))


def held(folder: Path) -> bool:
    return (folder / BALLAST).exists()


def test_a_reserve_is_an_eighth_and_64_mebibytes_at_most(small: Path, tmp_path: Path) -> None:
    assert Disk(small).look().reserve == RESERVE
    assert Disk(tmp_path).look().reserve == RESERVE_BYTES


def test_new_bytes_leave_the_reserve(small: Path) -> None:
    room = Disk(small).look()
    disk = Disk(small)
    with disk.claim(room.free - RESERVE), pytest.raises(NoRoom) as refused, disk.claim(1):
        pass
    assert (refused.value.room.free, refused.value.room.reserve) == (room.free, RESERVE)
    with disk.claim(room.free - RESERVE):
        pass
    with pytest.raises(NoRoom), disk.claim(room.free - RESERVE + 1):
        pass


def test_the_ballast_goes_when_the_reserve_is_taken_and_comes_back(small: Path) -> None:
    disk = Disk(small, ballast=True)
    assert not disk.look().full
    assert (small / BALLAST).stat().st_blocks * 512 == RESERVE
    leave(small, RESERVE // 2 - 4096)
    room = disk.look()
    assert room.full
    assert room.free >= RESERVE + RESERVE // 2 - 8192
    assert not held(small)
    with pytest.raises(NoRoom), disk.claim(1):
        pass
    assert disk.look().full, "what the ballast has left is not for new pictures"
    (small / "junk").unlink()
    assert not disk.look().full
    assert held(small)
    with disk.claim(1):
        pass


def test_a_disk_is_full_until_there_is_clearly_room(small: Path) -> None:
    disk = Disk(small)
    leave(small, RESERVE * 5 // 4 + 4096)
    assert not disk.look().full
    leave(small, RESERVE * 5 // 4 - 4096)
    assert disk.look().full
    (small / "junk").unlink()
    leave(small, RESERVE * 6 // 4 - 4096)
    assert disk.look().full
    (small / "junk").unlink()
    leave(small, RESERVE * 6 // 4 + 8192)
    assert not disk.look().full


def test_a_write_that_found_no_room_gets_the_ballast_once(small: Path) -> None:
    disk = Disk(small, ballast=True)
    disk.look()
    leave(small, 0)
    assert disk.make_room()
    assert not disk.make_room()
    leave(small, 0, "more")
    assert disk.look().full


def test_a_ballast_of_another_life_is_used(small: Path) -> None:
    Disk(small, ballast=True).look()
    leave(small, 0)
    assert Disk(small, ballast=True).look().free >= RESERVE - 8192
    assert not held(small)


def test_a_folder_in_no_use_has_no_ballast(small: Path) -> None:
    disk = Disk(small, ballast=True)
    disk.look()
    disk.close()
    assert list(small.iterdir()) == []


def test_a_ballast_is_never_written_through_a_link(small: Path, tmp_path: Path) -> None:
    (small / BALLAST).symlink_to(tmp_path / "elsewhere")
    disk = Disk(small, ballast=True)
    disk.look()
    assert not (tmp_path / "elsewhere").exists()


def test_a_disk_that_became_read_only_is_told_apart(small: Path) -> None:
    disk = Disk(small, ballast=True)
    disk.look()
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    assert disk.look().read_only
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    assert not disk.look().read_only
    assert held(small)


def test_a_filesystem_that_does_not_tell_its_size_takes_everything() -> None:
    """As /proc does, and some network filesystems."""
    disk = Disk(Path("/proc/self"), ballast=True)
    room = disk.look()
    assert (room.reserve, room.full) == (0, False)
    with disk.claim(1 << 40):
        pass


def test_a_disk_without_inodes_is_full(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "RESERVE_FILES", os.statvfs(small).f_favail + 1)
    room = Disk(small).look()
    assert (room.full, room.free) == (True, 0)


def test_a_blob_that_would_take_the_reserve_is_refused_with_the_numbers(small: Path) -> None:
    blobs = DirectoryBlobs(small / "blobs")
    leave(small, RESERVE * 2)
    with pytest.raises(BlobsFull) as refused:
        blobs.put("p1", [[bytes(RESERVE + 4096)]])
    assert refused.value.code == "disk_full"
    assert refused.value.numbers["reserve_bytes"] == RESERVE
    assert RESERVE <= refused.value.numbers["free_bytes"] <= RESERVE * 2
    assert list(blobs.older_than(-60)) == []
    blobs.put("p2", [[bytes(RESERVE // 2)]])
    blobs.close()


def test_blobs_never_take_the_ballast(small: Path) -> None:
    """Room that another program takes while a blob is written is a refusal, and no reason to use up the ballast."""
    disk = Disk(small, ballast=True)
    disk.look()

    class Racing(DirectoryBlobs):
        """Has another program fill the disk just before it writes."""

        def _write(self, path: Path, chunks: list[bytes]) -> None:  # type: ignore[override]
            leave(small, 0)
            super()._write(path, chunks)

    blobs = Racing(small / "blobs", disk)
    with pytest.raises(BlobsFull) as refused:
        blobs.put("p1", [[bytes(RESERVE)]])
    assert refused.value.code == "disk_full"
    assert list(blobs.older_than(-60)) == []
    assert disk.look().full
    blobs.close()


def test_rows_go_on_when_the_disk_is_full(small: Path) -> None:
    """The database deletes the ballast by itself: nobody needs to have looked at the disk before."""
    disk = Disk(small, ballast=True)
    with SQLite.open(small / "data") as database:
        database.when_full(disk.make_room)
        disk.look()
        create = "CREATE TABLE filler (text TEXT)"
        database.write(lambda tx: tx.cursor.execute(create)).result(20)
        leave(small, 0)
        for _ in range(20):
            insert = "INSERT INTO filler VALUES (hex(zeroblob(4000)))"
            database.write(lambda tx, insert=insert: tx.cursor.execute(insert)).result(20)  # type: ignore[misc]
        assert not held(small)


def test_a_database_can_be_opened_on_a_full_disk_with_a_ballast(small: Path) -> None:
    disk = Disk(small / "data", ballast=True)
    SQLite.open(small / "data").close()
    disk.look()
    leave(small, 0)
    disk.look()
    SQLite.open(small / "data").close()


def test_a_disk_that_cannot_be_looked_at_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Disk(tmp_path / "gone").look()
    blobs = DirectoryBlobs(tmp_path / "blobs")
    (tmp_path / "blobs").rmdir()
    with pytest.raises(BlobError, match="No such file"):
        blobs.put("p1", [[b"x"]])


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 3 * RESERVE), max_size=12))
def test_whatever_is_kept_the_reserve_stays_free(sizes: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    with small_disk(tmp_path_factory.mktemp("small"), MEGABYTES) as folder:
        if folder is None:
            lacking("only root can mount a small filesystem")
            return
        blobs = DirectoryBlobs(folder)
        for number, size in enumerate(sizes):
            with suppress(BlobsFull):
                blobs.put(f"p{number}", [[bytes(size)]])
            room = os.statvfs(folder)
            assert room.f_bavail * room.f_frsize >= RESERVE - 64 * 1024  # folders and the rounding up to blocks
        blobs.close()
