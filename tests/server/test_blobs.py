"""Blobs: kept before put returns, given back byte for byte, and nowhere but in their folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.client import unpack
from server.blobs import BlobError, BlobMissing, DirectoryBlobs


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "blobs")


@given(st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=4), min_size=1, max_size=5))
def test_pictures_come_back_to_the_worker_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, pictures: list[list[bytes]]
) -> None:
    blobs = DirectoryBlobs(tmp_path_factory.mktemp("blobs"))
    size = blobs.put("p1", pictures)
    blob = blobs.get("p1")
    assert len(blob) == size
    assert [bytes(image) for image in unpack(memoryview(blob))] == [b"".join(chunks) for chunks in pictures]


def test_many_chunks_are_written_whole(blobs: DirectoryBlobs) -> None:
    chunks = [bytes([number % 256]) * 7 for number in range(3000)]
    blobs.put("p1", [chunks])
    assert bytes(unpack(memoryview(blobs.get("p1")))[0]) == b"".join(chunks)


def test_a_key_is_kept_once(blobs: DirectoryBlobs) -> None:
    blobs.put("p1", [[b"first"]])
    with pytest.raises(BlobError, match="cannot keep"):
        blobs.put("p1", [[b"second"]])
    assert blobs.get("p1").endswith(b"first")


def test_what_is_gone_is_missing_and_may_be_deleted_again(blobs: DirectoryBlobs) -> None:
    blobs.put("p1", [[b"x"]])
    blobs.delete(["p1", "p1", "p2"])
    with pytest.raises(BlobMissing):
        blobs.get("p1")


@pytest.mark.parametrize("key", ["../queue", "..", "a/b", "", "p\x00", "pä"])
def test_no_key_leaves_the_folder(blobs: DirectoryBlobs, key: str) -> None:
    with pytest.raises(BlobMissing):
        blobs.get(key)


def test_old_blobs_are_found(tmp_path: Path) -> None:
    DirectoryBlobs(tmp_path).put("p1", [[b"x"]])
    assert list(DirectoryBlobs(tmp_path, lambda: time.time() + 10).older_than(60)) == []
    assert list(DirectoryBlobs(tmp_path, lambda: time.time() + 100).older_than(60)) == ["p1"]
