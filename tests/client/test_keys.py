"""What operators are shown of keys, also by something that is no server of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT

TOKEN = "tsa_of-an-operator-for-tests"
KEY = {
    "id": "0123456789ab",
    "owner": "a\x1b[31mb[red]x[/]",
    "tiers": ["free"],
    "limits": {"perSecond": 2.5, "queued": 10},
    "weight": 2.0,
    "created_at": "2030-01-01T00:00:00.000Z",
    "expires_at": None,
    "revoked_at": None,
    "status": "active",
    "kept_in": "database",
}


class Stranger:
    """Gives every request the same answer, and remembers the requests."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, b"{}", {"X-Plain": "1"}
        self.asked: list[tuple[str, str, str | None, bytes]] = []
        parent = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                parent.asked.append((self.command, self.path, self.headers["Authorization"], body))
                self.send_response(parent.status)
                for name, value in parent.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(parent.body)))
                self.end_headers()
                self.wfile.write(parent.body)

            def do_GET(self) -> None:
                self.do_POST()

            def do_DELETE(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    made = Stranger()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        made.http.shutdown()
        thread.join(10)
        made.http.server_close()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


def run(stranger: Stranger, token: Path, *words: str, answer: Any = None, status: int = 0) -> tuple[str, str]:
    if answer is not None:
        stranger.body = json.dumps(answer).encode()
    where = ["--url", stranger.url, "--admin-token-file", str(token)]
    env = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "server", "keys", *words, *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=env, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout, done.stderr


def test_what_is_asked(stranger: Stranger, token: Path) -> None:
    words = ("--owner", "anna", "--tier", "free", "--tier", "premium", "--expires", "90d", "--per-second", "2.5")
    more = ("--burst", "5", "--per-day", "0", "--queued", "3", "--bytes-queued", "4", "--weight", "2")
    run(stranger, token, "create", *words, *more, answer={**KEY, "key": "tsk_x_y"})
    run(stranger, token, "rotate", "0123456789ab", "--grace", "30m", "--expires", "1d")
    run(stranger, token, "rotate", "0123456789ab")
    run(stranger, token, "revoke", "0123456789ab")
    limits = {"perSecond": 2.5, "burst": 5, "perDay": 0, "queued": 3, "bytesQueued": 4}
    terms = {"owner": "anna", "tiers": ["free", "premium"], "expires": "90d", "weight": 2.0, "limits": limits}
    path = "/v1/keys/0123456789ab"
    assert [(method, at, json.loads(body or b"null")) for method, at, _, body in stranger.asked] == [
        ("POST", "/v1/keys", terms),
        ("POST", f"{path}/rotate", {"grace": 1800, "expires": "1d"}),
        ("POST", f"{path}/rotate", {"grace": 86400}),
        ("DELETE", path, None),
    ]
    assert {given for _, _, given, _ in stranger.asked} == {f"Bearer {TOKEN}"}


def test_what_a_server_says_cannot_steer_the_terminal(stranger: Stranger, token: Path) -> None:
    shown, _ = run(stranger, token, "list", answer={"keys": [KEY]})
    for word in (r"a\x1b[31mb[red]x[/]", "never", "perSecond=2.5 queued=10"):
        assert word in shown
    _, said = run(stranger, token, "revoke", KEY["id"], answer=KEY)  # type: ignore[arg-type]
    assert r"a\x1b[31mb" in said
    shown, said = run(stranger, token, "create", "--owner", "a", "--tier", "b", answer={**KEY, "key": "a\x1bb"})
    assert shown == "a\\x1bb\n"
    assert "never ends" in said


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"5", b"null", b'"code"', b"{}", b'{"code": 5}', b"\xff"])
def test_what_is_no_answer_of_a_server_is_said_to_be_none(stranger: Stranger, token: Path, body: bytes) -> None:
    stranger.body = body
    for words in (("list",), ("create", "--owner", "a", "--tier", "b")):
        _, said = run(stranger, token, *words, status=1)
        assert "Error: " in said
        assert "as a server" in said


def test_the_token_is_not_sent_on(stranger: Stranger, token: Path) -> None:
    stranger.status, stranger.headers = 302, {"Location": f"{stranger.url}/elsewhere"}
    run(stranger, token, "list", status=1)
    assert [path for _, path, _, _ in stranger.asked] == ["/v1/keys"]
