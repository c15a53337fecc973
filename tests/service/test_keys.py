"""Keys as an operator uses them: with commands, on one server and on two, and over restarts."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import Postgres, need_postgres
from tests.running import ROOT, Answer, Client, Service, service
from tests.service.conftest import PAUSED
from tests.waiting import eventually

REVOKED_SECONDS = 2.0
REFUSED = frozenset({401, 429})  # with 429 after many wrong keys from this address
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


def ask(server: Service, key: str) -> Answer:
    """Use a key."""
    return server.ask("GET", "/v1/predictions", None, {"Authorization": f"Bearer {key}"})


def secret_of(key: str) -> str:
    return key.rpartition("_")[2]


@pytest.fixture
def alone(models: Path, tmp_path: Path) -> Iterator[Service]:
    with service(models, tmp_path / "state", PAUSED) as found:
        yield found


@pytest.fixture
def pair(models: Path, tmp_path: Path) -> Iterator[list[Service]]:
    """Two servers on one PostgreSQL, with one pepper."""
    need_postgres()
    pepper = tmp_path / "pepper"
    pepper.write_text("a-pepper-for-both-of-these-servers")
    with Postgres() as postgres, ExitStack() as stack:
        options = ["--database", postgres.url, "--blobs", str(tmp_path / "blobs"), "--pepper-file", str(pepper)]
        names = ("first", "second")
        yield [stack.enter_context(service(models, tmp_path / name, PAUSED, options=options)) for name in names]


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


def test_the_files_of_secrets_are_for_the_server_alone_and_survive_it(models: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with service(models, state, PAUSED):
        before = {name: (state / name).read_text() for name in ("pepper", "admin-token")}
        for name in (*before, "internal-url"):
            assert stat.S_IMODE((state / name).stat().st_mode) == 0o600
        key = create(*ANNA, "--state", str(state))["key"]
    with service(models, state, PAUSED) as again:
        assert {name: (state / name).read_text() for name in before} == before
        assert ask(again, key).status == 200
        shown = [
            again.get("/config"),
            again.get("/v1/tiers"),
            again.get("/readyz"),
            Client(again.internal_port).get("/metrics"),
        ]
        log = again.log.read_text()
        for secret in (secret_of(key), *(text.strip() for text in before.values())):
            assert secret not in log
            assert all(secret.encode() not in answer.body for answer in shown)
    (state / "pepper").write_text("quite-another-pepper-than-before")
    with pytest.raises(RuntimeError, match="status 1"), service(models, state, PAUSED):
        pass
    assert "--pepper-file" in (state / "server.log").read_text()


def test_every_server_refuses_a_revoked_key_within_two_seconds(pair: list[Service]) -> None:
    first, second = pair
    made = [create(*ANNA, "--state", str(first.state)) for _ in range(2)]
    for one in made:
        assert ask(first, one["key"]).status == 200
        eventually(lambda: ask(second, one["key"]).status, REVOKED_SECONDS, "it is known", lambda found: found == 200)  # noqa: B023
    revoking = Client(second.internal_port)
    token = (second.state / "admin-token").read_text().strip()
    began = time.monotonic()
    answer = revoking.ask("DELETE", f"/v1/keys/{made[0]['id']}", None, {"Authorization": f"Bearer {token}"})
    assert (answer.status, answer.json["status"]) == (200, "revoked")
    assert ask(second, made[0]["key"]).status in REFUSED
    eventually(lambda: ask(first, made[0]["key"]).status, REVOKED_SECONDS, "it is refused", REFUSED.__contains__)
    assert time.monotonic() - began < REVOKED_SECONDS + 0.5
    assert ask(first, made[1]["key"]).status == 200


def test_a_file_of_hashed_keys_is_made_without_a_server_and_followed(models: Path, tmp_path: Path) -> None:
    pepper, folder = tmp_path / "pepper", tmp_path / "keys"
    pepper.write_text("that-of-those-who-keep-all-in-Git")
    folder.mkdir()
    made = json.loads(run("create", *ANNA, "--pepper-file", str(pepper), "--json", cwd=tmp_path)[0])
    text, said = run("create", "--owner", "bert", "--tier", "free", "--pepper-file", str(pepper), cwd=tmp_path)
    second, record = text.splitlines()
    assert "file of hashed keys" in said
    with service(
        models, tmp_path / "state", PAUSED, options=["--pepper-file", str(pepper), "--keys-file", str(folder)]
    ) as found:
        assert ask(found, made["key"]).json["code"] == "key_unknown"
        (folder / "anna.yaml").write_text(json.dumps({"keys": [made["record"]]}))
        (folder / "bert.yaml").write_text(f"keys:\n{record}\n")
        for key in (made["key"], second):
            eventually(lambda: ask(found, key).status, 5, "it is taken", lambda status: status == 200)  # noqa: B023
        (folder / "anna.yaml").unlink()
        eventually(lambda: ask(found, made["key"]).status, 5, "it is refused", REFUSED.__contains__)
        assert ask(found, second).status == 200
        assert f"key removed: id={made['record']['id']} owner=anna" in found.log.read_text()
