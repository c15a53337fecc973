"""Triton's and KServe's own clients, unchanged, against a server with real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.environment import HERE, foreign
from tests.running import ROOT, Service, service

CAT = ROOT / "model" / "pictures" / "cat.jpg"


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(models, tmp_path_factory.mktemp("foreign")) as found:
        yield found


def asked(script: str, address: str) -> dict[str, Any]:
    done = foreign(HERE / script, address, "free", CAT)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(server: Service) -> list[dict[str, Any]]:
    labels: list[dict[str, Any]] = server.post("free", CAT.read_bytes()).json["results"][0]["labels"]
    return labels


def test_tritons_client_gets_what_our_own_route_says(server: Service) -> None:
    expected = ours(server)
    names, scores = [one["label"] for one in expected], [one["score"] for one in expected]
    found = asked("triton.py", f"127.0.0.1:{server.port}")
    assert (found["live"], found["ready"], found["tier_ready"], found["none_ready"]) == (True, True, True, False)
    assert (found["server"], found["id"]) == ("tierserve", "mine")
    assert found["binary"]["labels"] == [names[:3]] * 2
    assert found["binary"]["scores"] == [pytest.approx(scores[:3], abs=1e-3)] * 2
    assert found["json"] == {"labels": [names], "scores": [pytest.approx(scores, abs=1e-3)]}
    assert found["unzipped"] == [names]
    known = server.get("/v1/tiers/free").json["model"]["labels"]
    (classes,) = found["classes"]
    split = [one.split(":", 2) for one in classes]
    assert [label for _, _, label in split] == names[:2]
    assert [known[int(index)] for _, index, _ in split] == names[:2]
    assert [float(score) for score, _, _ in split] == pytest.approx(scores[:2], abs=1e-3)
    assert [found[one][0] for one in ("no_tier", "no_picture", "compressed", "wrong_key")] == [
        "404",
        "422",
        "415",
        "401",
    ]
    assert "there is no tier 'none'" in found["no_tier"][1]


def test_kserves_client_gets_what_our_own_route_says_in_both_versions(server: Service) -> None:
    expected = ours(server)
    names, scores = [one["label"] for one in expected], [one["score"] for one in expected]
    found = asked("kserve_rest.py", f"http://127.0.0.1:{server.port}")
    one = {"labels": names, "scores": pytest.approx(scores, abs=1e-3)}
    assert found["v1"] == {"predictions": [one, one]}
    assert [found[name] for name in ("v1_ready", "live", "ready", "tier_ready", "none_ready")] == [True] * 4 + [False]
    assert found["binary"]["labels"] == names[:3] * 2
    assert found["json"]["labels"] == names[:3]
    assert found["json"]["scores"] == pytest.approx(scores[:3], abs=1e-3)
    assert found["id"] == "mine"
    assert [found[name][0] for name in ("v1_none", "v1_broken", "v2_none")] == [404, 422, 404]
    assert "there is no tier 'none'" in found["v2_none"][1]
