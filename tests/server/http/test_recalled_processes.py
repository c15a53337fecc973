"""Real workers that are recalled at any moment: nothing is lost, and no attempt is counted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.queue import JobRow
from tests.model.pictures import PICTURES
from tests.running import Answer
from tests.server.http.http_site import ANSWER_SECONDS, Site
from tests.waiting import eventually

WHY = "lent quota went back to premium"
CAT = (PICTURES / "cat.jpg").read_bytes()
STORED, WAITING = 15, 2  # for each worker: predictions of the table, and requests that wait in the lobby
START_SECONDS = 60.0


@contextmanager
def worker(site: Site, models: Path, job: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The worker of a Job."""
    named = ["--model", "tf_efficientnet_lite0", "--variant", "int8", "--models", str(models)]
    environment = {
        **os.environ,
        "TIERSERVE_SERVER": f"http://127.0.0.1:{site.internal.port}",
        "TIERSERVE_TOKEN": site.tokens.mint("free", job),
    }
    command = [sys.executable, "-m", "model", "work", *named, *options]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def row_of(site: Site, job: str) -> JobRow | None:
    return next((row for row in site.queue.jobs().result(ANSWER_SECONDS) if row.name == job), None)


def has_asked(site: Site, job: str) -> bool:
    row = row_of(site, job)
    return row is not None and row.asked_at is not None


def done(site: Site, ids: list[str]) -> int:
    found = [site.queue.get(one) for one in ids]
    return sum(one is not None and one.status == "succeeded" for one in (each.result(ANSWER_SECONDS) for each in found))


def when_it_asks(site: Site, job: str) -> None:
    eventually(lambda: has_asked(site, job), START_SECONDS, f"{job} asks for work")


def while_it_works(site: Site, job: str) -> None:
    eventually(lambda: (row := row_of(site, job)) and row.leased_at, START_SECONDS, f"{job} has got work")


MOMENTS: list[Callable[[Site, str], None]] = [lambda *_: None, when_it_asks, while_it_works, while_it_works]


@pytest.mark.parametrize("options", [(), ("--batch", "4")], ids=["one by one", "batches"])
def test_nothing_is_lost_and_no_attempt_is_counted_whenever_workers_are_recalled(
    site: Site, models: Path, options: tuple[str, ...]
) -> None:
    ids, requests = list[str](), list[Future[Answer]]()
    for number, recall_now in enumerate(MOMENTS):
        job = f"lent-{number}"
        site.job(job)
        ids += [site.submit(body=CAT).json["id"] for _ in range(STORED)]
        with worker(site, models, job, *options) as process:
            requests += [site.callers.submit(site.post, "free", CAT) for _ in range(WAITING)]
            recall_now(site, job)
            assert site.queue.recall_job(job, WHY).result(ANSWER_SECONDS)
            ends(process)
        site.queue.end_job(job, "", blame=False).result(ANSWER_SECONDS)
    site.job("last")
    with worker(site, models, "last", *options):
        eventually(lambda: done(site, ids), START_SECONDS, "all is done", len(ids).__eq__)
        answers = [one.result(START_SECONDS).json for one in requests]
    told = [site.get(f"/v1/predictions/{one}").json for one in ids] + answers
    assert {(one["status"], one["attempts"]) for one in told} == {("succeeded", 1)}


def ends(process: subprocess.Popen[str]) -> None:
    """It ends in good order, and the last line of its log says why."""
    _, said = process.communicate(timeout=START_SECONDS)
    assert (process.returncode, said.splitlines()[-1]) == (0, f"ended: {WHY}")
