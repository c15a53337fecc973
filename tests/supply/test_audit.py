"""The audit tells apart: no known hole, a hole, and not having been able to ask."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.supply.audit import CLEAN, HOLES, UNKNOWN, audit

HOLE = {
    "id": "XYZ-2025-1",
    "summary": "reads too far",
    "affected": [
        {
            "package": {"name": "holey", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
    ],
}
Answer = Callable[[str], tuple[int, Any]]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text("".join(f"{name}==1.0 \\\n    --hash=sha256:{'0' * 64}\n" for name in ("holey", "whole")))
    return path


@contextmanager
def database(answer: Answer) -> Iterator[list[str]]:
    """The options with which pip-audit asks a database of advisories that answers each package with status and JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = answer(asked["package"]["name"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name of the overridden one)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield ["-s", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query"]
        finally:
            server.shutdown()
            thread.join()


def test_a_known_hole_is_named_with_the_version_that_has_none(lock: Path) -> None:
    with database(lambda name: (200, {"vulns": [HOLE]} if name == "holey" else {})) as options:
        assert audit(lock, options) == (
            HOLES,
            ["holey 1.0: XYZ-2025-1, fixed in 1.1", "2 packages were audited; known holes: 1"],
        )


def test_packages_without_known_holes_pass(lock: Path) -> None:
    with database(lambda name: (200, {})) as options:
        assert audit(lock, options) == (CLEAN, ["2 packages were audited; known holes: 0"])


@pytest.mark.parametrize("status", [403, 500])
def test_a_database_that_refuses_is_no_clean_audit(lock: Path, status: int) -> None:
    with database(lambda name: (status, {})) as options:
        found, lines = audit(lock, options)
    assert found == UNKNOWN
    assert lines[0].startswith("nothing was audited, no database of advisories can be reached from here: ")


def test_a_database_that_is_away_is_no_clean_audit(lock: Path) -> None:
    with database(lambda name: (200, {})) as options:
        pass
    found, lines = audit(lock, options)
    assert found == UNKNOWN
    assert len(lines) == 1
    assert "nothing was audited" in lines[0]
