"""Keys as an operator uses them: with commands, on one server and on two, and over restarts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT, Service, service
from tests.service.conftest import PAUSED

ANNA = ("--owner", "anna", "--tier", "free")


def run(*words: str, status: int = 0, cwd: Path = ROOT) -> tuple[str, str]:
    """What ``tierserve keys`` prints, on standard output and standard error."""
    env = {**os.environ, "COLUMNS": "160", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "server", "keys", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, env=env, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def create(*words: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(run("create", "--json", *words)[0])
    return made


def secret_of(key: str) -> str:
    return key.rpartition("_")[2]


@pytest.fixture
def alone(models: Path, tmp_path: Path) -> Iterator[Service]:
    with service(models, tmp_path / "state", PAUSED) as found:
        yield found


def test_an_operator_makes_lists_rotates_and_revokes_keys(alone: Service) -> None:
    state = ("--state", str(alone.state))
    key, said = run(
        "create", *ANNA, "--tier", "premium", "--expires", "90d", "--per-day", "100", "--weight", "2", *state
    )
    key_id = key.split("_")[1]
    assert key.startswith("tsk_")
    assert key.count("\n") == 1
    assert f"The key {key_id} of anna opens free, premium and ends at " in said
    for words in (("list",), ("show", key_id)):
        shown, _ = run(*words, *state)
        for word in (key_id, "anna", "free, premium", "active", "perDay=100"):
            assert word in shown
        assert secret_of(key.strip()) not in shown
    assert [one["id"] for one in json.loads(run("list", "--json", *state)[0])] == [key_id]
    rotated = json.loads(run("rotate", key_id, "--grace", "1h", "--json", *state)[0])
    assert (rotated["owner"], rotated["limits"], rotated["replaces"]["id"]) == ("anna", {"perDay": 100}, key_id)
    _, said = run("revoke", rotated["id"], *state)
    assert f"The key {rotated['id']} of anna is revoked" in said
    assert {one["id"]: one["status"] for one in json.loads(run("list", "--json", *state)[0])} == {
        key_id: "active",
        rotated["id"]: "revoked",
    }
    log = alone.log.read_text()
    assert f"key created: id={key_id} owner=anna tiers=free,premium" in log
    assert f"key revoked: id={rotated['id']} owner=anna" in log
    written = b"".join(file.read_bytes() for file in alone.state.rglob("*") if file.is_file())
    for text in (key.strip(), rotated["key"]):
        assert secret_of(text).encode() not in written


def test_what_goes_wrong_names_the_next_step(alone: Service, tmp_path: Path) -> None:
    state = ("--state", str(alone.state))
    key = create(*ANNA, *state)["key"]
    for words, hint in (
        (("create", "--owner", "anna", "--tier", "gold", *state), "the tiers are free, premium"),
        (("create", *ANNA, "--expires", "soon", *state), "90d"),
        (("create", *ANNA, "--weight", "0", *state), "weight"),
        (("create", *ANNA, "--queued", "-1", *state), "queued"),
        (("show", "0" * 12, *state), "tierserve keys list"),
        (("show", key, *state), f"tierserve keys revoke {key.split('_')[1]}"),
        (("revoke", "anna", *state), "tierserve keys list"),
        (("rotate", "0" * 12, "--grace", "long", *state), "--grace"),
        (("list", "--state", str(tmp_path / "nowhere")), "--admin-token-file"),
        (("list", "--url", "http://127.0.0.1:1", *state), "make run"),
        (("list", "--url", f"http://127.0.0.1:{alone.port}", *state), "--admin-token-file"),
    ):
        _, said = run(*words, status=1)
        assert "Error: " in said
        assert hint in said
        assert secret_of(key) not in said
    wrong = tmp_path / "token"
    wrong.write_text("not-the-admin-token-of-that-server")
    _, said = run("list", "--admin-token-file", str(wrong), *state, status=1)
    assert "bad_admin_token" in said
    assert "not-the-admin-token" not in said
