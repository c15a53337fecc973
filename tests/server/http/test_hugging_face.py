"""What the client of Hugging Face gets at ``/hf/{tier}``. Tests have the worker's part."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, InferenceTimeoutError

from server.settings.live import Live
from server.settings.sources import Files
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, PLACES, Site, completion, running, waits

SHORT_WAIT = "tiers.free.waits.syncSeconds=0.3"
TWO = [{"labels": [{"label": "tabby", "score": 0.7}, {"label": "lynx", "score": 0.2}]}]
BROKEN = [{"error": {"code": "image_broken", "detail": "it cannot be decoded"}}]


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Site]:
    """A site whose tier free waits for a moment only."""
    with running(tmp_path, Live(Files(typed=(("set-json", SHORT_WAIT),)))) as found:
        yield found


def hugging_face(site: Site, tier: str = "free", **given: Any) -> InferenceClient:
    return InferenceClient(model=f"http://127.0.0.1:{site.port}/hf/{tier}", **{"timeout": ANSWER_SECONDS, **given})


def answered(site: Site, picture: Any, results: Any = TWO, **asked: Any) -> list[tuple[str, float]]:
    """What the client gets for a picture, for which a worker hands in these results."""
    channel = site.worker(site.job())
    answer = site.callers.submit(hugging_face(site).image_classification, picture, **asked)
    channel.grant(1)
    (one,) = channel.lease()
    channel.say({"completions": [completion(one, results)]})
    return [(found["label"], found["score"]) for found in answer.result(ANSWER_SECONDS)]


def refusal(site: Site, picture: Any = PICTURE, tier: str = "free", **given: Any) -> HfHubHTTPError:
    with pytest.raises(HfHubHTTPError) as refused:
        hugging_face(site, tier, **given).image_classification(picture)
    return refused.value


def told(error: HfHubHTTPError) -> tuple[int, str]:
    """Status and code, once header and body are known to tell the same."""
    response = error.response
    body = json.loads(response.text)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Error-Code"] == body["code"]
    assert error.server_message == body["error"]
    assert response.headers["X-Request-Id"] == body["request_id"]
    return response.status_code, body["code"]


def test_bytes_a_path_and_a_url_are_classified(site: Site, tmp_path: Path) -> None:
    labels = [("tabby", 0.7), ("lynx", 0.2)]
    assert answered(site, PICTURE) == labels
    (tmp_path / "cat.jpg").write_bytes(PICTURE)
    assert answered(site, tmp_path / "cat.jpg") == answered(site, str(tmp_path / "cat.jpg")) == labels
    with Pictures() as url:
        assert answered(site, url) == labels


def test_parameters_go_to_the_worker(site: Site) -> None:
    channel = site.worker(site.job())
    ask = hugging_face(site).image_classification
    answer = site.callers.submit(ask, PICTURE, top_k=2, function_to_apply="sigmoid")
    channel.grant(1)
    (one,) = channel.lease()
    assert (one["top_k"], one["function"]) == (2, "sigmoid")
    channel.say({"completions": [completion(one) | {"function": "sigmoid"}]})
    (label,) = answer.result(ANSWER_SECONDS)
    assert (label.label, label.score) == ("tabby", 0.9)


def test_the_prediction_is_one_of_ours(site: Site) -> None:
    answered(site, PICTURE)
    answer = site.ask("POST", "/hf/free", PICTURE, {"Prefer": "wait=0"})
    assert (answer.status, answer.json["code"]) == (504, "not_yet")
    assert answer.headers["Location"] == f"/v1/predictions/{answer.json['prediction']}"
    assert site.get(answer.headers["Location"]).json["status"] == "queued"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"this is no picture", 415, "unsupported_media_type"),
        (b'{"inputs": 1}', 422, "bad_inputs"),
        (b'{"inputs": ["/9j/", "/9j/"]}', 413, "too_many_images"),
        (b'{"inputs": "/9j/", "parameters": {"size": 1}}', 422, "bad_parameters"),
    ],
)
def test_bad_bodies_are_refused_in_its_shape(shared: Site, body: bytes, status: int, code: str) -> None:
    answer = shared.ask("POST", "/hf/free", body)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["X-Error-Message"] == answer.json["error"]
    assert waits(shared) == 0


def test_a_message_that_no_header_takes_is_cut_and_cleaned(shared: Site) -> None:
    answer = shared.ask("POST", "/hf/caf%C3%A9%0d%0aSet-Cookie:a=b", PICTURE)
    assert (answer.status, answer.json["code"]) == (404, "no_such_tier")
    assert "Set-Cookie" not in answer.headers
    answer = shared.ask("POST", "/hf/%E9%9B%91%E8%8D%89", PICTURE)
    assert "雑草" in answer.json["error"]
    assert answer.headers["X-Error-Message"].isascii()


def test_other_methods_are_refused_in_its_shape(shared: Site) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = shared.ask(method, "/hf/free")
        assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == "OPTIONS, POST"


def test_too_long_a_body_is_refused_before_it_comes(shared: Site) -> None:
    head = b"POST /hf/free HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 99999999\r\n\r\n"
    answer = shared.exchange(head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "too_many_bytes"


def test_an_unknown_tier(shared: Site) -> None:
    error = refusal(shared, tier="gold")
    assert told(error) == (404, "no_such_tier")
    assert "free, premium" in str(error)


def test_a_wrong_key(shared: Site) -> None:
    error = refusal(shared, token=f"tsk_{'a' * 16}_{'b' * 43}")
    assert told(error)[0] == 401
    assert error.response.headers["WWW-Authenticate"] == "Bearer"


def test_a_token_of_hugging_face_is_no_key(shared: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sends the one that it finds; on loopback nobody needs a key, and elsewhere a header replaces it."""
    monkeypatch.setenv("HF_TOKEN", "hf_found")
    assert told(refusal(shared, b"no picture")) == (415, "unsupported_media_type")
    monkeypatch.setenv("HF_TOKEN", f"tsk_{'a' * 16}_{'b' * 43}")  # which is refused everywhere
    assert told(refusal(shared, b"no picture"))[0] == 401
    assert told(refusal(shared, b"no picture", headers={"Authorization": ""})) == (415, "unsupported_media_type")


def test_a_right_key_is_whose_prediction_it_is(site: Site) -> None:
    key = site.key("anna")
    site.worker(site.job())
    answer = site.ask("POST", "/hf/free", PICTURE, {"Prefer": "wait=0", "Authorization": f"Bearer {key}"})
    path = answer.headers["Location"]
    assert (site.get(path).status, site.ask("GET", path, headers={"X-API-Key": key}).status) == (404, 200)


def test_a_full_queue_tells_when_to_come_again(small: Site) -> None:
    for _ in range(PLACES):
        assert small.submit().status == 202
    error = refusal(small)
    assert told(error) == (429, "queue_full")
    assert int(error.response.headers["Retry-After"]) >= 1
    assert waits(small) == PLACES


def test_a_broken_picture(site: Site) -> None:
    with pytest.raises(HfHubHTTPError) as failed:
        answered(site, PICTURE, BROKEN)
    assert told(failed.value) == (422, "image_broken")
    assert "it cannot be decoded" in str(failed.value)


def test_what_is_no_picture_is_the_exception_of_a_bad_request(shared: Site) -> None:
    with pytest.raises(BadRequestError) as refused:
        hugging_face(shared).image_classification(b"")
    assert told(refused.value) == (400, "empty_body")


def test_a_client_that_waits_no_longer_has_withdrawn_its_picture(site: Site) -> None:
    site.worker(site.job())
    with pytest.raises(InferenceTimeoutError):
        hugging_face(site, timeout=0.3).image_classification(PICTURE)
    site.idle()
    assert site.get("/v1/tiers/free").json["queued"] == waits(site) == 0


def test_a_wait_that_ends_first_is_repeated_with_its_key(hasty: Site) -> None:
    client = hugging_face(hasty, headers={"Idempotency-Key": "one"})
    with pytest.raises(HfHubHTTPError) as refused:
        client.image_classification(PICTURE)
    assert told(refused.value) == (504, "not_yet")
    body = json.loads(refused.value.response.text)
    assert body["prediction"] in body["error"]
    token = hasty.job()
    (one,) = hasty.lease(token)
    assert one["id"] == body["prediction"]
    hasty.complete(one, token)
    assert [found.label for found in client.image_classification(PICTURE)] == ["tabby"]
    assert waits(hasty) == 0


class Pictures(http.server.ThreadingHTTPServer):
    """A site that has a picture, while the block lasts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Picture)

    def __enter__(self) -> str:  # type: ignore[override]
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()
        return f"http://127.0.0.1:{self.server_port}/cat.jpg"

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Picture(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(PICTURE)))
        self.end_headers()
        self.wfile.write(PICTURE)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
