"""The comparison with other model servers: its table, its environments, and the end of what it started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.compare import locking, serving
from benchmarks.compare.environments import python_of
from benchmarks.compare.measuring import Bare, Load, Round
from benchmarks.compare.peers import PEERS, Peer, Unavailable
from benchmarks.compare.report import render
from benchmarks.compare.serving import Work
from tests.running import ROOT, alive, listening

BARE = Bare(rate=200.0, seconds=0.010)
# A server whose child leaves its session and ignores what asks it to end.
STUBBORN = """
import http.server, os, signal, subprocess, sys
code = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setsid(); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", code])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a cat")
http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""


def seen(number: int, name: str, rate: float, p50: float, kept: int | None = None, apart: bool = False) -> Round:
    server = 0.002 if apart else None
    loads = {clients: Load(rate, p50, 0, 0.008, server) for clients in (1, 32)}
    return Round("free", number, name, BARE, kept, {**loads, 256: Load(rate * 0.9, p50, 3, 0.008, server)})


def cells(table: str, name: str) -> dict[str, str]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return dict(zip(rows[0], next(row for row in rows if row[0] == name), strict=True))


def test_the_table_has_the_medians_of_ratios_to_what_was_measured_beside() -> None:
    ours = [seen(number, "tierserve", rate, 0.012, 32, True) for number, rate in enumerate((120.0, 160.0, 200.0))]
    theirs = [seen(number, "fastapi", 160.0, 0.011) for number in range(3)]
    text = render([*ours, *theirs], {})
    mine, other = cells(text, "tierserve"), cells(text, "fastapi")
    assert mine["pictures/s, 32 clients"] == "160"
    assert mine["of two loops"] == "0.80 (0.60 to 1.00)"
    assert mine["of FastAPI"] == "1.00"
    assert mine["over the loop"] == "+2.0 ms, x 1.20"
    assert mine["256 clients of 32"] == "0.90"
    assert mine["CPU ms: server, 32 clients"] == "2.0 (0.20)"
    assert (mine["durable"], other["durable"]) == ("32 of 32", "no")
    assert other["CPU ms: server, 1 client"] == ""
    assert "tierserve, free, 256 clients: 9 answers were no 2xx" in text


def test_fastapi_is_the_faster_of_its_two_kinds_of_the_same_round() -> None:
    rounds = [seen(0, "fastapi", 100.0, 0.011), seen(0, "fastapi-threads", 200.0, 0.011)]
    text = render([*rounds, seen(0, "tierserve", 150.0, 0.011)], {})
    assert cells(text, "tierserve")["of FastAPI"] == "0.75"


def test_the_table_leaves_out_what_was_not_measured() -> None:
    one = Round("free", 0, "tierserve", BARE, 31, {1: Load(90.0, 0.012, 0, 0.008, 0.002)})
    text = render([one], {"kserve": "could not be installed: no network"})
    assert list(cells(text, "tierserve")) == [
        "server",
        "p50 ms, 1 client",
        "over the loop",
        "CPU ms: server, 1 client",
        "durable",
    ]
    assert "kserve is left out: it could not be installed: no network" in text


def test_a_server_that_cannot_be_installed_is_left_out_and_said(models: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "models").symlink_to(models.resolve())
    command = [sys.executable, "-m", "benchmarks.compare", "--models", str(state / "models"), "--peers", "litserve"]
    environment = {"XDG_CACHE_HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "uv"), "UV_OFFLINE": "1"}
    done = subprocess.run(
        [*command, "--tier", "free", "--rounds", "1"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("litserve is left out: it could not be installed: ")
    assert [path.name for path in state.iterdir()] == ["models"]


def test_an_environment_is_not_used_unless_all_of_it_was_installed(tmp_path: Path) -> None:
    needs = tmp_path / "tiny.txt"
    needs.write_text(f"tiny @ {(tmp_path / 'missing.whl').as_uri()}\n")
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"could not be installed: .*missing"):
            python_of(needs, tmp_path / "cache")


@pytest.mark.parametrize("path", sorted({peer.requirements for peer in PEERS.values()}), ids=lambda path: path.stem)
def test_every_server_has_the_engine_of_the_lock(path: Path) -> None:
    wanted = locking.pins((ROOT / "requirements.lock").read_text())
    assert {line.partition("==")[0] for line in wanted} == set(locking.ENGINE)
    assert locking.pins(path.read_text()) == wanted


def test_every_process_of_a_server_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "END_SECONDS", 1.0)
    peer = Peer("stubborn", tmp_path, ("-c", STUBBORN), path="/")
    work = Work("free", tmp_path, "model", "int8", b"picture", "a cat")
    with serving.another(peer, Path(sys.executable), work, tmp_path / "run") as server:
        port, family = server.port, server.processes()
        assert len(family) == 2
    assert [one for one in family if alive(one.pid)] == []
    assert not listening(port)


def test_a_server_that_ends_at_its_start_is_left_out_with_its_last_words(tmp_path: Path) -> None:
    peer = Peer("broken", tmp_path, ("-c", "raise SystemExit('no such model')"))
    work = Work("free", tmp_path, "model", "int8", b"picture", "a cat")
    with (
        pytest.raises(Unavailable, match="no such model"),
        serving.another(peer, Path(sys.executable), work, tmp_path / "run"),
    ):
        raise AssertionError("it did not start")
