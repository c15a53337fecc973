"""A worker process and its model: from its folder or from the server, tried before it asks for work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from model.description import Model, read_model
from tests.model.channel_server import Server, Visit, serving
from tests.model.pictures import PICTURES
from tests.pushable import giving_nan, pushable
from tests.waiting import eventually

CAT = (PICTURES / "cat.jpg").read_bytes()
SECONDS = 60.0
RUN = """
import sys
import model.fetch
model.fetch.TRY_SECONDS = 1.0
import model.__main__
sys.exit(model.__main__.main())
"""


@pytest.fixture
def flowers(models: Path, tmp_path: Path) -> Model:
    """A model of the test's own."""
    return read_model(pushable(models / "tf_efficientnet_lite0", tmp_path / "made", label="flower"))


@pytest.fixture
def tmp(tmp_path: Path) -> Path:
    """Where the worker keeps what it fetches."""
    found = tmp_path / "tmp"
    found.mkdir()
    return found


def fetched(tmp: Path) -> list[Path]:
    """What lies there of models; ONNX Runtime leaves a small file of its own."""
    return list(tmp.glob("tierserve-model-*"))


@pytest.fixture
def server(tmp: Path) -> Iterator[Server]:
    def visit(visit: Visit) -> tuple[list[Path], dict[str, object]]:
        """Give the worker a picture; return what then lies in its folder, and its result."""
        visit.say(renew=60, lost=[])
        visit.give("cat", picture=CAT)
        (result,) = visit.hear_of("completions")
        lies = fetched(tmp)
        visit.say(outcomes=[["cat", "accepted"]])
        visit.end()
        return lies, result

    with serving(visit) as found:
        yield found


def offer(server: Server, model: Model) -> None:
    """Let the server have a model."""
    (variant,) = model.variants
    server.has[f"/work/models/{model.reference}"] = (model.path / "model.json").read_bytes()
    server.has[f"/work/model-files/{variant.sha256}"] = (model.path / variant.file).read_bytes()


def worker(
    server: str, tmp: Path, models: Path, *words: str, begin: Sequence[str] = ("-m", "model")
) -> subprocess.Popen[str]:
    environment = {**os.environ, "TIERSERVE_SERVER": server, "TIERSERVE_TOKEN": "token", "TMPDIR": str(tmp)}
    command = [sys.executable, *begin, "work", "--models", str(models), "--variant", "int8", *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the worker; return its exit status and its last words."""
    try:
        _, said = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
    return process.returncode, said.strip().splitlines()[-1]


def named(model: Model) -> list[str]:
    return ["--model", model.reference, "--digest", model.digest]


def test_a_model_that_the_server_has_is_fetched_and_leaves_no_file(server: Server, flowers: Model, tmp: Path) -> None:
    offer(server, flowers)
    status, said = ended(worker(server.url, tmp, tmp / "none", *named(flowers), "--idle", "1"))
    assert (status, said) == (0, "ended: idle for 1 s")
    lies, result = cast(tuple[list[Path], dict[str, Any]], server.result())
    assert lies == []
    assert result["model"] == flowers.reference
    assert result["results"][0]["labels"][0]["label"].startswith("flower ")
    tokens = [request.headers["Authorization"] for request in server.requests]
    assert tokens == ["Bearer token"] * 3


def test_a_model_of_the_folder_is_used_from_there(server: Server, flowers: Model, tmp: Path) -> None:
    status, _ = ended(worker(server.url, tmp, flowers.path.parent, *named(flowers), "--idle", "1"))
    assert status == 0
    assert [request.path for request in server.requests] == ["/work/channel"]


def test_a_model_of_the_folder_with_another_digest_is_not_used(server: Server, flowers: Model, tmp: Path) -> None:
    words = ["--model", flowers.reference, "--digest", "0" * 64]
    server.has[f"/work/models/{flowers.reference}"] = (flowers.path / "model.json").read_bytes()
    status, said = ended(worker(server.url, tmp, flowers.path.parent, *words))
    assert status == 1
    assert f"the record that came for {flowers.reference} is of" in said


def test_a_model_that_gives_no_numbers_ends_its_worker_before_it_asks_for_work(
    server: Server, models: Path, tmp_path: Path, tmp: Path
) -> None:
    sick = read_model(pushable(models / "tf_efficientnet_lite0", tmp_path / "sick", change=giving_nan))
    offer(server, sick)
    for folder in (tmp / "none", sick.path.parent):
        status, said = ended(worker(server.url, tmp, folder, *named(sick)))
        assert status == 1
        assert f"cannot set up: {sick.reference} fails on a made picture" in said
    assert "/work/channel" not in {request.path for request in server.requests}
    assert fetched(tmp) == []


def test_weights_that_no_library_can_load_end_their_worker_with_the_reason(
    server: Server, models: Path, tmp_path: Path, tmp: Path
) -> None:
    broken = read_model(pushable(models / "tf_efficientnet_lite0", tmp_path / "broken", change=lambda _: b"no graph"))
    offer(server, broken)
    status, said = ended(worker(server.url, tmp, tmp / "none", *named(broken)))
    assert status == 1
    assert f"cannot set up: {broken.reference} cannot be loaded" in said


def test_a_server_that_stays_away_ends_the_worker_as_a_lost_channel_does(flowers: Model, tmp: Path) -> None:
    with serving() as gone:
        pass
    status, said = ended(worker(gone.url, tmp, tmp / "none", *named(flowers), begin=("-c", RUN)))
    assert status == 3
    assert f"the server has not given {flowers.reference}" in said
    assert fetched(tmp) == []


def test_a_worker_that_must_end_while_the_server_is_away_ends_in_good_order(flowers: Model, tmp: Path) -> None:
    with serving() as gone:
        pass
    process = worker(gone.url, tmp, tmp / "none", *named(flowers))
    eventually(lambda: fetched(tmp), SECONDS, "the worker tries to fetch its model")
    process.send_signal(signal.SIGTERM)
    status, said = ended(process)
    assert (status, said) == (0, "cannot set up: told to end before the model had come")
    assert fetched(tmp) == []
