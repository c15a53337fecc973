"""The operators' route that brings the earlier model of a tier back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.logs import AUDIT
from server.models import Models
from server.queue import OutcomeUnknown, Served, Serving
from server.settings.live import Live
from server.settings.sources import Files
from tests.running import Answer
from tests.server.http.http_site import ADMIN_TOKEN, Site, assert_problem, failed, running
from tests.server.models.model_folder import write
from tests.server.pushed_models import Pusher

V1, V2, V3 = (f"flowers@0000000{number}" for number in (1, 2, 3))


def served(reference: str) -> Served:
    return Served(reference, "0" * 64, "onnx", "int8", 1.0)


@pytest.fixture
def florist(tmp_path: Path) -> Iterator[Site]:
    """A site whose tier free names the third of three models, and serves it."""
    for reference in (V1, V2, V3):
        write(tmp_path / "models", reference, link="flowers", variants=["onnx/int8"])
    live = Live(Files(overrides=("tiers.free.model.name=flowers",)))
    with running(tmp_path / "site", live, models=Models(tmp_path / "models")) as found:
        found.serve("free", Serving(served(V3), previous=(served(V2), served(V1))))
        yield found


def rollback(site: Site, tier: str = "free", body: Any = None, token: str = ADMIN_TOKEN) -> Answer:
    return Pusher(site.internal, token).ask("POST", f"tiers/{tier}/rollback", body)


def test_a_rollback_holds_and_is_undone(florist: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answer = rollback(florist)
    told = {"tier": "free", "main": V2, "instead_of": V3, "previous": [V1], "problem": None}
    assert (answer.status, answer.json) == (200, told)
    florist.services.serving.refresh()
    model = florist.get("/v1/tiers/free").json["model"]
    assert (model["reference"], model["instead_of"]) == (V2, V3)
    assert rollback(florist, body={"undo": False}).json["main"] == V1
    answer = rollback(florist, body={"undo": True})
    assert answer.json == {"tier": "free", "main": V3, "instead_of": None, "previous": [V1], "problem": None}
    audited = [line.getMessage() for line in caplog.records if line.name == AUDIT]
    assert audited == [
        f"tier rolled back: tier=free serves={V2} instead_of={V3} by=127.0.0.1",
        f"tier rolled back: tier=free serves={V1} instead_of={V3} by=127.0.0.1",
        f"tier rollback undone: tier=free serves={V3} instead_of= by=127.0.0.1",
    ]


def test_where_there_is_nothing_to_go_back_to_nothing_changes(florist: Site) -> None:
    answer = rollback(florist, "premium")
    assert_problem(answer, 409, "no_rollback")
    assert "no model that the tier served before is left" in answer.json["detail"]
    assert_problem(rollback(florist, body={"undo": True}), 409, "no_rollback")
    assert set(florist.queue.serving().result(10)) == {"free"}


@pytest.mark.parametrize(
    ("tier", "body", "status", "code"),
    [
        ("gold", None, 404, "no_such_tier"),
        ("%00", None, 404, "no_such_tier"),
        ("free", b"[]", 400, "bad_json"),
        ("free", b"{", 400, "bad_json"),
        ("free", {"undo": "yes"}, 422, "bad_rollback"),
        ("free", {"redo": True}, 422, "bad_rollback"),
        ("free", b" " * 20_000, 413, "too_many_bytes"),
    ],
)
def test_bad_rollbacks(florist: Site, tier: str, body: Any, status: int, code: str) -> None:
    before = florist.queue.serving().result(10)
    assert_problem(rollback(florist, tier, body), status, code)
    assert florist.queue.serving().result(10) == before


def test_only_operators_roll_back(florist: Site) -> None:
    assert_problem(rollback(florist, token="wrong"), 401, "bad_admin_token")
    assert florist.ask("POST", "/v1/tiers/free/rollback").status == 404, "not on the public port"


def test_a_rollback_of_which_nobody_knows_whether_it_was_kept_is_audited(
    florist: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(florist.queue, "serve", lambda *_: failed(OutcomeUnknown("the disk is sick")))
    assert rollback(florist).status == 503
    assert "tier rolled back, unless its commit failed: tier=free by=127.0.0.1" in caplog.text
