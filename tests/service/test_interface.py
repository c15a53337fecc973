"""A running server does what the description of its interface says, and so do the samples of code that are in it."""

from __future__ import annotations

import ast
import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server.openapi.samples import KEY, ORIGIN, PICTURE
from tests.access import Issued, Operator
from tests.openapi import Interface
from tests.running import Answer, Service, service
from tests.service.pictures import CAT, rotated
from tests.service.test_classify import multipart
from tests.waiting import eventually

ASYNC = {"Prefer": "respond-async"}
SAMPLE_SECONDS = 60.0
PLACES = 2
"""In the queue of the tier premium, which has no workers."""


@dataclass(frozen=True, slots=True)
class World:
    """A server, what it says of itself, and somebody who has a key for both tiers."""

    server: Service
    interface: Interface
    key: Issued

    def ask(self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Ask, and hold the answer against the description."""
        answer = self.server.ask(method, target, body, headers or {})
        self.interface.check(answer, method, target)
        return answer


@pytest.fixture(scope="module")
def world(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = ["tiers.premium.quota.pods=0", f"tiers.premium.limits.queue={PLACES}"]
    with service(models, tmp_path_factory.mktemp("interface"), settings) as found:
        eventually(lambda: found.get("/v1/models").json["models"], 30, "the server knows what its tiers serve")
        operator = Operator(found.internal_port, found.state / "admin-token")
        yield World(found, Interface(found.get("/openapi.json").json), operator.create("anna", "free", "premium"))


@dataclass(frozen=True, slots=True)
class Asking:
    """A request, and the status that it is answered with."""

    method: str
    target: str
    status: int
    body: bytes | None = None
    headers: dict[str, str] | None = None


JPEG = {"Content-Type": "image/jpeg"}
FORM, FORM_TYPE = multipart([CAT, CAT])
FREE, PREMIUM = "/img-classification/free", "/img-classification/premium"
TEXT = base64.b64encode(CAT).decode()
ELEMENT = len(CAT).to_bytes(4, "little") + CAT
HEAD = json.dumps(
    {
        "inputs": [
            {"name": "x", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(ELEMENT)}},
        ]
    }
).encode()
TENSOR = HEAD + ELEMENT, {"Inference-Header-Content-Length": str(len(HEAD))}
V2 = "/v2/models/free"
ASKED = [
    Asking("POST", FREE, 200, CAT, JPEG),
    Asking("POST", f"{FREE}?top_k=1", 200, FORM, FORM_TYPE),
    Asking("POST", FREE, 202, CAT, JPEG | ASYNC),
    Asking("POST", FREE, 422, b"\xff\xd8\xff" + bytes(100), JPEG),
    Asking("POST", f"{FREE}?top_k=0", 422, CAT, JPEG),
    Asking("POST", FREE, 400, b"", JPEG),
    Asking("POST", FREE, 400, b"{", {"Content-Type": "application/json"}),
    Asking("POST", FREE, 400, CAT, JPEG | {"Cancel-After": "1 day"}),
    Asking("POST", FREE, 415, b"text", {"Content-Type": "text/plain"}),
    Asking("POST", FREE, 403, CAT, JPEG | {"Origin": "https://elsewhere.example"}),
    Asking("POST", FREE, 401, CAT, JPEG | {"X-API-Key": "tsk_none_such"}),
    Asking("POST", f"{FREE}?key=tsk_none_such", 400, CAT, JPEG),
    Asking("POST", FREE, 413, *multipart([CAT[:100]] * 200)),
    Asking("POST", "/img-classification/none", 404, CAT, JPEG),
    Asking("POST", PREMIUM, 504, CAT, JPEG | {"Cancel-After": "1s", "Prefer": "wait=10"}),
    Asking("POST", "/hf/free", 200, CAT, JPEG),
    Asking("POST", "/hf/free", 422, b"\xff\xd8\xff" + bytes(100), JPEG),
    Asking("POST", "/hf/free", 504, CAT, JPEG | {"Prefer": "wait=0"}),
    Asking("POST", "/hf/none", 404, CAT, JPEG),
    Asking("POST", "/predictions/free", 200, CAT, JPEG),
    Asking("PUT", "/predictions/free?top_k=2", 200, *multipart([CAT])),
    Asking("PUT", "/predictions/free", 415, b"text", {"Content-Type": "text/plain"}),
    Asking("POST", "/predictions/free", 504, CAT, JPEG | {"Prefer": "wait=0"}),
    Asking("POST", "/predictions/free/none", 404, CAT, JPEG),
    Asking("PUT", "/predictions/free/none", 404, CAT, JPEG),
    Asking("GET", "/ping", 200),
    Asking("POST", f"{V2}/infer", 200, *TENSOR),
    Asking("POST", f"{V2}/infer", 422, b"{}"),
    Asking("POST", f"{V2}/infer", 415, b"{}", {"Content-Encoding": "gzip"}),
    Asking("POST", f"{V2}/versions/none/infer", 404, *TENSOR),
    Asking("POST", "/v2/models/premium/infer", 504, TENSOR[0], TENSOR[1] | {"Cancel-After": "1s", "Prefer": "wait=10"}),
    Asking("GET", "/v2", 200),
    Asking("GET", "/v2/health/live", 200),
    Asking("GET", "/v2/health/ready", 200),
    Asking("GET", V2, 200),
    Asking("GET", "/v2/models/none", 404),
    Asking("GET", f"{V2}/ready", 200),
    Asking("GET", f"{V2}/versions/none", 404),
    Asking("GET", f"{V2}/versions/none/ready", 404),
    Asking("POST", "/v1/models/free:predict", 200, json.dumps({"instances": [{"b64": TEXT}]}).encode()),
    Asking("POST", "/v1/models/free:predict", 422, b"{}"),
    Asking("POST", "/v1/models/none:predict", 404, b"{}"),
    Asking("GET", "/v1/models/free", 200),
    Asking("GET", "/v1/predictions", 401),
    Asking("GET", "/v1/predictions/none", 404),
    Asking("GET", "/v1/predictions/none?wait=61", 404),
    Asking("DELETE", "/v1/predictions/none", 404),
    Asking("GET", "/v1/predictions/none/events", 404),
    Asking("GET", "/v1/predictions/events?id=none", 200),
    Asking("GET", "/v1/predictions/events", 400),
    Asking("HEAD", "/v1/tiers/events", 200),
    Asking("GET", "/v1/tiers/free/activity", 200),
    Asking("GET", "/v1/tiers/none/activity", 404),
    Asking("GET", "/v1/tiers", 200),
    Asking("GET", "/v1/tiers", 421, None, {"Host": "elsewhere.example"}),
    Asking("GET", "/v1/tiers/free", 200),
    Asking("GET", "/v1/tiers/none", 404),
    Asking("GET", "/v1/models", 200),
    Asking("GET", "/v1/models/none@1", 404),
    Asking("GET", "/config", 200),
    Asking("GET", "/healthz", 200),
    Asking("GET", "/readyz", 200),
    Asking("GET", "/readyz?for=reading", 200),
    Asking("GET", "/openapi.json", 200),
    Asking("GET", "/", 200),
    Asking("GET", "/watch", 200),
    Asking("GET", "/page/style.css", 200),
    Asking("GET", "/page/cat.jpg", 200),
    Asking("GET", "/page/none.css", 404),
    Asking("GET", "/docs", 200),
    Asking("GET", "/docs/docs.js", 200),
    Asking("GET", "/docs/none.js", 404),
]


@pytest.mark.parametrize("asking", ASKED, ids=lambda one: f"{one.method} {one.target} {one.status}")
def test_an_answer_is_one_of_those_that_are_described(world: World, asking: Asking) -> None:
    assert world.ask(asking.method, asking.target, asking.body, asking.headers).status == asking.status
    if asking.method == "GET":
        assert world.ask("HEAD", asking.target, None, asking.headers).status == asking.status


def test_no_operation_is_left_out(world: World) -> None:
    asked = [world.interface.operation(one.method, one.target) for one in ASKED]
    assert [name for name, operation in world.interface.operations.items() if operation not in asked] == []


def test_a_prediction_is_as_described_from_its_acceptance_to_its_end(world: World) -> None:
    headers = JPEG | ASYNC | world.key.headers
    first = world.ask("POST", PREMIUM, CAT, headers)
    world.ask("POST", PREMIUM, rotated(), headers)
    assert world.ask("POST", PREMIUM, CAT, headers).status == 429
    one = first.headers["Location"]
    assert world.ask("GET", one, None, world.key.headers).json["queue"]["position"] == 1
    assert world.ask("GET", f"{one}?wait=nan", None, world.key.headers).status == 400
    assert world.ask("DELETE", one, None, world.key.headers).json["status"] == "canceled"
    page = world.ask("GET", "/v1/predictions?limit=1&tier=premium&status=queued", None, world.key.headers).json
    assert len(page["predictions"]) == 1
    for query in ("limit=0", "status=none", "since=never", "cursor=none", "tier=none"):
        assert world.ask("GET", f"/v1/predictions?{query}", None, world.key.headers).status in (400, 404)
    end = world.ask("POST", f"{FREE}", CAT, JPEG | world.key.headers).json
    world.ask("GET", f"/v1/predictions/{end['id']}", None, world.key.headers)
    events = f"/v1/predictions/{end['id']}/events"
    told = dict(
        line.split(": ", 1)
        for line in world.ask("GET", events, None, world.key.headers).body.decode().split("\n")
        if line
    )
    world.interface.check_event(told["event"], json.loads(told["data"]), events)
    seen = world.key.headers | {"Last-Event-ID": told["id"]}
    assert world.ask("GET", events, None, seen).status == 204
    reference = world.ask("GET", "/v1/models").json["models"][0]["reference"]
    assert world.ask("GET", f"/v1/models/{reference}").json["labels"]


def test_every_described_path_answers_what_it_offers(world: World) -> None:
    for path, described in world.interface.whole["paths"].items():
        target = path.replace("{", "").replace("}", "")
        answer = world.server.ask("OPTIONS", target)
        allowed = set(answer.headers["Allow"].split(", "))
        offered = {method.upper() for method in described if method != "parameters"}
        assert (answer.status, allowed) == (204, offered | {"OPTIONS"} | ({"HEAD"} if "GET" in offered else set())), (
            path
        )
        refused = world.server.ask("PATCH", target)
        assert (refused.status, refused.headers["Allow"]) == (405, answer.headers["Allow"]), path


@pytest.mark.parametrize("language", ["Shell", "Python"])
def test_the_samples_run_as_they_are(world: World, language: str, tmp_path: Path) -> None:
    """But for the address, the key, and the prediction that they ask for."""
    (tmp_path / PICTURE).write_bytes(CAT)
    prediction = world.server.post("free", CAT, ASYNC).json["id"]
    reference = world.server.get("/v1/models").json["models"][0]["reference"]
    examples = {
        ORIGIN: f"http://127.0.0.1:{world.server.port}",
        KEY: world.key.key,
        _example(world, "/v1/predictions/{id}", "id"): prediction,
        _example(world, "/v1/models/{reference}", "reference"): reference,
        _example(world, "/v2/models/{tier}/versions/{version}", "version"): reference.partition("@")[2],
        _example(world, "/predictions/{tier}/{version}", "version"): reference.partition("@")[2],
    }
    for operation in world.interface.operations.values():
        (sample,) = [one["source"] for one in operation["x-codeSamples"] if one["lang"] == language]
        for placeholder, value in examples.items():
            sample = sample.replace(placeholder, value)
        content = world.interface.resolved(operation["responses"]["200"])["content"]
        said = _said(sample, language, tmp_path, is_stream="text/event-stream" in content)
        if "application/json" in content:
            assert isinstance(json.loads(said) if language == "Shell" else ast.literal_eval(said), dict | list), sample
        else:
            assert said.strip(), sample


def _example(world: World, path: str, name: str) -> str:
    item = world.interface.whole["paths"][path]
    given: list[Any] = [*item.get("parameters", []), *item.get("get", {}).get("parameters", [])]
    (found,) = [one["example"] for one in map(world.interface.resolved, given) if one["name"] == name]
    return str(found)


def _said(source: str, language: str, folder: Path, *, is_stream: bool) -> str:
    """What a sample prints: all of it, or of a stream the first event."""
    command = ["sh", "-c", source.replace("curl", "exec curl --fail --silent --show-error", 1)]
    if language == "Python":
        command = [sys.executable, "-u", "-c", source]
    with (folder / "errors").open("w+") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True)
        timer = threading.Timer(SAMPLE_SECONDS, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            with process.stdout:
                said = "".join(_until_event(process.stdout)) if is_stream else process.stdout.read()
            if is_stream:
                process.kill()
            else:
                assert process.wait() == 0, (source, (folder / "errors").read_text())
        finally:
            process.kill()
            process.wait()
            timer.cancel()
        return said


def _until_event(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.startswith("data:"):
            return
