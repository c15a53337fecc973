"""Models as an operator pushes, names, pulls and removes them, with the command and a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.access import Operator
from tests.faults.proxy import Proxy
from tests.pushable import giving_nan, pushable
from tests.running import ROOT, Service, service
from tests.service.conftest import PAUSED
from tests.waiting import eventually

LITE0 = "tf_efficientnet_lite0"
COMMAND = [sys.executable, "-m", "server", "model"]
BOTH = [("onnx", "fp32"), ("onnx", "int8")]


def run(*words: str | Path, status: int = 0, env: dict[str, str] | None = None, limit: str = "") -> tuple[str, str]:
    """What ``tierserve model`` prints, on standard output and standard error; ``limit`` is an option of ulimit."""
    env = {**os.environ, "COLUMNS": "160", "PYTHONPATH": str(ROOT), **(env or {})}
    command = [*COMMAND, *map(str, words)]
    if limit:
        command = ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT, env=env, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(models, tmp_path_factory.mktemp("state"), PAUSED) as found:
        yield found


@pytest.fixture
def state(served: Service) -> Iterator[tuple[str, str]]:
    """The options that name the server; models that a test leaves are removed."""
    options = ("--state", str(served.state))
    yield options
    for model in listed(served):
        if not model["used_by"]:
            run("rm", model["reference"], *options)


def operator(served: Service) -> Operator:
    return Operator(served.internal_port, served.state / "admin-token")


def listed(served: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = operator(served).ask("GET", "/v1/models").json["models"]
    return found


@pytest.fixture
def stand_in(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """The file that runs in the place of ``python -m model``, and the environment in which it does."""
    (tmp_path / "other" / "model").mkdir(parents=True)
    (tmp_path / "other" / "model" / "__init__.py").touch()
    return tmp_path / "other" / "model" / "__main__.py", {"PYTHONPATH": f"{tmp_path / 'other'}:{ROOT}"}


def test_a_model_is_pushed_named_shown_pulled_and_removed(
    served: Service, state: tuple[str, str], models: Path, tmp_path: Path
) -> None:
    made = pushable(models / LITE0, tmp_path / "built", variants=BOTH, label="Gänseblümchen 雛菊")
    reference = made.name
    told, said = run("push", made, "--tag", "stable", *state)
    assert f"{reference} is in the store" in told
    assert f"flowers@stable is {reference}" in told
    assert f"--set tiers.TIER.model.name={reference}" in said
    (shown,) = listed(served)
    assert (shown["reference"], shown["tags"], shown["latest"]) == (reference, ["stable"], True)
    told, _ = run("list", *state)
    for word in (reference, "flowers, @stable", "23.6 MB", "1000", "onnx/fp32, onnx/int8"):
        assert word in told
    assert "flowers@best is" in run("tag", "flowers@stable", "best", *state)[0]
    told, said = run("show", "flowers@best", *state)
    agreement = json.loads((made / "model.json").read_bytes())["variants"][1]["measured"]["agreement"]
    for word in (reference, "model-int8.onnx", "18.5 MB", f"{agreement:.1%}"):
        assert word in told
    record = json.loads(run("show", "flowers", "--json", *state)[0])["record"]
    assert record["labels"][3] == "Gänseblümchen 雛菊 3"
    folder = tmp_path / "pulled"
    assert "is there now" in run("pull", "flowers@best", folder, *state)[0]
    assert "was there already" in run("pull", "flowers", folder, *state)[0]
    assert sorted(path.name for path in folder.iterdir()) == ["flowers", reference]
    assert json.loads((folder / "flowers" / "model.json").read_text("utf-8")) == record
    assert reference in run("list", "--models", folder)[0]
    assert run("push", folder / "flowers", "--json", *state)[0].count('"new": false') == 1
    assert "is removed" in run("rm", reference, *state)[1]
    assert listed(served) == []
    log = served.log.read_text()
    for line in ("model pushed tags=stable", "model tagged tags=best", "model removed"):
        assert f"{line}: reference={reference} by=127.0.0.1" in log


def test_a_file_that_the_server_has_is_not_sent_again(
    served: Service, state: tuple[str, str], models: Path, tmp_path: Path
) -> None:
    first = pushable(models / LITE0, tmp_path, "roses", label="rose")
    second = pushable(models / LITE0, tmp_path, "roses", label="other rose")
    run("push", first, *state)
    told = json.loads(run("push", second, "--json", *state)[0])
    assert (told["new"], told["sent_bytes"]) == (True, 0)
    assert [(model["reference"], model["latest"]) for model in listed(served)] == [
        (first.name, False),
        (second.name, True),
    ]


def test_two_pushes_of_one_model_at_once_make_one_model(
    served: Service, state: tuple[str, str], models: Path, tmp_path: Path
) -> None:
    made = pushable(models / LITE0, tmp_path, "twins", change=lambda graph: graph + b"\x32\x04twin")  # a doc_string
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda tag: run("push", made, "--tag", tag, *state), ("left", "right")))
    assert all(f"{made.name} " in out for out, _ in told)
    (model,) = listed(served)
    assert (model["reference"], model["tags"]) == (made.name, ["left", "right"])


def test_only_the_named_variants_are_tried_and_the_others_are_told(
    state: tuple[str, str], models: Path, tmp_path: Path
) -> None:
    made = pushable(models / LITE0, tmp_path, variants=[*BOTH, ("timm", "fp32")])
    assert "has no variant onnx/int4; it has onnx/fp32" in run("push", made, "--try", "onnx/int4", *state, status=1)[1]
    _, said = run("push", made, "--try", "onnx/int8", *state)
    assert "not tried here, but by each worker that loads it: onnx/fp32, timm/fp32" in said


def test_a_model_that_gives_nan_is_not_put_into_the_store(
    served: Service, state: tuple[str, str], models: Path, tmp_path: Path
) -> None:
    made = pushable(models / LITE0, tmp_path, change=giving_nan)
    said = run("push", made, *state, status=1)[1]
    assert f"failed: {made.name} fails on a made picture. It gives logits that are not finite numbers" in said
    assert listed(served) == []


def test_a_model_that_crashes_is_not_put_into_the_store(
    served: Service, state: tuple[str, str], models: Path, tmp_path: Path, stand_in: tuple[Path, dict[str, str]]
) -> None:
    stand_in[0].write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    said = run("push", pushable(models / LITE0, tmp_path), *state, status=1, env=stand_in[1])[1]
    assert "onnx/int8 was tried as a worker runs it, and crashed (SIGSEGV)" in said
    assert listed(served) == []


def test_an_interrupt_leaves_no_model_and_no_process(
    served: Service, state: tuple[str, str], models: Path, tmp_path: Path, stand_in: tuple[Path, dict[str, str]]
) -> None:
    stand_in[0].write_text("import time; time.sleep(100)")
    command = [*COMMAND, "push", str(pushable(models / LITE0, tmp_path)), *state]
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **stand_in[1]}
        ) as pushing:
            (trial,) = eventually(lambda: psutil.Process(pushing.pid).children(), 60, "the trial")
            pushing.send_signal(number)
            _, said = pushing.communicate(timeout=60)
        assert pushing.returncode == 130
        assert said.splitlines()[-1].startswith("stopped: a model that tierserve model list does not show")
        assert not trial.is_running()
    assert listed(served) == []


def test_a_push_goes_on_when_the_connection_is_cut(
    served: Service, state: tuple[str, str], models: Path, tmp_path: Path
) -> None:
    made = pushable(models / LITE0, tmp_path)
    token = ("--admin-token-file", str(served.state / "admin-token"))
    with Proxy(served.internal_port, 7) as proxy:
        proxy.cutting = True
        command = [*COMMAND, "push", str(made), "--url", f"http://127.0.0.1:{proxy.port}", *token]
        # The first requests may be cut, too: then it is said that no server answers, and nothing is kept.
        for _ in range(20):
            done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT, check=False)
            assert done.returncode in (0, 1)
            if done.returncode == 0:
                break
            assert "no server answers at" in done.stderr
            proxy.cutting = False
    assert [model["reference"] for model in listed(served)] == [made.name]


def test_what_goes_wrong_names_the_next_step(
    served: Service, state: tuple[str, str], models: Path, tmp_path: Path
) -> None:
    made = pushable(models / LITE0, tmp_path / "built")
    run("push", made, *state)
    wrong = tmp_path / "token"
    wrong.write_text("tsa_this-is-of-another-server")
    for words, hint in (
        (("push", tmp_path / "nowhere", *state), "tierserve model list --models"),
        (("push", made, "--tag", "0123abcd", *state), "tag"),
        (("push", made, "--tag", "a b", *state), "tag"),
        (("push", made, "--state", tmp_path / "nowhere"), "--admin-token-file"),
        (("push", made, "--admin-token-file", wrong, *state), "bad_admin_token"),
        (("push", made, "--url", "http://127.0.0.1:1", *state), "make run"),
        (("push", made, "--url", f"http://127.0.0.1:{served.port}", *state), "--admin-token-file"),
        (("list", "--url", "http://127.0.0.1:1", *state), "make run"),
        (("list", "--url", f"http://127.0.0.1:{served.port}", *state), "--admin-token-file"),
        (("list", "--models", tmp_path, "--json"), "leave out --models"),
        (("show", "tulips", *state), "tierserve model list"),
        (("show", "flowers@nix", *state), made.name),
        (("show", "../keys", *state), "no_such_model"),
        (("tag", "flowers@nix", "best", *state), made.name),
        (("tag", "flowers", "0123abcd", *state), "a tag has"),
        (("pull", "flowers@nix", tmp_path / "new", *state), made.name),
        (("rm", "flowers", *state), "NAME@VERSION"),
        (("rm", "flowers@00000000", *state), made.name),
    ):
        _, said = run(*words, status=1)
        assert "Error: " in said, words
        assert hint in said, words
    assert not (tmp_path / "new").exists()


def test_a_file_that_changes_on_the_way_and_a_full_disk_leave_no_folder(
    served: Service, state: tuple[str, str], models: Path, tmp_path: Path
) -> None:
    made = pushable(models / LITE0, tmp_path / "built")
    run("push", made, *state)
    folder = tmp_path / "pulled"
    assert "cannot be written: File too large" in run("pull", "flowers", folder, *state, status=1, limit="-f 1000")[1]
    digest = json.loads((made / "model.json").read_text("utf-8"))["variants"][0]["sha256"]
    (kept,) = (path for path in served.state.rglob("*") if path.name.endswith(digest[-32:]))
    data = kept.read_bytes()
    kept.chmod(0o600)
    kept.write_bytes(data[:-1] + b"?")
    try:
        assert "does not match its checksum" in run("pull", "flowers", folder, *state, status=1)[1]
    finally:
        kept.write_bytes(data)
    assert list(folder.iterdir()) == []


def test_a_model_that_is_too_large_is_refused_with_the_limit(models: Path, tmp_path: Path) -> None:
    made = pushable(models / LITE0, tmp_path / "built")
    with service(models, tmp_path / "state", [*PAUSED, "server.models.modelBytes=1000000"]) as small:
        said = run("push", made, "--state", small.state, status=1)[1]
        assert "model_too_large" in said
        assert "1000000" in said
        assert listed(small) == []


def test_a_tier_follows_its_tag_and_is_rolled_back_and_forth(models: Path, tmp_path: Path) -> None:
    first, second = (pushable(models / LITE0, tmp_path / label, label=label) for label in ("rose", "tulip"))
    with service(models, tmp_path / "state", [*PAUSED, "tiers.free.model.name=flowers@stable"]) as found:
        state = ("--state", found.state)

        def serves(reference: str) -> None:
            def now() -> bool:
                return bool(found.get("/v1/tiers/free").json["model"]["reference"] == reference)

            eventually(now, 30, f"the tier serves {reference}")

        assert "there is no tier 'gold'; the tiers are free, premium" in run("rollback", "gold", *state, status=1)[1]
        run("push", first, "--tag", "stable", *state)
        serves(first.name)
        assert "no model that the tier served before is left" in run("rollback", "free", *state, status=1)[1]
        assert "was not rolled back" in run("rollback", "free", "--undo", *state, status=1)[1]
        run("push", second, *state)
        serves(first.name)
        run("tag", "flowers", "stable", *state)
        serves(second.name)
        told, said = run("rollback", "free", *state)
        assert told == f"free serves {first.name}\n"
        assert f"in place of {second.name}" in said
        assert "tierserve model rollback free --undo" in said
        serves(first.name)
        for reference in (first.name, second.name):
            said = run("rm", reference, *state, status=1)[1]
            assert f"model_in_use: {reference} is used by free" in said
        assert run("rollback", "free", "--undo", *state) == (f"free serves {second.name}\n", "")
        serves(second.name)
        run("rm", first.name, *state)
        assert first.name not in run("list", *state)[0]
