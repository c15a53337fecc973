"""What others put where the server keeps its state is refused before anything is written to it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.blobs import BlobError, BlobsUnusable, DirectoryBlobs, open_blobs
from server.engines.local import LocalEngine
from server.files import UnsafePath, check_parent, open_file, open_folder
from server.queue import CannotOpen, SQLite

STRANGER = 54321
ROOT = Path(__file__).parents[2]
FILES = ["lock", "queue.db", "queue.db-wal", "queue.db-shm", "queue.db-journal"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as a server leaves it."""
    folder = tmp_path / "state" / "data"
    SQLite.open(folder).close()
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of this user that somebody else wants to have overwritten."""
    path = tmp_path / "victim"
    path.write_text("precious")
    path.chmod(0o600)
    return path


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that other users can enter, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def told(act: Callable[[], object], kind: type[Exception] = CannotOpen) -> str:
    with pytest.raises(kind) as caught:
        act()
    return str(caught.value)


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_everything_that_is_made_is_for_this_user_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        state = tmp_path / "new" / "state"
        with SQLite.open(state / "data") as database:
            blobs = open_blobs(str(state / "data" / "blobs"))
            blobs.put("p1", [[b"x"]])
            blobs.close()
            LocalEngine({}, lambda tier, job: "", state / "logs", state / "tmp", tmp_path).close()
            assert database.clock() > 0
            made = [state.parent, state, *state.rglob("*")]
            assert len(made) >= 9
            assert {
                path.name: oct(mode(path)) for path in made if mode(path) != (0o700 if path.is_dir() else 0o600)
            } == {}
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["symbolic", "dangling", "hard"])
def test_a_link_in_the_data_directory_is_not_followed(data: Path, victim: Path, name: str, how: str) -> None:
    path = data / name
    path.unlink(missing_ok=True)
    if how == "hard":
        path.hardlink_to(victim)
    else:
        path.symlink_to(victim if how == "symbolic" else victim.with_name("not-there"))
    sentence = told(lambda: SQLite.open(data))
    assert f"rm {path}" in sentence
    assert "link" in sentence
    assert victim.read_text() == "precious"
    assert not victim.with_name("not-there").exists()
    path.unlink()
    SQLite.open(data).close()


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_the_data_directory_is_not_waited_for(data: Path, name: str) -> None:
    (data / name).unlink(missing_ok=True)
    os.mkfifo(data / name)
    assert f"{data / name} cannot be used: it is no file: remove it" in told(lambda: SQLite.open(data))


@pytest.mark.parametrize("name", ["lock", "queue.db"])
@pytest.mark.parametrize("bits", [0o602, 0o666])
def test_a_file_that_others_can_write_to_is_refused(data: Path, name: str, bits: int) -> None:
    path = data / name
    path.chmod(bits)
    assert told(lambda: SQLite.open(data)) == (
        f"{path} cannot be used: other users can change it (mode 0{bits:o}): chmod go-w {path}"
    )
    subprocess.run(["chmod", "go-w", path], check=True)
    SQLite.open(data).close()


@pytest.mark.parametrize("bits", [0o777, 0o702, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(data: Path, bits: int) -> None:
    data.chmod(bits)
    assert f"chmod go-w {data}" in told(lambda: SQLite.open(data))
    data.chmod(0o700)
    SQLite.open(data).close()


def test_a_folder_around_the_data_may_be_a_sticky_one_only(data: Path) -> None:
    data.parent.chmod(0o777)  # anybody could put another folder in its place
    assert f"chmod go-w {data.parent}" in told(lambda: SQLite.open(data))
    data.parent.chmod(0o1777)  # as /tmp is
    SQLite.open(data).close()


def test_a_data_directory_that_is_a_link_is_refused_but_not_the_state_folder(tmp_path: Path, data: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(data)
    assert f"it is a link to {data}: name its target instead" in told(lambda: SQLite.open(link))
    whole = tmp_path / "whole"
    whole.symlink_to(data.parent)
    SQLite.open(whole / "data").close()


@as_root
@pytest.mark.parametrize("name", ["", *FILES[:2]])
def test_what_belongs_to_another_user_is_refused(data: Path, name: str) -> None:
    path = data / name
    os.chown(path, STRANGER, 0)
    sentence = told(lambda: SQLite.open(data))
    assert sentence.endswith(f"it belongs to user {STRANGER}, and the server runs as user 0: chown -R 0 {path}")
    subprocess.run(["chown", "-R", "0", path], check=True)
    SQLite.open(data).close()


@as_root
@pytest.mark.parametrize("group", [STRANGER, 0])
def test_a_group_may_write_only_if_it_is_one_of_ours(data: Path, group: int) -> None:
    os.chown(data, 0, group)
    data.chmod(0o2770)
    if group == 0:
        return SQLite.open(data).close()
    assert f"chmod go-w {data}" in told(lambda: SQLite.open(data))
    return None


IN_A_POD = """
import os, sys
from pathlib import Path
from server.queue import SQLite
from server.blobs import open_blobs
state = Path(sys.argv[1])
SQLite.open(state.with_name("root")).close()  # imports what that user may not be able to read
os.setgroups([int(sys.argv[2])]), os.setgid(int(sys.argv[3])), os.setuid(10001)
SQLite.open(state / "data").close()
open_blobs(str(state / "data" / "blobs")).close()
"""


@as_root
@pytest.mark.parametrize(("groups", "gid"), [(10001, 10001), (1000650000, 0)])
def test_the_volume_of_a_pod_works_as_kubernetes_hands_it_out(open_to_all: Path, groups: int, gid: int) -> None:
    """Root owns the volume's root, and its mode is 2775; at the next mount all that is in it is the group's too."""
    volume = open_to_all / "volume"
    (volume / "lost+found").mkdir(parents=True)
    os.chown(volume, 0, groups)
    volume.chmod(0o2775)
    command = [sys.executable, "-c", IN_A_POD, str(volume), str(groups), str(gid)]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        for path in volume.rglob("*"):
            os.chown(path, -1, groups)
            path.chmod(mode(path) | (0o2770 if path.is_dir() else 0o660))
    assert (volume / "data").stat().st_uid == 10001


@as_root
def test_the_root_of_a_volume_may_have_any_owner_and_mode(tmp_path: Path) -> None:
    """Local volumes of small clusters have the mode 0777, and no fsGroup is applied to them."""
    volume = tmp_path / "volume"
    volume.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "mode=0777,size=4m", "tmpfs", volume], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        os.chown(volume, STRANGER, STRANGER)
        SQLite.open(volume / "data").close()
        SQLite.open(volume).close()
        (volume / "data").chmod(0o777)
        assert f"chmod go-w {volume / 'data'}" in told(lambda: SQLite.open(volume / "data"))
    finally:
        subprocess.run(["umount", volume], check=True)


def test_blobs_are_never_read_or_written_through_a_link(tmp_path: Path, victim: Path) -> None:
    blobs = DirectoryBlobs(tmp_path / "blobs")
    (tmp_path / "blobs" / "p1").symlink_to(victim)
    with pytest.raises(BlobError):
        blobs.put("p1", [[b"x"]])
    with pytest.raises(BlobError, match="link"):
        blobs.get("p1")
    assert victim.read_text() == "precious"
    blobs.close()


@pytest.mark.parametrize(
    "spoil", [lambda path: path.chmod(0o777), lambda path: path.rmdir() or path.symlink_to("/tmp")]
)
def test_a_folder_of_blobs_that_others_can_change_is_refused(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    folder = tmp_path / "blobs"
    folder.mkdir()
    spoil(folder)
    sentence = told(lambda: open_blobs(str(folder)), BlobsUnusable)
    assert sentence.startswith(f"cannot keep blobs in {folder}: ")
    assert "chmod go-w" in sentence or "rm " in sentence


def test_logs_of_workers_do_not_overwrite_what_a_link_points_to(tmp_path: Path, victim: Path) -> None:
    for make in (Path.symlink_to, Path.hardlink_to):
        path = tmp_path / "job.log"
        make(path, victim)
        with pytest.raises(UnsafePath, match="link"):
            open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        assert victim.read_text() == "precious"
        path.unlink()


def test_descriptors_are_not_left_to_workers_and_none_is_lost(tmp_path: Path, victim: Path) -> None:
    before = descriptors()
    folder = open_folder(tmp_path / "folder")
    file = open_file(tmp_path / "folder" / "file", os.O_WRONLY | os.O_CREAT, folder)
    assert not os.get_inheritable(folder)
    assert not os.get_inheritable(file)
    os.close(file)
    os.close(folder)
    victim.chmod(0o666)
    (tmp_path / "folder").chmod(0o777)
    with pytest.raises(UnsafePath):
        open_file(victim, os.O_RDONLY)
    with pytest.raises(UnsafePath):
        open_folder(tmp_path / "folder")
    with pytest.raises(UnsafePath):
        check_parent(tmp_path / "folder" / "inside")
    assert descriptors() == before


def test_a_server_whose_state_others_can_change_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs").chmod(0o777)
    models = os.environ.get("TIERSERVE_MODELS", str(ROOT / ".tierserve" / "models"))
    command = [sys.executable, "-m", "server", "serve", "--state", str(tmp_path), "--models", models]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert (
        f"{tmp_path}/logs cannot be used for workers: other users can change it (mode 0777): chmod go-w" in ended.stderr
    )
