"""Batches: what lies there is classified at once, every picture gets its own result, and one bad one fails alone."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.batches import Batches
from model.decoder import Decoder, DecoderUnavailable, largest_need
from model.decoders import Decoders, processors
from model.desk import Desk
from model.messages import Lease, News
from model.runtimes.base import Model, Runtime, read_model
from model.runtimes.timm import TimmRuntime
from model.terms import Terms
from model.worker import predict
from tests.model.channel_server import serving
from tests.model.pictures import PICTURES, encoded
from tests.model.test_decoder import SMALL, children
from tests.model.test_worker_process import RUN, Site
from tests.waiting import eventually

CAT = (PICTURES / "cat.jpg").read_bytes()
NAMES = ("cat", "espresso", "rocket", "camera", "astronaut", "clock", "brick")
MODEL = "tf_efficientnet_lite0"


class Brittle(Runtime):
    """A runtime that fails with more than ``most`` pictures; its model's scores are NaN for a dark one."""

    batches = True

    def __init__(self, classes: int, most: int = 1000) -> None:
        self.classes, self.most, self.sizes = classes, most, list[int]()
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def setup(self, model: Model, variant: str, device: str = "cpu") -> None:
        pass

    def predict(self, batch: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        self.entered.set()
        assert self.gate.wait(20)
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            raise RuntimeError("out of memory")
        return [self._scores(float(one.mean())) for one in batch]

    def _scores(self, light: float) -> NDArray[np.float32]:
        return np.full(self.classes, math.nan if light < -0.9 else 1 / self.classes, np.float32)


@pytest.fixture
def model(models: Path) -> Model:
    return read_model(models / MODEL)


def lease(name: str, *pictures: bytes) -> Lease:
    return Lease(name, f"t-{name}", 3, tuple(memoryview(one) for one in pictures))


def classified(model: Model, runtime: Runtime, leases: Sequence[Lease], most: int = 8) -> dict[str, Any]:
    """The results of these predictions through batches, by id."""
    desk = Desk(Terms(idle=60, max_predictions=len(leases), max_pixels=1_000_000, batch=most))
    decoders = Decoders(model.preprocessing, 1_000_000, 20, threads=3)
    desk.take(News(leases=leases))
    Batches(desk, model, runtime, decoders, 3, most).run(lambda: None)
    assert desk.done == f"made {len(leases)} predictions"
    return {one["id"]: one["results"] for one in desk.open()["completions"]}


def test_batches_say_what_one_after_another_says(model: Model) -> None:
    runtime = TimmRuntime()
    runtime.setup(model, "fp32")
    pictures = [(PICTURES / f"{name}.jpg").read_bytes() for name in NAMES]
    leases = [lease(name, picture) for name, picture in zip(NAMES, pictures, strict=True)]
    leases += [lease("all", *pictures, b"no picture", SMALL), lease("bad", b"\xff\xd8\xff")]
    with closing(Decoder(model.preprocessing, 1_000_000, 20)) as decoder:
        alone = {one.id: predict(one, model, runtime, decoder)["results"] for one in leases}
    together = classified(model, runtime, leases, most=4)
    assert together.keys() == alone.keys()
    for name, results in together.items():
        for found, expected in zip(results, alone[name], strict=True):
            assert found.keys() == expected.keys()
            if "labels" in found:
                assert found["labels"][0]["label"] == expected["labels"][0]["label"]
                assert found["labels"][0]["score"] == pytest.approx(expected["labels"][0]["score"], abs=1e-4)
            else:
                assert found == expected


def test_what_lies_there_is_classified_at_once_and_a_picture_alone_waits_for_none(model: Model) -> None:
    runtime = Brittle(len(model.labels))
    runtime.gate.clear()
    desk = Desk(Terms(idle=60, max_predictions=8, max_pixels=1_000_000, batch=4))
    decoders = Decoders(model.preprocessing, 1_000_000, 20, threads=2)
    batches = Batches(desk, model, runtime, decoders, 2, 4)
    runner = threading.Thread(target=batches.run, args=(lambda: None,), daemon=True)
    runner.start()
    desk.take(News(leases=[lease("first", CAT)]))
    assert runtime.entered.wait(20)
    desk.take(News(leases=[lease(f"p{number}", CAT) for number in range(7)]))
    eventually(
        batches._ready.qsize, 20, "as many are decoded as may be", enough=lambda lying: lying == 8
    )  # and the end
    runtime.gate.set()
    runner.join(20)
    assert runtime.sizes == [1, 4, 3]


def test_a_batch_that_fails_is_tried_one_by_one_and_later_ones_are_smaller(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = Brittle(len(model.labels), most=2)
    runtime.gate.clear()
    threading.Timer(0.5, runtime.gate.set).start()  # by then pictures lie there, else the batches are small anyhow
    results = classified(model, runtime, [lease(f"p{number}", CAT) for number in range(20)])
    assert all("labels" in one for (one,) in results.values())
    assert len(results) == 20
    assert max(runtime.sizes) <= 8
    assert runtime.sizes[-1] <= 4
    assert any("at most" in message for message in caplog.messages)


def test_a_model_that_fails_for_one_picture_alone_ends_the_worker(model: Model) -> None:
    runtime = Brittle(len(model.labels), most=0)
    with pytest.raises(RuntimeError, match="out of memory"):
        classified(model, runtime, [lease("p", CAT)])


def test_scores_that_are_not_numbers_are_an_error_of_their_picture_alone(model: Model) -> None:
    dark = encoded(Image.new("RGB", (300, 300)), "JPEG")
    results = classified(model, Brittle(len(model.labels)), [lease("p", CAT, dark, CAT)])
    assert ["labels" in one for one in results["p"]] == [True, False, True]
    assert results["p"][1]["error"]["code"] == "model_failed"


def test_a_decoder_that_does_not_start_ends_the_batches(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "_command", lambda _: [sys.executable, "-c", "raise SystemExit(7)"])
    with pytest.raises(DecoderUnavailable):
        classified(model, Brittle(len(model.labels)), [lease("p", SMALL)])


def test_pictures_are_decoded_in_several_children_if_the_memory_holds_them(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = largest_need(model.preprocessing, 40_000_000)
    for left, many in ((100 * need, 3), (5 * need // 2, 2), (need // 2, 1), (None, 3)):
        monkeypatch.setattr("model.decoders.memory_left", lambda left=left: left)
        with closing(Decoders(model.preprocessing, 40_000_000, 20, threads=3)) as decoders:
            assert len(decoders._all) == many


def test_a_container_with_fewer_processors_decodes_in_fewer_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr("model.decoders._CGROUP_CPUS", str(limit))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for text, many in (("150000 100000", 2), ("max 100000", 64), ("50000 100000", 1), ("9900000 100000", 64)):
        limit.write_text(text)
        assert processors() == many


@contextmanager
def working(server: Site, models: Path, last: float = 0.5) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of batches of 4 on the runtime timm; its end may take it ``last`` seconds."""
    model = ["--model", MODEL, "--runtime", "timm", "--batch", "4"]
    environment = {
        **os.environ,
        "TIERSERVE_SERVER": server.url,
        "TIERSERVE_TOKEN": "token",
        "TIERSERVE_MODELS": str(models),
    }
    worker = subprocess.Popen([sys.executable, "-c", RUN, "20", str(last), "work", *model], env=environment)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


@pytest.fixture
def server() -> Iterator[Site]:
    site = Site()
    with serving(site.visit) as made:
        site.url = made.url
        yield site


def test_a_worker_classifies_in_batches_and_hands_back_what_is_cut_short(server: Site, models: Path) -> None:
    with working(server, models) as worker:
        eventually(lambda: server.received, 120, "the worker has loaded torch")
        server.give("a", "b", "c", "d", picture=CAT)
        server.give("e", "f", picture=SMALL)
        for key in "abcdef":
            assert "labels" in server.result(key)
        decoders = children(worker.pid)
        assert 1 <= len(decoders) <= 2
        for decoder in decoders:
            os.kill(decoder, signal.SIGSTOP)
        server.give("slow", picture=SMALL)
        server.give("quick", picture=CAT)
        assert "labels" in server.result("quick")  # it does not wait for the slow one
        eventually(server.renewals, 20, "the worker holds the slow one")
        worker.terminate()
        assert worker.wait(15) == 0
        assert server.released() == [["slow", "t-slow"]]
        assert server.received[0]["credits"] == 8
        assert not any(psutil.pid_exists(decoder) for decoder in decoders)
