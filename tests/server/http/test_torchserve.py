"""What users of TorchServe get with curl. Tests have the worker's part."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server.models import Models
from server.queue import Served, Serving, StorageError
from server.settings.live import Live
from server.settings.sources import Files
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, PLACES, Site, completion, running, waits
from tests.server.models.model_folder import write
from tests.waiting import eventually

LABELS = [
    {"labels": [{"label": "lynx", "score": 0.7}, {"label": "crane", "score": 0.2}, {"label": "crane", "score": 0.1}]}
]
MAIN, CANARY = (Served(f"flowers@{version}", version * 8, "onnx", "int8", 5.0) for version in ("0f1e2d3c", "3f9a2c81"))
LARGE = PICTURE + bytes(2 * 1024 * 1024)  # for which curl asks first whether it may send it


@dataclass(frozen=True, slots=True)
class Said:
    """What curl got."""

    status: int
    json: Any
    headers: dict[str, str]


def curl(site: Site, *arguments: str, path: str = "/predictions/free") -> Said:
    """Run curl."""
    url = f"http://127.0.0.1:{site.port}{path}"
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--max-time",
        f"{ANSWER_SECONDS:g}",
        "--dump-header",
        "-",
        *arguments,
        url,
    ]
    done = subprocess.run(command, capture_output=True, timeout=2 * ANSWER_SECONDS, check=True)
    *heads, body = done.stdout.split(b"\r\n\r\n")  # the first may be 100 Continue
    lines = heads[-1].decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Said(int(lines[0].split()[1]), json.loads(body), headers)


def asking(site: Site, *arguments: str, path: str = "/predictions/free") -> Future[Said]:
    """Run curl in a thread."""
    return site.callers.submit(lambda: curl(site, *arguments, path=path))


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    """A file with a picture."""
    (tmp_path / "cat.jpg").write_bytes(PICTURE)
    return tmp_path / "cat.jpg"


@pytest.mark.parametrize(
    "arguments",
    [["-T"], ["-F", "data=@"], ["-X", "PUT", "-F", "data=@"], ["-X", "POST", "-T"], ["--data-binary", "@"]],
    ids=" ".join,
)
@pytest.mark.parametrize("picture", [PICTURE, LARGE], ids=["small", "large"])
def test_a_file_is_classified(site: Site, tmp_path: Path, arguments: list[str], picture: bytes) -> None:
    file = tmp_path / "cat.jpg"
    file.write_bytes(picture)
    *first, last = arguments
    attached = [f"{last}{file}"] if last.endswith("@") else [last, str(file)]
    channel = site.worker(site.job())
    answer = asking(site, *first, *attached)
    channel.grant(1)
    (one,) = channel.lease()
    channel.say({"completions": [completion(one, LABELS)]})
    said = answer.result(ANSWER_SECONDS)
    assert (said.status, list(said.json.items())) == (200, [("lynx", 0.7), ("crane", 0.2)])
    assert site.get(said.headers["Location"]).json["status"] == "succeeded"


def test_parameters_stand_in_the_query_or_in_the_form(site: Site, cat: Path) -> None:
    token = site.job()
    for arguments, query in ((["-T", str(cat)], "?top_k=3"), (["-F", f"data=@{cat}", "-F", "top_k=3"], "")):
        answer = asking(site, *arguments, path=f"/predictions/free{query}")
        (one,) = site.lease(token)
        assert one["top_k"] == 3
        site.complete(one, token)
        assert answer.result(ANSWER_SECONDS).json == {"tabby": 0.9}


def error(said: Said) -> tuple[int, str, str]:
    """Status, class and code of an error."""
    assert said.json["code"] == said.status
    assert said.json["message"]
    assert said.json["request_id"] == said.headers["X-Request-Id"]
    return said.status, said.json["type"], said.json["problem"]


def test_errors_have_its_shape(shared: Site, cat: Path) -> None:
    assert error(curl(shared, "-T", str(cat), path="/predictions/gold")) == (
        404,
        "ModelNotFoundException",
        "no_such_tier",
    )
    two = curl(shared, "-F", f"data=@{cat}", "-F", f"more=@{cat}")
    assert error(two) == (413, "BadRequestException", "too_many_images")
    assert error(curl(shared)) == (405, "MethodNotAllowedException", "method_not_allowed")
    wrong = curl(shared, "-T", str(cat), "-H", f"Authorization: Bearer tsk_{'a' * 16}_{'b' * 43}")
    assert error(wrong)[:2] == (401, "BadRequestException")
    assert error(curl(shared, "-X", "POST", "-d", "")) == (400, "BadRequestException", "empty_body")
    assert waits(shared) == 0


def test_a_broken_picture(site: Site, cat: Path) -> None:
    token = site.job()
    answer = asking(site, "-T", str(cat))
    (one,) = site.lease(token)
    site.hand_in([completion(one, [{"error": {"code": "image_broken", "detail": "it was cut"}}])], token)
    said = answer.result(ANSWER_SECONDS)
    assert error(said) == (422, "BadRequestException", "image_broken")
    assert said.json["message"] == "it was cut"
    assert said.json["prediction"] == one["id"]


def test_a_full_queue(small: Site, cat: Path) -> None:
    for _ in range(PLACES):
        small.submit()
    said = curl(small, "-T", str(cat))
    assert error(said) == (429, "BadRequestException", "queue_full")
    assert int(said.headers["Retry-After"]) >= 1


def test_a_wait_that_ends_first(site: Site, cat: Path) -> None:
    said = curl(site, "-T", str(cat), "-H", "Prefer: wait=0", "-H", "Idempotency-Key: one")
    assert error(said) == (504, "InternalServerException", "not_yet")
    assert said.headers["Location"] == f"/v1/predictions/{said.json['prediction']}"
    token = site.job()
    (one,) = site.lease(token)
    site.complete(one, token)
    again = curl(site, "-T", str(cat), "-H", "Idempotency-Key: one")
    assert (again.status, again.json) == (200, {"tabby": 0.9})


def test_the_pictures_of_a_full_disk_are_refused(site: Site, cat: Path) -> None:
    site.database.write_failure = StorageError("the disk is sick")
    said = curl(site, "-T", str(cat))
    assert error(said)[:2] == (503, "ServiceUnavailableException")


def test_ping_says_whether_the_server_accepts_pictures(site: Site) -> None:
    said = curl(site, path="/ping")
    assert (said.status, said.json) == (200, {"status": "Healthy"})
    site.call(site.services.wakeups.drain)
    said = curl(site, path="/ping")
    assert (said.status, said.json) == (503, {"status": "Unhealthy"})


@pytest.fixture
def florist(tmp_path: Path) -> Any:
    """A site whose tier free serves a model, of which half of the predictions go to a canary."""
    for served in (MAIN, CANARY):
        write(tmp_path / "models", served.reference, variants=["onnx/int8"])
    chosen = ("name=flowers", "canary.name=flowers@new", "canary.percent=50")
    live = Live(Files(overrides=tuple(f"tiers.free.model.{one}" for one in chosen)))
    with running(tmp_path / "site", live, models=Models(tmp_path / "models")) as found:
        found.serve("free", Serving(MAIN, CANARY, 50))
        yield found


def test_a_version_is_that_of_the_main_model(florist: Site, cat: Path) -> None:
    token = florist.job(model=MAIN.key)
    for _ in range(8):  # of which the canary would get none by chance once in 256 times
        answer = asking(florist, "-T", str(cat), path="/predictions/free/0f1e2d3c")
        (one,) = florist.lease(token)
        florist.hand_in([completion(one, model=MAIN.reference)], token)
        assert answer.result(ANSWER_SECONDS).json == {"tabby": 0.9}
    for version in ("3f9a2c81", "1.0"):
        said = curl(florist, "-T", str(cat), path=f"/predictions/free/{version}")
        assert error(said) == (404, "ModelNotFoundException", "no_such_model")
        assert "0f1e2d3c" in said.json["message"]


def test_a_version_that_gets_nothing_is_not_found(florist: Site, cat: Path) -> None:
    florist.serve("free", Serving(MAIN, CANARY, 100))
    said = curl(florist, "-T", str(cat), path="/predictions/free/0f1e2d3c")
    assert error(said) == (404, "ModelNotFoundException", "no_such_model")
    assert waits(florist) == 0


def test_a_model_that_changed_meanwhile_is_told(florist: Site, cat: Path) -> None:
    answer = asking(florist, "-T", str(cat), "-H", "Idempotency-Key: one", path="/predictions/free/0f1e2d3c")
    eventually(lambda: waits(florist), ANSWER_SECONDS, "the request waits", lambda many: many == 1)
    florist.serve("free", Serving(CANARY))
    token = florist.job(model=CANARY.key)
    (one,) = florist.lease(token)
    florist.hand_in([completion(one, model=CANARY.reference)], token)
    said = answer.result(ANSWER_SECONDS)
    assert error(said) == (409, "BadRequestException", "model_changed")
    assert CANARY.reference in said.json["message"]
