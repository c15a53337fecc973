"""What Triton's and KServe's own clients must get of a tier, whatever runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.foreign.environment import HERE, foreign
from tests.running import ROOT

CAT = ROOT / "model" / "pictures" / "cat.jpg"

Labels = Sequence[Mapping[str, Any]]
"""Those of ``CAT`` in the answer of our own route."""


def check_triton(address: str, expected: Labels, known: Sequence[str]) -> None:
    """Ask the tier free of the server at ``HOST:PORT``. ``known`` are the labels of its model, by class number."""
    names, scores = _split(expected)
    found = asked("triton.py", address)
    assert (found["live"], found["ready"], found["tier_ready"], found["none_ready"]) == (True, True, True, False)
    assert (found["server"], found["id"]) == ("tierserve", "mine")
    assert found["binary"]["labels"] == [names[:3]] * 2
    assert found["binary"]["scores"] == [pytest.approx(scores[:3], abs=1e-3)] * 2
    assert found["json"] == {"labels": [names], "scores": [pytest.approx(scores, abs=1e-3)]}
    assert found["unzipped"] == [names]
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


def check_kserve(url: str, expected: Labels) -> None:
    """Ask the tier free of a server, in both versions of the protocol."""
    names, scores = _split(expected)
    found = asked("kserve_rest.py", url)
    one = {"labels": names, "scores": pytest.approx(scores, abs=1e-3)}
    assert found["v1"] == {"predictions": [one, one]}
    assert [found[name] for name in ("v1_ready", "live", "ready", "tier_ready", "none_ready")] == [True] * 4 + [False]
    assert found["binary"]["labels"] == names[:3] * 2
    assert found["json"]["labels"] == names[:3]
    assert found["json"]["scores"] == pytest.approx(scores[:3], abs=1e-3)
    assert found["id"] == "mine"
    assert [found[name][0] for name in ("v1_none", "v1_broken", "v2_none")] == [404, 422, 404]
    assert "there is no tier 'none'" in found["v2_none"][1]


def _split(expected: Labels) -> tuple[list[str], list[float]]:
    return [one["label"] for one in expected], [one["score"] for one in expected]


def asked(script: str, address: str) -> dict[str, Any]:
    """What a program with the client of another project prints."""
    done = foreign(HERE / script, address, "free", CAT)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
