"""Where the storage keeps blobs and the files of models: each finds its own and nothing of the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from server.storage import Storage
from tests.server.object_store import running
from tests.server.pushed_models import sha256

DATA = b"weights"


def use(place: Storage, where: Callable[[], list[str]]) -> list[str]:
    """Store a blob and a file; look for each, and return the names of what is kept."""
    opened = place.open()
    try:
        opened.blobs.put("p1", [[b"picture"]])
        opened.files.put(sha256(DATA), len(DATA), [DATA])
        assert list(opened.blobs.older_than(-60)) == ["p1"]
        assert [found.sha256 for found in opened.files.listed()] == [sha256(DATA)]
        return where()
    finally:
        opened.database.close()
        opened.close()


def kept(folder: Path) -> list[str]:
    """All files below a folder but those of the database."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parent.name != folder.name and len(path.parts) > 1)


def test_files_of_models_lie_beside_the_blobs(tmp_path: Path) -> None:
    assert use(Storage(tmp_path), lambda: kept(tmp_path)) == ["blobs/p1", f"store/{sha256(DATA)}"]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_of_a_folder_that_was_given_nothing_lies_outside(tmp_path: Path, scheme: str) -> None:
    given = tmp_path / "volume"
    place = Storage(tmp_path / "data", blobs_url=f"{scheme}{given}/")
    assert use(place, lambda: kept(tmp_path)[-2:]) == [f"volume/model-files/{sha256(DATA)}", "volume/p1"]


def test_files_of_models_lie_in_the_bucket_of_the_blobs(tmp_path: Path) -> None:
    with running(tmp_path / "s3.log") as proxy:
        url = f"s3://{(place := proxy.place())}"
        found = use(Storage(tmp_path / "data", blobs_url=url), lambda: proxy.names(place))
        assert sorted(found) == [f"models/{sha256(DATA)}", "p1"]
