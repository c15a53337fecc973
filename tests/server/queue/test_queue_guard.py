"""Who may open a data directory: one process at a time, on a local filesystem, and not an older version."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.queue import CannotOpen, DataInUse, NetworkFilesystem, NewerSchema, SQLite
from server.queue.store.guard import filesystem_type
from server.queue.store.migrations import VERSION
from server.queue.store.sqlite import FILE
from tests.server.queue.queue_world import World, child, line_of

MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /srv rw - ext4 /dev/vdb rw
31 30 0:27 / /srv/share rw,relatime - nfs4 10.0.0.1:/x rw
32 31 0:28 / /srv/share/local rw - xfs /dev/vdc rw
33 22 0:29 / /mnt/with\040space rw - fuse.sshfs host:/ rw
34 22 0:30 / /over rw - ext4 /dev/vdd rw
35 34 0:31 / /over rw - cifs //host/x rw
broken line
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def test_the_data_directory_is_its_owners_alone(world: World) -> None:
    assert stat.S_IMODE((world.directory / "data").stat().st_mode) == 0o700


def test_a_second_opening_is_refused_and_names_the_holder(world: World) -> None:
    with pytest.raises(DataInUse, match=f"process {os.getpid()} "):
        SQLite.open(world.directory / "data")
    world.submit()


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    with child(tmp_path) as process:
        line_of(process)
        with pytest.raises(DataInUse, match=f"process {process.pid} "):
            SQLite.open(tmp_path)
        process.kill()
        process.wait(30)
        SQLite.open(tmp_path).close()


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "fuse.glusterfs", "lustre"]
)
def test_a_network_filesystem_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(NetworkFilesystem, match=kind):
        SQLite.open(tmp_path / "data", filesystem=kind)
    SQLite.open(tmp_path / "data", filesystem="ext4").close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/x", "ext4"),
        ("/srv/share", "nfs4"),
        ("/srv/share/data", "nfs4"),
        ("/srv/shared", "ext4"),
        ("/srv/share/local/data", "xfs"),
        ("/mnt/with space/data", "fuse.sshfs"),
        ("/over/data", "cifs"),
    ],
)
def test_the_nearest_and_last_mount_decides(path: str, kind: str) -> None:
    assert filesystem_type(Path(path), MOUNTS) == kind


def test_without_a_list_of_mounts_the_type_is_unknown() -> None:
    assert filesystem_type(Path("/srv"), "") == ""


def test_data_of_a_newer_version_is_refused_and_left_alone(world: World) -> None:
    one = world.submit()
    world.stop()
    path = world.directory / "data" / FILE
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerSchema, match="99"):
        world.start()
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.close()
    world.start()
    world.get(one)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, and long enough to be seen as none" * 100)
    with pytest.raises(CannotOpen, match="not a database"):
        SQLite.open(tmp_path)
    (tmp_path / FILE).unlink()
    SQLite.open(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotOpen):
        SQLite.open(tmp_path / "file" / "data")
