"""A worker gets the model of its own Job from the server, whole, and nothing of any other."""

from __future__ import annotations

import hashlib
import http.client
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.description import Model, ModelError
from model.fetch import ENDING, Fetch, Wanted
from server.access.workers import WorkerTokens
from server.blobs import BlobError
from server.queue import Served, StorageError, StoredFile, StoredModel
from tests.model.model_server import described
from tests.server.http.http_site import ANSWER_SECONDS, Reviews, Site, assert_problem, running
from tests.waiting import eventually

WEIGHTS = bytes(range(256)) * 20_000  # 5 MB, several pieces
OTHER = WEIGHTS[::-1]


@pytest.fixture(autouse=True)
def _blocked_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def push(site: Site, folder: Path, weights: bytes) -> Model:
    """Put a model into the store, as a push does."""
    made = described(folder, weights)
    (variant,) = made.variants
    site.files.put(variant.sha256, variant.bytes, [weights])
    record = (folder / "model.json").read_text("utf-8")
    files = (StoredFile(variant.sha256, variant.bytes),)
    stored = StoredModel(made.name, made.version, made.digest, record, files, 0.0)
    assert site.queue.add_model(stored, [], 10).result(ANSWER_SECONDS)
    return made


def key(model: Model) -> str:
    return Served(model.reference, model.digest, "onnx", "fp32", 0.0).key


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def record(model: Model) -> str:
    return f"/work/models/{model.reference}"


def file(model: Model) -> str:
    return f"/work/model-files/{model.variants[0].sha256}"


def fetched(site: Site, model: Model, token: str) -> bytes:
    """What a worker fetches."""
    wanted = Wanted(model.reference, model.digest, "onnx", "fp32")
    with Fetch(f"http://127.0.0.1:{site.internal.port}", lambda: token, wanted) as fetch:
        found = fetch.model()
        assert found.labels == model.labels
        return found.checked_file(found.variants[0]).read_bytes()


def test_a_worker_gets_the_record_and_the_file_of_its_model(site: Site, tmp_path: Path) -> None:
    flowers = push(site, tmp_path / "flowers", WEIGHTS)
    token = site.job(model=key(flowers))
    seen = site.internal.ask("GET", record(flowers), headers=bearer(token))
    assert (seen.status, seen.headers["Content-Type"]) == (200, "application/json")
    assert seen.body == (tmp_path / "flowers" / "model.json").read_bytes()
    seen = site.internal.ask("GET", file(flowers), headers=bearer(token))
    assert (seen.status, seen.headers["Content-Length"]) == (200, str(len(WEIGHTS)))
    assert seen.body == WEIGHTS
    assert fetched(site, flowers, token) == WEIGHTS
    asked = site.files.asked
    seen = site.internal.ask("HEAD", file(flowers), headers=bearer(token))
    assert (seen.status, seen.headers["Content-Length"], seen.body) == (200, str(len(WEIGHTS)), b"")
    assert site.files.asked == asked


def test_many_workers_get_their_models_at_once(site: Site, tmp_path: Path) -> None:
    flowers, birds = (push(site, tmp_path / str(number), data) for number, data in enumerate((WEIGHTS, OTHER)))
    tokens = [(one, site.job(f"job-{number}", model=key(one))) for number, one in enumerate([flowers, birds] * 20)]
    with ThreadPoolExecutor(len(tokens)) as pool:
        came = list(pool.map(lambda pair: fetched(site, *pair), tokens))
    assert [hashlib.sha256(one).digest() for one in came] == [
        hashlib.sha256(data).digest() for data in [WEIGHTS, OTHER] * 20
    ]


def test_a_worker_of_one_tier_gets_no_other_tier_s_model(site: Site, tmp_path: Path) -> None:
    flowers, birds = (push(site, tmp_path / str(number), data) for number, data in enumerate((WEIGHTS, OTHER)))
    mine, _ = site.job("mine", "free", key(flowers)), site.job("theirs", "premium", key(birds))
    for path in (record(birds), file(birds), "/work/models/none@00000000", "/work/model-files/..", f"{file(flowers)}0"):
        assert_problem(site.internal.ask("GET", path, headers=bearer(mine)), 403, "not_your_model")
    with pytest.raises(ModelError, match="answered 403"):
        fetched(site, birds, mine)


def test_a_job_that_names_no_model_gets_none(site: Site, tmp_path: Path) -> None:
    flowers = push(site, tmp_path / "flowers", WEIGHTS)
    token = site.job()
    assert_problem(site.internal.ask("GET", record(flowers), headers=bearer(token)), 403, "not_your_model")
    assert_problem(site.internal.ask("GET", file(flowers), headers=bearer(token)), 404, "no_such_model")


def test_a_token_of_no_job_gets_no_model(site: Site, tmp_path: Path) -> None:
    flowers = push(site, tmp_path / "flowers", WEIGHTS)
    site.job(model=key(flowers))
    other_tier = site.tokens.mint("premium", "job")
    for path in (record(flowers), file(flowers)):
        for wrong in ({}, bearer("nonsense"), bearer(WorkerTokens(b"another").mint("free", "job"))):
            assert_problem(site.internal.ask("GET", path, headers=wrong), 401, "bad_worker_token")
        for unknown in (site.tokens.mint("free", "gone"), other_tier):
            assert_problem(site.internal.ask("GET", path, headers=bearer(unknown)), 410, "unknown_job")
        assert site.get(path).status == 404  # there is no such route on the public port


def test_a_model_that_was_removed_is_named(site: Site, tmp_path: Path) -> None:
    flowers = push(site, tmp_path / "flowers", WEIGHTS)
    token = site.job(model=key(flowers))
    assert site.queue.remove_model(flowers.name, flowers.version).result(ANSWER_SECONDS)
    with pytest.raises(ModelError, match=f"answered 404: the server has no model {flowers.reference}"):
        fetched(site, flowers, token)


def test_a_file_that_is_missing_in_the_store_is_named(site: Site, tmp_path: Path) -> None:
    flowers = push(site, tmp_path / "flowers", WEIGHTS)
    token = site.job(model=key(flowers))
    site.files.delete(flowers.variants[0].sha256)
    with pytest.raises(ModelError, match="missing in the store: push the model again"):
        fetched(site, flowers, token)


def test_a_worker_waits_for_a_store_that_is_away(site: Site, tmp_path: Path) -> None:
    flowers = push(site, tmp_path / "flowers", WEIGHTS)
    token = site.job(model=key(flowers))
    site.files.failure = BlobError("the bucket does not answer")
    refused = site.internal.ask("GET", file(flowers), headers=bearer(token))
    assert refused.status == 503
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(fetched, site, flowers, token)
        eventually(lambda: site.files.asked, ANSWER_SECONDS, "three attempts", lambda seen: seen >= 4)
        assert not coming.done()
        site.files.failure = None
        assert coming.result(ANSWER_SECONDS) == WEIGHTS


def test_a_worker_waits_for_a_database_that_is_away(site: Site, tmp_path: Path) -> None:
    flowers = push(site, tmp_path / "flowers", WEIGHTS)
    token = site.job(model=key(flowers))
    site.database.failure = StorageError("no answer")
    assert site.internal.ask("GET", record(flowers), headers=bearer(token)).status == 503
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(fetched, site, flowers, token)
        site.database.failure = None
        assert coming.result(ANSWER_SECONDS) == WEIGHTS


def test_a_worker_whose_token_nobody_can_check_asks_again(tmp_path: Path) -> None:
    reviews = Reviews(b"secret")
    with running(tmp_path, tokens=reviews) as site:
        flowers = push(site, tmp_path / "flowers", WEIGHTS)
        token = site.job(model=key(flowers))
        reviews.away = True
        refused = site.internal.ask("GET", record(flowers), headers=bearer(token))
        assert_problem(refused, 503, "worker_token_unchecked")
        reviews.away = False
        assert fetched(site, flowers, token) == WEIGHTS


def test_a_file_that_breaks_off_is_no_whole_answer(site: Site, tmp_path: Path) -> None:
    flowers = push(site, tmp_path / "flowers", WEIGHTS)
    token = site.job(model=key(flowers))
    site.files.breaks_after = 2
    with pytest.raises(http.client.IncompleteRead):
        site.internal.ask("GET", file(flowers), headers=bearer(token))
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(fetched, site, flowers, token)
        eventually(lambda: site.files.asked, ANSWER_SECONDS, "two attempts", lambda seen: seen >= 3)
        site.files.breaks_after = None
        assert coming.result(ANSWER_SECONDS) == WEIGHTS


def test_a_worker_that_hangs_up_leaves_nothing_behind(site: Site, tmp_path: Path) -> None:
    large = WEIGHTS * 8
    flowers = push(site, tmp_path / "flowers", large)
    token = site.job(model=key(flowers))
    connection = http.client.HTTPConnection("127.0.0.1", site.internal.port, timeout=ANSWER_SECONDS)
    connection.request("GET", file(flowers), headers=bearer(token))
    answer = connection.getresponse()
    assert len(answer.read(1000)) == 1000
    answer.close()
    connection.close()
    site.idle()
    eventually(site.tasks, ANSWER_SECONDS, "no task is left", lambda tasks: not tasks)
    assert fetched(site, flowers, token) == large
