"""What the commands show is what the server and the owner of a picture wrote, and cannot steer the terminal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from client import console

STRANGE = "[red]x[/] [/y] :rose: \\"
ESCAPES = "a\x1b[31mb\x07\nc"
SHOWN_ESCAPES = r"a\x1b[31mb\x07\nc"


class Server:
    """Gives every request the same answer."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}
        parent = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def do_GET(self) -> None:
                body = json.dumps(parent.answer).encode()
                self.send_response(200)
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
    console.classify(server.url, "free", [picture], 1, 1, as_json=False)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("label", "shown"),
    [(STRANGE, STRANGE), (ESCAPES, SHOWN_ESCAPES), ("蒲公英 🌼", "蒲公英 🌼"), ("\ud800", r"\ud800")],
)
def test_a_label_is_shown_as_it_is(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], label: str, shown: str
) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"x")
    labels = [{"label": label, "score": 0.5}]
    server.answer = {
        "status": "succeeded",
        "model": "flowers@3f9a2c81",
        "results": [{"labels": labels}],
        "metrics": {"predict_ms": 2.0},
    }
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


def test_a_tier_s_words_are_shown_as_they_are(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    tier = {
        "name": "free",
        "model": {"name": "flowers", "version": "3f9a2c81", "variant": "int8", "classes": 3},
        "queued": 0,
        "workers": 0,
        "room": 0,
        "quota": {},
        "wait_seconds": {"p50": None},
        "reason": f"{STRANGE} {ESCAPES}",
    }
    server.answer = {"tiers": [tier]}
    console.tiers(server.url, as_json=False)
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"{STRANGE} {SHOWN_ESCAPES}" in shown
