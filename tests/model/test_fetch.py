"""A worker's model comes from the server whole and as its digest says, however the server fails, or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import astuple
from itertools import count
from pathlib import Path

import pytest

from model.description import Model, ModelError, find_model, read_model
from model.fetch import Fetch, ServerAway, Wanted
from tests.faults.small_disk import small_disk
from tests.model.model_server import (
    TOKEN,
    Fault,
    Store,
    changed,
    cut,
    described,
    endless,
    hang_up,
    longer,
    refused,
    serving,
    trickling,
)
from tests.running import lacking
from tests.server.given import HandClock
from tests.waiting import eventually

# In a process of its own, for a signal goes to any thread that does not block it.
FETCHES = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
import model.fetch
model.fetch.READ_BYTES = 1 << 16
url, token, *which = sys.argv[1:]
with model.fetch.Fetch(url, lambda: token, model.fetch.Wanted(*which)) as fetch:
    try:
        fetch.model()
    except model.fetch.Interrupted:
        sys.stdout.write("interrupted")
"""
WEIGHTS = bytes(range(256)) * 40_000  # 10 MB, more than one read
BUSY = refused(503, "the storage does not answer")


@pytest.fixture
def store() -> Iterator[Store]:
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where models are fetched to."""
    found = tmp_path / "tmp"
    found.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(found))
    return found


@pytest.fixture
def flowers(tmp_path: Path, store: Store) -> Model:
    """A model that the store has."""
    found = described(tmp_path / "flowers", WEIGHTS)
    store.put(found, WEIGHTS)
    return found


def wanted(model: Model) -> Wanted:
    return Wanted(model.reference, model.digest, "onnx", "fp32")


def fetched(store: Store, which: Wanted, clock: Callable[[], float] | None = None) -> bytes:
    """Fetch a model, and return its weights."""
    more = {} if clock is None else {"clock": clock}
    with Fetch(store.url, lambda: TOKEN, which, **more) as fetch:
        found = fetch.model()
        assert found.reference == which.reference
        assert found.labels == ("a rose", "a tulip")
        return found.checked_file(found.variant(which.runtime, which.variant)).read_bytes()


def test_a_model_comes_whole_and_nothing_is_left_of_it(store: Store, flowers: Model, place: Path) -> None:
    assert fetched(store, wanted(flowers)) == WEIGHTS
    assert list(place.iterdir()) == []
    assert store.asked == [
        f"/work/models/{flowers.reference}",
        f"/work/model-files/{flowers.variants[0].sha256}",
    ]


def test_of_several_files_only_the_one_of_the_variant_comes(store: Store, models: Path, place: Path) -> None:
    lite0 = read_model(models / "tf_efficientnet_lite0")
    int8 = lite0.variant("onnx", "int8")
    store.put(lite0, (lite0.path / int8.file).read_bytes())
    with Fetch(store.url, lambda: TOKEN, Wanted(lite0.reference, lite0.digest, "onnx", "int8")) as fetch:
        assert [path.name for path in fetch.model().path.iterdir()] == [int8.file]
    assert store.asked == [f"/work/models/{lite0.reference}", f"/work/model-files/{int8.sha256}"]


@pytest.mark.parametrize(
    "faults",
    [
        [BUSY],
        [refused(429, "too many tokens of this address wait to be checked"), None, BUSY],
        [hang_up],
        [cut] * 4,
        [changed],
        [None, hang_up],
        [None, cut] * 4,
        [None, changed],
        [None, longer],
        [None, cut, None, BUSY, None, changed, hang_up],
    ],
)
def test_what_fails_is_asked_for_again(store: Store, flowers: Model, place: Path, faults: list[Fault | None]) -> None:
    store.faults.extend(faults)
    assert fetched(store, wanted(flowers)) == WEIGHTS
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("fault", [changed, longer])
def test_what_never_matches_its_checksum_ends_the_worker(
    store: Store, flowers: Model, place: Path, fault: Fault
) -> None:
    store.faults.extend([None, fault] * 10)
    with pytest.raises(ModelError, match=r"model\.onnx.*3 times"):
        fetched(store, wanted(flowers))
    assert list(place.iterdir()) == []
    assert len(store.asked) == 6


def test_of_a_file_without_an_end_no_more_is_kept_than_the_record_says(store: Store, flowers: Model) -> None:
    store.faults.extend([None, endless])
    assert fetched(store, wanted(flowers)) == WEIGHTS


@pytest.mark.parametrize("key", ["labels", "name", "preprocessing", "variants"])
def test_a_record_that_is_not_of_the_digest_is_refused(store: Store, flowers: Model, key: str) -> None:
    path = f"/work/models/{flowers.reference}"
    record = json.loads(store.has[path])
    match record:
        case {"labels": [*_]} if key == "labels":
            record["labels"].reverse()
        case {"name": _} if key == "name":
            record["name"] = "birds"
        case _ if key == "preprocessing":
            record["preprocessing"]["crop_pct"] = 0.5
        case _:
            record["variants"][0]["sha256"] = "0" * 64
    store.has[path] = json.dumps(record).encode()
    with pytest.raises(ModelError, match=f"the record that came for {flowers.reference} .*3 times"):
        fetched(store, wanted(flowers))


@pytest.mark.parametrize("record", [b"", b"[]", b"{}", b"\xff", b'{"name": 1}'])
def test_a_record_that_cannot_be_read_is_refused(store: Store, flowers: Model, record: bytes) -> None:
    store.has[f"/work/models/{flowers.reference}"] = record
    with pytest.raises(ModelError, match="cannot be read"):
        fetched(store, wanted(flowers))


@pytest.mark.parametrize("name", ["../model.onnx", "/tmp/model.onnx", "..", ".", "", "a/b"])
def test_a_record_names_no_file_of_another_folder(store: Store, tmp_path: Path, place: Path, name: str) -> None:
    found = described(tmp_path / "flowers", WEIGHTS, name)
    store.put(found, WEIGHTS)
    with pytest.raises(ModelError, match="in another folder"):
        fetched(store, wanted(found))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flowers", "tmp"]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_what_every_attempt_would_be_answered_ends_the_worker_at_once(
    store: Store, flowers: Model, status: int
) -> None:
    store.faults.append(refused(status, "not your model"))
    with pytest.raises(ModelError, match=f"answered {status}: not your model"):
        fetched(store, wanted(flowers))
    assert len(store.asked) == 1


def test_a_wrong_token_ends_the_worker_at_once(store: Store, flowers: Model) -> None:
    store.token = "another"
    with pytest.raises(ModelError, match="answered 401"):
        fetched(store, wanted(flowers))


def test_a_variant_that_the_model_lacks_is_named(store: Store, flowers: Model) -> None:
    with pytest.raises(ModelError, match="has no variant timm/fp32; choose one of onnx/fp32"):
        fetched(store, Wanted(flowers.reference, flowers.digest, "timm", "fp32"))


class Leaping(HandClock):
    """Each look at it takes some seconds."""

    def __call__(self) -> float:
        self.now += 7
        return self.now


@pytest.mark.parametrize("fault", [BUSY, hang_up])
def test_a_server_that_stays_away_is_given_up(store: Store, flowers: Model, fault: Fault) -> None:
    store.faults.extend([fault] * 100)
    with pytest.raises(ServerAway, match=f"has not given {flowers.reference}"):
        fetched(store, wanted(flowers), Leaping())
    assert 5 < len(store.asked) < 10


def test_a_port_that_nobody_listens_on_is_given_up(store: Store, flowers: Model, unused: str) -> None:
    store.url = unused
    with pytest.raises(ServerAway, match="Connection refused"):
        fetched(store, wanted(flowers), Leaping())


@pytest.fixture
def unused() -> str:
    with serving() as gone:
        return gone.url


def test_a_token_file_that_cannot_be_read_is_read_again(store: Store, flowers: Model) -> None:
    reads = count()

    def token() -> str:
        if next(reads) == 0:
            raise OSError("the volume is not there yet")
        return TOKEN

    with Fetch(store.url, token, wanted(flowers)) as fetch:
        assert fetch.model().reference == flowers.reference


@pytest.mark.parametrize(("faults", "asked"), [([BUSY] * 1000, 3), ([None, trickling], 2)], ids=["away", "slow"])
def test_a_worker_that_must_end_waits_for_nothing_more(
    store: Store, flowers: Model, place: Path, faults: list[Fault | None], asked: int
) -> None:
    store.faults.extend(faults)
    command = [sys.executable, "-c", FETCHES, store.url, TOKEN, *astuple(wanted(flowers))]
    environment = {**os.environ, "TMPDIR": str(place)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        eventually(lambda: len(store.asked), 20, "it has asked", lambda seen: seen >= asked)
        process.terminate()
        said, _ = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "interrupted")
    assert list(place.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(store: Store, flowers: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(ModelError, match=r"cannot be kept in /nowhere/tierserve-model-.*: No such file or directory"):
        fetched(store, wanted(flowers))
    assert store.asked == []


def test_a_full_disk_is_named_and_nothing_is_left_on_it(
    store: Store, flowers: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "small", 4) as folder:
        if folder is None:
            lacking("only root can mount a small filesystem")
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        with pytest.raises(ModelError, match=r"cannot be kept in .*: No space left on device"):
            fetched(store, wanted(flowers))
        assert folder is not None
        assert list(folder.iterdir()) == []


def test_a_model_is_found_in_the_folder_under_any_of_its_names(tmp_path: Path) -> None:
    models = tmp_path / "models"
    found = described(models / "flowers@best", WEIGHTS)
    only = ("onnx", "fp32")
    assert find_model(models, found.reference, found.digest, only) is None  # its file is not there
    (models / "flowers@best" / "model.onnx").write_bytes(WEIGHTS)
    seen = find_model(models, found.reference, found.digest, only)
    assert seen is not None
    assert seen.path.name == "flowers@best"
    (models / "flowers@best").rename(models / found.reference)
    (models / "flowers").mkdir()  # whatever else lies there
    assert find_model(models, found.reference, found.digest, only) is not None
    assert find_model(models, found.reference, "0" * 64, only) is None
    assert find_model(models, found.reference, found.digest, ("timm", "fp32")) is None
    assert find_model(tmp_path / "none", found.reference, found.digest, only) is None
