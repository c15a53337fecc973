"""Blobs are durable when put returns, come back byte for byte, and stay in their place, on a disk or in a bucket."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.messages import unpack
from server import points
from server.blobs import BlobError, BlobMissing, Blobs, DirectoryBlobs, open_blobs
from server.blobs.base import PIECE_BYTES
from server.points import Point
from tests.server.object_store import running

Place = Callable[[], str]


@pytest.fixture(scope="module", params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Makes URLs of empty places."""
    if request.param == "directory":
        yield lambda: f"file://{tmp_path_factory.mktemp('place')}/blobs"
    else:
        with running(tmp_path_factory.mktemp("s3") / "s3.log") as proxy:
            yield lambda: f"s3://{proxy.place()}"


@pytest.fixture
def blobs(place: Place) -> Iterator[Blobs]:
    blobs = open_blobs(place())
    yield blobs
    blobs.close()


@settings(max_examples=40)
@given(st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=4), min_size=1, max_size=5))
def test_pictures_come_back_to_the_worker_as_they_were(place: Place, pictures: list[list[bytes]]) -> None:
    blobs = open_blobs(place())
    size = blobs.put("p1", pictures)
    blob = blobs.get("p1")
    assert len(blob) == size
    assert [bytes(image) for image in unpack(memoryview(blob))] == [b"".join(chunks) for chunks in pictures]
    blobs.close()


def test_many_chunks_are_written_whole(blobs: Blobs) -> None:
    chunks = [bytes([number % 256]) * 3000 for number in range(3000)]
    blobs.put("p1", [chunks])
    assert bytes(unpack(memoryview(blobs.get("p1")))[0]) == b"".join(chunks)


def test_a_large_blob_is_read_in_pieces(blobs: Blobs) -> None:
    blobs.put("p1", [[bytes(PIECE_BYTES), bytearray(b"end")], [bytearray(3 * PIECE_BYTES)]])
    pieces = list(blobs.pieces("p1"))
    assert b"".join(pieces) == blobs.get("p1")
    assert len(pieces) > 1
    with pytest.raises(BlobMissing, match="no blob p2"):
        next(blobs.pieces("p2"))


def test_what_is_gone_is_missing_and_may_be_deleted_again(blobs: Blobs) -> None:
    blobs.put("p1", [[b"x"]])
    blobs.put("p2", [[b"y"]])
    blobs.delete(iter(["p1", "p1", "p3"]))
    with pytest.raises(BlobMissing, match="no blob p1"):
        blobs.get("p1")
    assert blobs.get("p2").endswith(b"y")
    blobs.delete([])


@pytest.mark.parametrize("key", ["../queue", "..", "a/b", "", "p\x00", "pä"])
def test_no_key_leaves_its_place(blobs: Blobs, key: str) -> None:
    with pytest.raises(BlobMissing):
        blobs.get(key)
    with pytest.raises(BlobMissing):
        blobs.put(key, [[b"x"]])
    with pytest.raises(BlobMissing):
        blobs.delete([key])


def test_orphans_are_found_once_they_are_old_and_go(place: Place) -> None:
    url = place()
    for key in ("p1", "p2"):
        open_blobs(url).put(key, [[b"x"]])
    blobs = open_blobs(url)
    assert list(blobs.older_than(60)) == []
    assert sorted(blobs.older_than(0)) == ["p1", "p2"]
    blobs.delete(key for key in blobs.older_than(0) if key != "p1")
    assert list(blobs.older_than(0)) == ["p1"]
    with pytest.raises(BlobMissing):
        blobs.get("p2")


def test_the_age_of_a_blob_is_not_told_by_the_clock_of_the_server(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.put("p1", [[b"x"]])
    for wrong in (-7200, 7200):
        with monkeypatch.context() as patch:
            right = time.time
            patch.setattr(time, "time", lambda: right() + wrong)  # noqa: B023 (it is used up within this turn)
            assert list(blobs.older_than(60)) == []
            assert list(blobs.older_than(0)) == ["p1"]


def test_trying_them_out_leaves_nothing(blobs: Blobs) -> None:
    blobs.try_out()
    assert list(blobs.older_than(-60)) == []


def test_places_do_not_see_each_other(place: Place) -> None:
    open_blobs(place()).put("p1", [[b"x"]])
    other = open_blobs(place())
    assert list(other.older_than(0)) == []
    with pytest.raises(BlobMissing):
        other.get("p1")


def test_many_threads_may_use_them_at_once(blobs: Blobs) -> None:
    def turn(number: int) -> bytes:
        blobs.put(f"p{number}", [[b"%d" % number] * 1000])
        blob = blobs.get(f"p{number}")
        blobs.delete([f"p{number}"])
        return blob[8:]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(turn, range(40))) == [b"%d" % number * 1000 for number in range(40)]


def test_the_moments_around_a_blob_are_told(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Point] = []
    monkeypatch.setattr(points, "_watcher", told.append)
    blobs.put("p1", [[b"x"]])
    assert [told[0], told[-1]] == [Point.BLOB_OPENED, Point.BLOB_KEPT]
    blobs.delete(["p1"])
    assert told[-1] == Point.BLOB_DELETED


def test_a_file_is_kept_once(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    blobs.put("p1", [[b"first"]])
    with pytest.raises(BlobError, match="cannot keep"):
        blobs.put("p1", [[b"second"]])
    assert blobs.get("p1").endswith(b"first")


def test_a_volume_has_more_in_its_root_than_blobs(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    DirectoryBlobs(tmp_path).put("p1", [[b"x"]])
    assert list(DirectoryBlobs(tmp_path).older_than(0)) == ["p1"]
