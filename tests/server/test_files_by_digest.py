"""A store of files by digest has each file once, whole and unchanged or not at all, on a disk or in a bucket."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.blobs import BlobError, BlobMissing, BlobsFull, DirectoryFiles, Files, WrongFile, open_files
from server.blobs.files import UNFINISHED_SECONDS
from server.disk import Disk
from tests.faults.small_disk import small_disk
from tests.running import lacking
from tests.server.object_store import Fault, Proxy, break_off, cut_short, drop, refuse, running, slow_down

Place = Callable[[], str]
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running(tmp_path_factory.mktemp("s3") / "s3.log") as found:
        yield found


@pytest.fixture(scope="module", params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Makes URLs of empty places."""
    if request.param == "directory":
        return lambda: f"file://{tmp_path_factory.mktemp('place')}/store"
    proxy: Proxy = request.getfixturevalue("proxy")
    return lambda: f"s3://{proxy.place()}/models"


@pytest.fixture
def files(place: Place) -> Iterator[Files]:
    files = open_files(place())
    yield files
    files.close()


@pytest.fixture
def bucket(proxy: Proxy) -> Iterator[Proxy]:
    proxy.reset()
    yield proxy
    proxy.reset()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(files: Files, data: bytes, step: int = MIB) -> str:
    name = digest(data)
    files.put(name, len(data), (data[at : at + step] for at in range(0, len(data), step)))
    return name


def read(files: Files, name: str) -> bytes:
    return b"".join(files.pieces(name))


def names(files: Files) -> list[str]:
    return sorted(found.sha256 for found in files.listed())


@settings(max_examples=25, deadline=None)
@given(data=st.binary(min_size=1, max_size=500), step=st.integers(1, 100))
def test_a_file_comes_back_as_it_was(place: Place, data: bytes, step: int) -> None:
    files = open_files(place())
    name = put(files, data, step)
    assert read(files, name) == data
    assert files.has(name) == len(data)
    assert [(one.sha256, one.size) for one in files.listed()] == [(name, len(data))]
    files.close()


def test_a_large_file_comes_back_in_pieces(files: Files) -> None:
    data = random.Random(7).randbytes(19 * MIB + 5)
    name = put(files, data)
    pieces = list(files.pieces(name))
    assert b"".join(pieces) == data
    assert len(pieces) > 2
    assert max(map(len, pieces)) <= 4 * MIB


def test_what_is_not_there_is_missing_and_may_be_deleted(files: Files) -> None:
    kept, other = put(files, b"kept"), digest(b"other")
    assert files.has(other) is None
    with pytest.raises(BlobMissing):
        next(iter(files.pieces(other)))
    files.delete(other)
    files.delete(kept)
    files.delete(kept)
    assert names(files) == []


@pytest.mark.parametrize(
    ("size", "chunks", "said"),
    [
        (7, [b"right", b"x!"], "its SHA-256 is"),
        (7, [b"right"], "5 of 7 bytes came"),
        (7, [], "0 of 7 bytes came"),
        (7, [b"right", b"12", b"3"], "more than the announced 7 bytes"),
    ],
)
def test_a_file_that_is_not_the_announced_one_is_not_there(
    files: Files, size: int, chunks: list[bytes], said: str
) -> None:
    name = digest(b"right12")
    with pytest.raises(WrongFile, match=said):
        files.put(name, size, chunks)
    assert files.has(name) is None
    assert names(files) == []


def test_of_what_breaks_off_nothing_is_there(files: Files) -> None:
    class Cut(Exception):
        pass

    def chunks() -> Iterator[bytes]:
        yield bytes(9 * MIB)
        raise Cut

    with pytest.raises(Cut):
        files.put(digest(bytes(10 * MIB)), 10 * MIB, chunks())
    assert names(files) == []


def test_a_file_that_fails_does_not_harm_the_one_that_is_there(files: Files) -> None:
    name = put(files, b"right")
    with pytest.raises(WrongFile):
        files.put(name, 5, [b"wrong"])
    assert read(files, name) == b"right"


def test_two_puts_of_one_file_at_once_are_one_file(files: Files) -> None:
    data, both = bytes(2 * MIB), threading.Barrier(2, timeout=20)

    def chunks() -> Iterator[bytes]:
        yield data[:MIB]
        both.wait()
        yield data[MIB:]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: files.put(digest(data), len(data), chunks()), range(2)))
    assert read(files, digest(data)) == data
    assert names(files) == [digest(data)]


def test_other_files_go_on_while_one_comes_slowly(files: Files) -> None:
    more = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"slow"
        assert more.wait(20)
        yield b"ly"

    with ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(files.put, digest(b"slowly"), 6, chunks()) for _ in range(4)]
        assert read(files, put(files, b"quick")) == b"quick"
        assert files.has(digest(b"slowly")) is None
        more.set()
        for one in slow:
            one.result(20)
    assert read(files, digest(b"slowly")) == b"slowly"


@pytest.mark.parametrize("name", ["../queue", "..", "", "a" * 63, "A" * 64, "a" * 65, f"{'a' * 63}\n", f"{'a' * 63}/"])
def test_no_name_leaves_its_place(files: Files, name: str) -> None:
    for use in (
        files.has,
        files.delete,
        lambda name: list(files.pieces(name)),
        lambda name: files.put(name, 1, [b"x"]),
    ):
        with pytest.raises(ValueError, match="no SHA-256"):
            use(name)


def test_a_file_that_is_put_again_is_young_again(tmp_path: Path) -> None:
    files = DirectoryFiles(tmp_path)
    name = put(files, b"x")
    os.utime(tmp_path / name, (5, 5))
    assert [one.age > 1e9 for one in files.listed()] == [True]
    put(files, b"x")
    assert [one.age < 60 for one in files.listed()] == [True]


def test_an_object_that_is_put_is_young(files: Files) -> None:
    found = files.find(put(files, b"x"))
    assert found is not None
    assert -1 <= found.age < 60


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, name = DirectoryFiles(tmp_path), digest(b"weights")
    done: list[tuple[str, bool]] = []

    def watch(call: str) -> None:
        real: Callable[..., None] = getattr(os, call)

        def watched(*given: Any, **more: Any) -> None:
            real(*given, **more)
            of_folder = call == "fsync" and stat.S_ISDIR(os.fstat(given[0]).st_mode)
            done.append((f"{call} folder" if of_folder else call, (tmp_path / name).exists()))

        monkeypatch.setattr(os, call, watched)

    watch("fsync")
    watch("rename")
    put(files, b"weights")
    assert done == [("fsync", False), ("rename", True), ("fsync folder", True)]


def test_what_a_killed_server_left_behind_goes_when_it_is_old(tmp_path: Path) -> None:
    files = DirectoryFiles(tmp_path)
    old, recent = (tmp_path / f"{digest(word)}.ab" for word in (b"old", b"recent"))
    for path in (old, recent, tmp_path / "lost+found.d"):
        path.write_bytes(b"half")
    before = recent.stat().st_mtime - UNFINISHED_SECONDS - 1
    os.utime(old, (before, before))
    assert names(files) == []
    files.delete_unfinished()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([recent.name, "lost+found.d"])


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 32 MB."""
    with small_disk(tmp_path / "small", 32) as folder:
        if folder is None:
            lacking("only root can mount a small filesystem")
        else:
            yield folder


def test_a_disk_is_never_filled_with_models(small: Path) -> None:
    disk = Disk(small)
    files = DirectoryFiles(small / "store", disk)
    reserve = disk.look().reserve

    def never() -> Iterator[bytes]:
        pytest.fail("asked for, though there is no room")
        yield b""

    with pytest.raises(BlobsFull) as refused:
        files.put(digest(b""), 30 * MIB, never())
    assert (refused.value.code, refused.value.numbers["reserve_bytes"]) == ("disk_full", 4 * reserve)

    def chunks() -> Iterator[bytes]:
        for number in range(12):
            yield bytes(MIB)
            (small / f"picture{number}").write_bytes(bytes(MIB))  # others take the room meanwhile

    with pytest.raises(BlobsFull):
        files.put(digest(bytes(12 * MIB)), 12 * MIB, chunks())
    assert list((small / "store").iterdir()) == []
    assert disk.look().free >= 4 * reserve - MIB, "the room for pictures was taken"
    files.close()


@pytest.mark.parametrize("fault", [slow_down, drop])
def test_requests_that_fail_are_made_again(bucket: Proxy, fault: Fault) -> None:
    files, data = open_files(f"s3://{bucket.place()}/models"), random.Random(1).randbytes(9 * MIB)
    bucket.faults.append(fault)
    name = put(files, data)
    bucket.faults.append(fault)
    assert read(files, name) == data


@pytest.mark.parametrize("fault", [break_off, cut_short])
def test_an_answer_that_breaks_off_is_no_file(bucket: Proxy, fault: Fault) -> None:
    files, data = open_files(f"s3://{bucket.place()}/models"), random.Random(1).randbytes(9 * MIB)
    name = put(files, data)
    bucket.faults.append(fault)
    try:
        assert read(files, name) == data
    except BlobError as error:
        assert "cannot read" in str(error)
    assert read(files, name) == data


@pytest.mark.parametrize(("status", "code", "kind"), [(403, "AccessDenied", BlobError), (507, "", BlobsFull)])
def test_a_bucket_that_takes_nothing_says_why(bucket: Proxy, status: int, code: str, kind: type[BlobError]) -> None:
    files = open_files(f"s3://{bucket.place()}/models")
    bucket.always = refuse(status, code)
    with pytest.raises(kind, match=str(status)):
        put(files, b"x")
