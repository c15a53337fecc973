"""``from tierserve import Client`` asks a real server with real workers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.running import ROOT, Service, service
from tests.service.conftest import PAUSED
from tierserve import (
    AsyncClient,
    BadPicture,
    Client,
    NotYet,
    Outcome,
    Picture,
    PredictionFailed,
    Progress,
    Refused,
    TierserveError,
)

CAT = ROOT / "model" / "pictures" / "cat.jpg"


@pytest.fixture
def client(running: Service) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{running.port}", "") as made:
        yield made


@pytest.fixture(scope="module")
def paused(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with service(models, tmp_path_factory.mktemp("paused"), PAUSED) as found:
        yield f"http://127.0.0.1:{found.port}"


def test_a_picture_is_a_path_bytes_or_an_image(client: Client) -> None:
    with Image.open(CAT) as image:
        pictures: list[Picture] = [str(CAT), CAT, CAT.read_bytes(), image, image.convert("CMYK")]
        found = [client.classify(picture, top_k=3) for picture in pictures]
    assert {prediction.status for prediction in found} == {"succeeded"}
    assert {prediction.labels[0].label for prediction in found} == {"tiger cat"}
    first = found[0]
    assert first.labels == first.results[0].labels
    assert [label.score for label in first.labels] == sorted((label.score for label in first.labels), reverse=True)
    assert len(first.labels) == 3
    assert first.model.startswith("tf_efficientnet_lite0@")
    assert first.ended and first.error is None and first.place is None
    assert first.metrics.predict_ms is not None
    assert first.completed_at is not None and first.completed_at >= first.created_at
    assert client.get(first).document == client.get(first.id).document


def test_an_image_that_a_camera_held_sideways_is_sent_upright(client: Client) -> None:
    with Image.open(CAT) as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    upright = client.classify(turned).labels
    assert upright[0].label == client.classify(CAT).labels[0].label
    assert upright[0].score == pytest.approx(client.classify(CAT).labels[0].score, abs=0.01)


def test_what_is_no_picture_is_said_before_it_is_sent_or_by_the_server(client: Client, tmp_path: Path) -> None:
    for picture, words in ((tmp_path / "none.jpg", "none.jpg cannot be read: No such file"), (5, "and not a int")):
        with pytest.raises(BadPicture, match=words):
            client.classify(picture)  # type: ignore[arg-type]
    with pytest.raises(Refused) as refused:
        client.classify(b"no picture")
    assert (refused.value.status, refused.value.code) == (415, "unsupported_media_type")
    assert refused.value.request_id
    with pytest.raises(PredictionFailed) as failed:
        client.classify(CAT.read_bytes()[:2000])
    assert failed.value.code == "image_truncated"
    assert failed.value.prediction.status == "failed"
    assert str(failed.value).startswith("image_truncated: ")


def test_what_the_server_refuses_is_an_error_with_its_numbers(client: Client) -> None:
    for ask, status, code in (
        (lambda: client.classify(CAT, "gold"), 404, "no_such_tier"),
        (lambda: client.classify(CAT, top_k=101), 422, "bad_top_k"),
        (lambda: client.get("p/../x"), 404, "no_such_prediction"),
        (lambda: client.wait("nothing"), 404, "no_such_prediction"),
        (lambda: client.classify(CAT, cancel_after=1e9), 400, "bad_cancel_after"),
        (client.predictions, 401, "key_missing"),
    ):
        with pytest.raises(Refused) as refused:
            ask()
        assert (refused.value.status, refused.value.code) == (status, code)
    assert "TIERSERVE_KEY" in str(refused.value)
    with pytest.raises(Refused) as refused:
        client.classify(CAT, "gold")
    assert refused.value.document["tiers"] == ["free", "premium"]


def test_a_prediction_is_submitted_followed_and_canceled(paused: str) -> None:
    with Client(paused, "") as client:
        made = client.submit(CAT, idempotency_key="one")
        assert (made.status, made.ended, made.labels) == ("queued", False, ())
        assert client.submit(CAT, idempotency_key="one").id == made.id
        assert client.submit(CAT).id != made.id
        with pytest.raises(NotYet, match=r"has not ended within 0\.3 s"):
            client.wait(made, timeout=0.3)
        place = client.get(made).place
        assert place is not None and place.position == 1
        events = []
        for event in client.stream(made):
            events.append(event)
            if event.name == "queued":
                assert client.cancel(made).status == "canceled"
        assert events[0].place is not None and "quota" in events[0].place.reason
        assert (events[-1].name, events[-1].prediction) == ("canceled", client.get(made))
        with pytest.raises(PredictionFailed, match="canceled: the prediction was canceled"):
            client.wait(made)
        expired = client.submit(CAT, cancel_after=1)
        with pytest.raises(PredictionFailed, match="deadline_passed"):
            client.wait(expired.id)


def test_tiers_are_told(client: Client) -> None:
    assert [tier.name for tier in client.tiers()] == ["free", "premium"]
    tier = client.tiers()[0]
    assert tier.model.startswith("tf_efficientnet_lite0")
    assert tier.document["limits"]["queued"] > 0
    assert tier.lending is None


def test_many_pictures_have_an_outcome_each(client: Client, tmp_path: Path) -> None:
    pictures: list[Picture] = [*[CAT] * 20, b"no picture", tmp_path / "none.jpg", CAT.read_bytes()[:2000]]
    told: list[Progress] = []
    outcomes = list(client.map(pictures, concurrency=4, progress=told.append))
    assert sorted(outcome.index for outcome in outcomes) == list(range(23))
    bad = {outcome.index: outcome for outcome in outcomes if outcome.error}
    assert {index: type(outcome.error) for index, outcome in bad.items()} == {
        20: Refused,
        21: BadPicture,
        22: PredictionFailed,
    }
    assert bad[22].prediction is not None and bad[21].prediction is None
    assert all(outcome.picture is pictures[outcome.index] for outcome in outcomes)
    assert {outcome.labels[0].label for outcome in outcomes if not outcome.error} == {"tiger cat"}
    assert [progress.done for progress in told] == list(range(1, 24))
    assert told[-1] == Progress(23, 3, 23)


def test_many_come_in_order_from_an_iterator_that_is_read_when_it_is_their_turn(client: Client) -> None:
    read: list[int] = []

    def pictures() -> Iterator[bytes]:
        for number in range(60):
            read.append(number)
            yield CAT.read_bytes()

    outcomes = client.map(pictures(), concurrency=2, ordered=True)
    first = next(outcomes)
    assert first.index == 0
    # At most 4 times 2 are under way or done, and those of the batch that was taken.
    assert len(read) <= 16 + 2
    assert [outcome.index for outcome in outcomes] == list(range(1, 60))


def test_an_iterator_that_fails_ends_the_map_with_its_error(client: Client) -> None:
    def pictures() -> Iterator[bytes]:
        yield CAT.read_bytes()
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(client.map(pictures()))
    with pytest.raises(ValueError, match="at least 1"):
        list(client.map([], concurrency=0))
    assert list(client.map([])) == []


def test_a_map_that_is_left_leaves_nothing_behind(client: Client) -> None:
    outcomes = client.map([CAT] * 500)
    assert next(outcomes).error is None
    outcomes.close()  # type: ignore[attr-defined]
    assert client.classify(CAT).status == "succeeded"


def test_what_waits_longer_is_followed_in_one_stream(paused: str) -> None:
    async def ask() -> tuple[list[Outcome], list[str]]:
        names: list[str] = []
        async with AsyncClient(paused, "") as client:

            def told(_: object, event: object) -> None:
                names.append(getattr(event, "name", "sending"))

            found = [one async for one in client.map([CAT] * 6, cancel_after=4, concurrency=6, on_event=told)]
        return found, names

    outcomes, names = asyncio.run(ask())
    assert [getattr(outcome.error, "code", None) for outcome in outcomes] == ["deadline_passed"] * 6
    assert names[:6] == ["sending"] * 6
    assert names.count("queued") >= 6


def test_threads_share_a_client(client: Client) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(client.classify(CAT).status)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == ["succeeded"] * 8


def test_a_closed_client_says_so_and_leaves_no_thread(running: Service) -> None:
    before = threading.active_count()
    client = Client(f"http://127.0.0.1:{running.port}/", "")
    assert client.tiers()
    client.close()
    client.close()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="closed"):
        client.tiers()


def test_the_environment_names_the_server_and_the_key(running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERSERVE_URL", f"http://127.0.0.1:{running.port}")
    monkeypatch.setenv("TIERSERVE_KEY", "tsk_wrong_key\n")
    with Client() as client, pytest.raises(Refused, match="key_unknown"):
        client.tiers()


def test_a_server_that_was_never_there_is_not_waited_for() -> None:
    with Client("http://127.0.0.1:9", "") as client, pytest.raises(TierserveError, match="no server answers"):
        client.classify(CAT)


@pytest.mark.parametrize("url", ["", "example.org:8080", "ftp://x", "http://", "http://x?y=1", "http://[::1"])
def test_what_cannot_be_a_url_or_a_key_is_refused(url: str) -> None:
    if url:
        with pytest.raises(ValueError, match="URL"):
            Client(url, "")
    with pytest.raises(ValueError, match="a key consists of"):
        Client("http://127.0.0.1:8080", "a b" + url)


def test_a_map_outlives_a_server_that_is_killed_and_started_again(models: Path, tmp_path: Path) -> None:
    with service(models, tmp_path / "state") as server, Client(f"http://127.0.0.1:{server.port}", "") as client:
        outcomes = client.map([CAT] * 120, concurrency=8)
        found = [next(outcomes) for _ in range(20)]
        server.kill()
        restart = threading.Thread(target=server.start)
        restart.start()
        try:
            found += outcomes
        finally:
            restart.join(60)
    assert sorted(outcome.index for outcome in found) == list(range(120))
    assert [outcome.error for outcome in found] == [None] * 120
    assert {outcome.labels[0].label for outcome in found} == {"tiger cat"}


def test_a_picture_that_is_too_large_is_refused_before_it_is_sent(client: Client) -> None:
    with pytest.raises(Refused) as refused:
        client.classify(b"\xff\xd8\xff" + bytes(30_000_000))
    assert (refused.value.status, refused.value.code) == (413, "too_many_bytes")
    assert refused.value.document["limit_bytes"] > 0
    assert client.classify(CAT).status == "succeeded"
