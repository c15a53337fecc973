"""Starts, stops and crashes: what an operator sees, and that nothing accepted is lost."""

from __future__ import annotations

import operator
import os
import random
import resource
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.running import ROOT, Service, alive, listening, service
from tests.service.conftest import PAUSED
from tests.service.pictures import CAT, bomb
from tests.service.test_classify import is_cat, multipart
from tests.waiting import eventually

KILLS = 20


def failure(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_port_in_use_is_told(running: Service, models: Path, tmp_path: Path) -> None:
    other = Service(tmp_path, models)
    other.command += ["--set", f"server.port={running.port}"]
    assert f"port {running.port} of 127.0.0.1 is in use" in failure(other.command)


def test_a_second_server_on_the_same_data_is_refused(running: Service, models: Path) -> None:
    assert running.process is not None
    said = failure(Service(running.state, models).command)
    assert "is in use by" in said
    assert str(running.process.pid) in said


def test_missing_models_name_the_command_that_makes_them(tmp_path: Path) -> None:
    said = failure(Service(tmp_path / "state", tmp_path / "models").command)
    for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite2"):
        assert f"{tmp_path}/models has no {name}. Build it: tierserve model build --output {tmp_path}/models. " in said


def test_values_with_a_typo_name_line_and_key(models: Path, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("tiers:\n  free:\n    quotta: {cpu: 1}\n")
    said = failure(Service(tmp_path / "state", models, values=values).command)
    assert "values.yaml:3" in said
    assert "quotta" in said


def test_a_missing_model_stops_only_its_tier(models: Path, tmp_path: Path) -> None:
    some = tmp_path / "models"
    some.mkdir()
    (some / "tf_efficientnet_lite0").symlink_to(models / "tf_efficientnet_lite0")
    with service(some, tmp_path / "state") as found:
        assert is_cat(found.post("free", CAT))
        assert f"{some} has no tf_efficientnet_lite2" in found.log.read_text()
        assert "Until then no worker can start for the tier premium" in found.log.read_text()


def test_a_restart_with_values_that_were_refused_goes_on_with_the_last_good_ones(models: Path, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("tiers: {free: {limits: {queue: 7}}}\n")
    with service(models, tmp_path / "state", values=values) as found:
        eventually((tmp_path / "state" / "settings.json").exists, 20, "the settings are kept")
        values.write_text("server: {tickSeconds: 0x" + "f" * 4000 + "}\n")
        eventually(lambda: in_force(found)["current"], 20, "the wrong values are told", operator.not_)
        assert is_cat(found.post("free", CAT)), "the leader works meanwhile"
        found.kill()
        found.start()
        assert "values.yaml:1: is too long for a number" in in_force(found)["reason"]
        assert found.get("/config").json["settings"]["current"] is False
        assert "the last good ones are kept" in found.log.read_text()
        assert found.get("/v1/tiers").json["tiers"][0]["limits"]["queued"] == 7
        assert is_cat(found.post("premium", CAT))
        values.write_text("tiers: {free: {limits: {queue: 8}}}\n")
        eventually(lambda: in_force(found)["current"], 20, "the corrected values are in force")


def in_force(found: Service) -> dict[str, Any]:
    return dict(found.get("/readyz").json["settings"])


def test_a_sigterm_answers_who_waits_and_leaves_no_process(models: Path, tmp_path: Path) -> None:
    with service(models, tmp_path, PAUSED) as found, ThreadPoolExecutor() as pool:
        assert is_cat(found.post("premium", CAT))
        children = [child.pid for child in found.workers()]
        waiting = pool.submit(found.post, "free", CAT)
        eventually(lambda: found.get("/v1/tiers").json["tiers"][0]["queued"], 20, "one waits", lambda count: count == 1)
        assert found.stop() == 0
        assert waiting.result().status == 202
        assert not any(map(alive, children))
        found.start()
        assert found.get(waiting.result().headers["Location"]).json["status"] == "queued"


def test_an_upload_under_way_when_the_server_is_told_to_stop_is_taken(models: Path, tmp_path: Path) -> None:
    with service(models, tmp_path, PAUSED) as found, ThreadPoolExecutor() as pool:
        connection = HTTPConnection("127.0.0.1", found.port, timeout=30)
        connection.putrequest("POST", "/img-classification/free")
        connection.putheader("Content-Length", str(len(CAT)))
        connection.endheaders(CAT[:1000])
        assert found.process is not None
        found.process.send_signal(signal.SIGTERM)
        eventually(lambda: listening(found.port), 20, "it listens no more", operator.not_)
        connection.send(CAT[1000:])
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (202, "close")
        assert pool.submit(found.process.wait, 30).result() == 0
        found.start()
        assert found.get(answer.headers["Location"]).json["status"] == "queued"


def test_a_drained_worker_hands_back_what_it_did_not_begin(models: Path, tmp_path: Path) -> None:
    with service(models, tmp_path, ["tiers.free.quota.pods=1"]) as found:
        urls = [found.post("free", CAT, {"Prefer": "respond-async"}).headers["Location"] for _ in range(60)]
        (worker,) = eventually(found.workers, 20, "a worker starts")
        eventually(
            lambda: found.get(urls[0]).json["status"], 30, "the first one is done", lambda now: now == "succeeded"
        )
        worker.terminate()
        answers = [found.get(f"{url}?wait=30").json for url in urls]
        assert {answer["status"] for answer in answers} == {"succeeded"}
        assert {answer["attempts"] for answer in answers} == {1}


def test_workers_die_with_a_killed_server(models: Path, tmp_path: Path) -> None:
    with service(models, tmp_path) as found:
        assert is_cat(found.post("free", CAT))
        children = [child.pid for child in found.workers()]
        assert children
        found.kill()
        eventually(lambda: [pid for pid in children if alive(pid)], 20, "its workers have ended", operator.not_)
        found.start()
        assert is_cat(found.post("free", CAT))


def test_a_silent_worker_loses_its_lease_and_its_place_in_a_full_quota(models: Path, tmp_path: Path) -> None:
    settings = [
        "server.lease.seconds=2",
        "server.lease.heartbeatSeconds=1",
        "server.lease.reclaimSeconds=1",
        "tiers.free.quota.pods=1",
    ]
    with service(models, tmp_path, settings) as found:
        assert is_cat(found.post("free", CAT))
        (first,) = found.workers()
        first.suspend()
        url = found.post("free", CAT, {"Prefer": "respond-async"}).headers["Location"]
        assert is_cat(found.get(f"{url}?wait=30"))
        assert not alive(first.pid)


def test_a_worker_that_dies_on_every_attempt_fails_the_prediction(models: Path, tmp_path: Path) -> None:
    body, headers = multipart([bomb(6000)] * 8)  # some seconds of work, so that the kill comes while it is done
    settings = ["tiers.free.quota.pods=1", "tiers.free.limits.attempts=2", "tiers.free.limits.imagePixels=40000000"]
    with service(models, tmp_path, settings) as found:
        url = found.post("free", body, {**headers, "Prefer": "respond-async"}).headers["Location"]
        for attempt in (1, 2):
            eventually(
                lambda: stands(found, url),
                30,
                f"attempt {attempt} is made",
                lambda now: now == ("leased", attempt),  # noqa: B023
            )
            found.workers()[0].kill()
        answer = found.get(f"{url}?wait=30").json
        assert answer["status"] == "failed"
        assert answer["error"]["code"] == "attempts_exhausted"
        assert "SIGKILL" in answer["error"]["detail"]


def stands(found: Service, url: str) -> tuple[str, int]:
    prediction = found.get(url).json
    return prediction["status"], prediction["attempts"]


def test_a_tier_whose_workers_cannot_start_says_why_and_rests(models: Path, tmp_path: Path) -> None:
    broken = tmp_path / "models"
    broken.mkdir()
    (broken / "tf_efficientnet_lite2").symlink_to(models / "tf_efficientnet_lite2")
    source = (models / "tf_efficientnet_lite0").resolve()
    (broken / source.name).mkdir()
    (broken / "tf_efficientnet_lite0").symlink_to(source.name)
    weights = broken / source.name / "model-int8.onnx"
    for file in source.iterdir():
        if file.name != weights.name:  # the server reads the record only
            (broken / source.name / file.name).symlink_to(file)
    with service(broken, tmp_path / "state") as found:
        url = found.post("free", CAT, {"Prefer": "respond-async"}).headers["Location"]
        reason = eventually(
            lambda: reason_of(found, url), 30, "the tier rests", lambda why: "ended without taking work" in why
        )
        assert f"they run {source.name}" in reason
        assert is_cat(found.post("premium", CAT))
        assert found.get("/readyz").json["tiers"]["free"]["healthy"] is False
        started = found.log.read_text().count("Job tierserve-free")
        assert started <= 6  # three Jobs, each with a line for its start and one for its end
        weights.symlink_to(source / weights.name)
        assert is_cat(found.get(f"{url}?wait=30"))


def reason_of(found: Service, url: str) -> str:
    return str((found.get(url).json["queue"] or {}).get("reason", ""))


def test_a_full_disk_is_503_with_nothing_half_written(models: Path, tmp_path: Path) -> None:
    with service(models, tmp_path, PAUSED) as found:
        assert found.process is not None
        kept = found.post("free", CAT, {"Prefer": "respond-async"}).headers["Location"]
        blobs = tmp_path / "data" / "blobs"
        assert len(list(blobs.iterdir())) == 1
        # A limit on the size of files makes writes fail as on a full disk, and needs no small disk.
        found.process.rlimit(psutil.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        answer = found.post("free", CAT, {"Prefer": "respond-async"})
        assert (answer.status, answer.json["code"]) == (503, "storage_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert len(list(blobs.iterdir())) == 1
        assert found.get(kept).json["status"] == "queued"
        found.process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        eventually(
            lambda: found.post("free", CAT, {"Prefer": "respond-async"}).status,
            30,
            "it recovers",
            lambda seen: seen == 202,
        )


@pytest.mark.timeout(240)
def test_twenty_kills_under_load_lose_nothing(models: Path, tmp_path: Path) -> None:
    """Server and workers are killed at random moments. Every accepted prediction ends with the right label."""
    seed = random.randrange(1 << 32)
    found = Service(tmp_path, models, ["tiers.free.limits.attempts=10", "server.lease.reclaimSeconds=1"])
    found.start()
    done = threading.Event()
    with ThreadPoolExecutor() as pool:
        clients = [pool.submit(submit_until, done, found) for _ in range(4)]
        kill_in_turn(found, random.Random(seed))
        done.set()
        accepted = [url for client in clients for url in client.result()]
    assert len(accepted) > 50, seed
    assert len(set(accepted)) == len(accepted)
    deadline = time.monotonic() + 120
    for number, url in enumerate(accepted):
        answer = found.get(f"{url}?wait=60")
        assert time.monotonic() < deadline, f"{number} of {len(accepted)} ended within 120 s; {url}: {answer.body!r}"
        assert is_cat(answer), (seed, answer.body)
    found.stop()


def submit_until(done: threading.Event, found: Service) -> list[str]:
    """Submit one picture after another, also while the server is away; returns the URLs of what it accepted."""
    accepted = []
    while not done.is_set():
        try:
            answer = found.post("free", CAT, {"Prefer": "respond-async"})
        except (OSError, HTTPException):
            time.sleep(0.05)
            continue
        if answer.status == 202:
            accepted.append(answer.headers["Location"])
        time.sleep(0.05)
    return accepted


def kill_in_turn(found: Service, chance: random.Random) -> None:
    """Kill a worker, then the server, then a worker again, ``KILLS`` times in all."""
    for kill in range(KILLS):
        time.sleep(chance.uniform(0.1, 0.8))
        if kill % 2:
            found.kill()
            found.start()
        elif workers := found.workers():
            with suppress(psutil.NoSuchProcess):  # it may have ended by itself in the meantime
                os.kill(chance.choice(workers).pid, signal.SIGKILL)
