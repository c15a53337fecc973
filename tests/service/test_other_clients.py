"""Clients of other services ask a server whose workers have real models."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.running import ROOT, Service

CAT = ROOT / "model" / "pictures" / "cat.jpg"
SECONDS = 60.0


def asked(server: Service, **query: object) -> dict[str, float]:
    """The scores that our own route gives each label."""
    text = "&".join(f"{name}={value}" for name, value in query.items())
    (result,) = server.post("free", CAT.read_bytes(), query=f"?{text}").json["results"]
    return {one["label"]: one["score"] for one in result["labels"]}


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_hugging_faces_client_gets_what_our_own_route_says(running: Service, function: str) -> None:
    client = InferenceClient(model=f"http://127.0.0.1:{running.port}/hf/free", timeout=SECONDS)
    found = client.image_classification(CAT, top_k=3, function_to_apply=function)  # type: ignore[arg-type]
    scores = {one.label: one.score for one in found}
    assert scores == asked(running, top_k=3, function_to_apply=function)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    total = sum(scores.values())
    assert {"softmax": total <= 1, "sigmoid": max(scores.values()) <= 1, "none": total > 3}[function]


def test_hugging_faces_client_is_told_what_is_wrong_with_a_picture(running: Service) -> None:
    client = InferenceClient(model=f"http://127.0.0.1:{running.port}/hf/free", timeout=SECONDS)
    with pytest.raises(HfHubHTTPError, match="422") as failed:
        client.image_classification(CAT.read_bytes()[:1000])
    body = json.loads(failed.value.response.text)
    assert body["code"].startswith("image_")
    assert body["error"] in str(failed.value)


@pytest.mark.parametrize("arguments", [["-T", str(CAT)], ["-F", f"data=@{CAT}"]], ids=["-T", "-F"])
def test_curl_gets_from_torchserves_route_what_our_own_says(
    running: Service, tmp_path: Path, arguments: list[str]
) -> None:
    url = f"http://127.0.0.1:{running.port}/predictions/free?top_k=3"
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", f"{SECONDS:g}", *arguments, url]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=2 * SECONDS, check=True)
    scores = json.loads(done.stdout)
    assert list(scores.items()) == list(asked(running, top_k=3).items())
