"""What the commands show is what the server and the owner of a picture wrote, and cannot steer the terminal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.answers import prediction, succeeded
from tierserve import classifying, console
from tierserve.errors import TierserveError
from tierserve.files import Found
from tierserve.target import Target

STRANGE = "[red]x[/] [/y] :rose: \\"
ESCAPES = "a\x1b[31mb\x07\nc"
SHOWN_ESCAPES = r"a\x1b[31mb\x07\nc"


class Server:
    """Gives every request the same answer, but the first ones those in ``before``, and notes what was asked."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}
        self.before: list[dict[str, Any]] = []
        self.status, self.headers = 200, dict[str, str]()
        self.asked: list[tuple[str, Message]] = []
        parent = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def do_GET(self) -> None:
                parent.asked.append((self.path, self.headers))
                body = json.dumps(parent.before.pop(0) if parent.before else parent.answer).encode()
                self.send_response(parent.status)
                for name, value in parent.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("COLUMNS", "200")
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        made.http.shutdown()
        thread.join(10)
        made.http.server_close()


def classified(server: Server, picture: Path, capsys: pytest.CaptureFixture[str]) -> str:
    classifying.classify(Target(server.url), Found([picture], {}), "free", 1, 1, as_json=False)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("label", "shown"),
    [(STRANGE, STRANGE), (ESCAPES, SHOWN_ESCAPES), ("蒲公英 🌼", "蒲公英 🌼"), ("\ud800", r"\ud800")],
)
def test_a_label_is_shown_as_it_is(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], label: str, shown: str
) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"x")
    server.answer = succeeded(label=label)
    assert f" {shown} " in classified(server, tmp_path / "cat.jpg", capsys)


def test_a_problem_and_the_name_of_a_file_are_shown_as_they_are(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "[b]\x1b.jpg"
    picture.write_bytes(b"x")
    server.answer = {"code": "image_broken", "detail": f"{STRANGE} {ESCAPES}"}
    shown = classified(server, picture, capsys)
    assert r"[b]\x1b.jpg" in shown
    assert f"image_broken: {STRANGE} {SHOWN_ESCAPES}" in shown


def tier(name: str, model: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    plain = {"name": "flowers", "reference": "flowers@3f9a2c81", "variant": "int8", "classes": 3}
    none = {"canary": None, "instead_of": None, "problem": None}
    return {
        "name": name,
        "model": {**plain, **none, **model},
        "queued": 0,
        "predicting": 0,
        "starting": 0,
        "workers": 0,
        "room": 0,
        "quota": {},
        "wait_seconds": {"p50": None},
        "reason": reason,
    }


def shown_tiers(server: Server, capsys: pytest.CaptureFixture[str], *tiers: dict[str, Any]) -> str:
    server.answer = {"tiers": list(tiers)}
    console.tiers(Target(server.url), as_json=False)
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_tier_s_words_are_shown_as_they_are(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{STRANGE} {ESCAPES}"
    shown = shown_tiers(server, capsys, tier("free", {}, words), tier("premium", {"problem": f"nothing: {words}"}))
    assert f"free: {STRANGE} {SHOWN_ESCAPES}" in shown
    assert f"premium: nothing: {STRANGE} {SHOWN_ESCAPES}" in shown
    assert "flowers@3f9a2c81" in shown


def test_a_tier_that_was_rolled_back_says_how_to_undo_it(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_tiers(server, capsys, tier("free", {"instead_of": "flowers@aaaaaaaa"}), tier("premium", {}))
    assert "free: it was rolled back to flowers@3f9a2c81. To serve flowers@aaaaaaaa again: " in shown
    assert "tierserve model rollback free --undo" in shown
    assert "rollback premium" not in shown


def test_a_canary_is_shown_below_the_model_of_its_tier(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    measured = {"pictures": 950, "failed": 2, "low_confidence": 0.125, "p50_ms": 8.0, "p95_ms": 12.34}
    nothing = {"pictures": 0, "failed": 0, "low_confidence": None, "p50_ms": None, "p95_ms": None}
    canary = {"name": "flowers@new", "reference": "flowers@aaaaaaaa", "percent": 5, "live": True, "measured": nothing}
    shown = shown_tiers(server, capsys, tier("free", {"canary": canary, "measured": measured}), tier("premium", {}))
    assert "free flowers@3f9a2c81 95 % 950 2 12.5% 8 12.3 flowers@aaaaaaaa 5 % 0 0" in shown
    canary |= {"live": False, "reference": None, "measured": None}
    shown = shown_tiers(server, capsys, tier("free", {"canary": canary, "measured": measured}))
    assert "flowers@3f9a2c81 100 % 950" in shown
    assert "flowers@new 0 %" in shown


def test_what_tiers_borrow_and_lend_is_shown_if_there_is_a_capacity(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    borrows = {"share": 0.3333, "used": 0.675, "borrowed": 0.3417, "lent": 0, "recalled": 1}
    lends = {"share": 0.6667, "used": 0.225, "borrowed": 0, "lent": 0.3417, "recalled": 0}
    free, premium = tier("free", {}) | {"lending": borrows}, tier("premium", {}) | {"lending": lends}
    shown = shown_tiers(server, capsys, free, premium, tier("new", {}) | {"lending": None})
    assert "free 33.3 % 67.5 % 34.2 % 0 % 1 premium 66.7 % 22.5 % 0 % 34.2 % 0" in shown
    assert "borrowed" not in shown_tiers(server, capsys, tier("free", {}) | {"lending": None}, tier("premium", {}))


def test_predictions_are_shown_page_by_page(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    error = {"code": f"image_broken {ESCAPES}", "detail": ""}
    ended = prediction("p1", status="failed", error=error, metrics={"total_ms": 12.3})
    server.before = [{"predictions": [ended] * 100, "next_cursor": "c+"}]
    server.answer = {"predictions": [prediction("p2")], "next_cursor": None}
    console.predictions(Target(server.url), 120, {"status": "failed"}, as_json=False)
    shown = capsys.readouterr().out
    assert [path for path, _ in server.asked] == [
        "/v1/predictions?status=failed&limit=100",
        "/v1/predictions?status=failed&limit=20&cursor=c%2B",
    ]
    assert "2030-01-31 12:00:00 free queued" in " ".join(shown.split())
    assert f"image_broken {SHOWN_ESCAPES}" in shown
    assert shown.count(" p1") == 100


def test_predictions_in_json_are_those_of_the_answer(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer = {"predictions": [prediction("p1")], "next_cursor": "more"}
    console.predictions(Target(server.url), 1, {}, as_json=True)
    assert json.loads(capsys.readouterr().out) == [prediction("p1")]


def test_a_key_is_sent_with_every_request_and_to_nobody_else(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"x")
    server.answer = {"code": "image_broken", "detail": "", "tiers": [], "predictions": [], "next_cursor": None}
    target = Target(server.url.replace("//", "//somebody:password@"), "tsk_a_b")
    classifying.classify(target, Found([tmp_path / "cat.jpg"], {}), "free", 1, 1, as_json=False)
    for ask in (console.tiers, lambda target, as_json: console.predictions(target, 1, {}, as_json)):
        with pytest.raises(TierserveError, match="image_broken"):
            ask(target, as_json=True)
    assert [(headers["X-API-Key"], headers["Authorization"][:6]) for _, headers in server.asked] == [
        ("tsk_a_b", "Basic ")
    ] * 3
    server.status, server.headers = 302, {"Location": f"{server.url}/elsewhere"}
    server.asked.clear()
    with pytest.raises(TierserveError):
        console.tiers(target, as_json=True)
    assert [path for path, _ in server.asked] == ["/v1/tiers"]
    assert "tsk_a_b" not in repr(target)


def test_without_a_key_none_is_sent(server: Server) -> None:
    server.answer = {"tiers": []}
    console.tiers(Target(server.url), as_json=True)
    assert "X-API-Key" not in server.asked[0][1]


def test_a_list_without_a_key_says_where_to_put_one(server: Server) -> None:
    server.answer = {"code": "key_missing", "detail": "only owners of keys have a list"}
    with pytest.raises(
        TierserveError, match=r"key_missing: only owners of keys have a list. Put the key .* TIERSERVE_KEY"
    ):
        console.predictions(Target(server.url), 1, {}, as_json=False)


def test_a_limit_that_lasts_for_hours_is_shown_and_not_waited_for(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"x")
    server.status, server.headers = 429, {"Retry-After": "7200"}
    server.answer = {"code": "day_limit", "detail": "100 of 100 pictures are used"}
    assert "day_limit: 100 of 100" in classified(server, tmp_path / "cat.jpg", capsys)
