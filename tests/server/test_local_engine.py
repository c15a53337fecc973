"""Jobs as subprocesses obey their manifest and leave nothing behind."""

from __future__ import annotations

import operator
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.engines.base import EngineError, NoRoom, Phase, Stage
from server.engines.local import LocalEngine
from server.settings.manifests import BadManifest, job_labels, job_name
from server.settings.values import load
from tests.running import alive
from tests.server.given import HandClock
from tests.waiting import eventually


def manifest(run: str, script: str, *, cpu: str = "1", deadline: int = 60, grace: int = 5) -> dict[str, Any]:
    name = job_name("free", run)
    resources = {"cpu": cpu, "memory": "64Mi"}
    container = {
        "name": "worker",
        "command": [sys.executable, "-c"],
        "args": [script],
        "env": [{"name": "GIVEN", "value": "by the manifest"}],
        "resources": {"requests": resources, "limits": resources},
    }
    pod = {"spec": {"containers": [container], "terminationGracePeriodSeconds": grace}}
    return {
        "metadata": {"name": name, "namespace": "tierserve-free", "labels": job_labels("free", run)},
        "spec": {"activeDeadlineSeconds": deadline, "ttlSecondsAfterFinished": 100, "template": pod},
    }


FREE = replace(load().tiers["free"], quota={"cpu": "2", "memory": "1Gi"})
SLEEP = "import time; time.sleep(60)"
ORDERLY = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path("in-order").touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path("ready").touch()
time.sleep(60)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"


@pytest.fixture
def clock() -> HandClock:
    return HandClock(0.0)


@pytest.fixture
def engine(tmp_path: Path, clock: HandClock) -> Iterator[LocalEngine]:
    base = {"PATH": os.environ["PATH"], "GIVEN": "by the base"}
    found = LocalEngine(base, lambda tier, job: f"{tier}/{job}", tmp_path / "logs", tmp_path / "tmp", tmp_path, clock)
    yield found
    clock.now += 1000
    found.close()


def phases(engine: LocalEngine) -> dict[str, Phase]:
    return {job.name.rpartition("-")[2]: job.phase for job in engine.jobs(FREE)}


def reaches(engine: LocalEngine, phase: Phase) -> None:
    """Return when the Job ``a`` is in a phase and there is no other Job."""
    eventually(lambda: phases(engine), 20, f"the Job a is {phase}", lambda found: found == {"a": phase})


def test_command_arguments_and_environment_are_the_manifests(engine: LocalEngine, tmp_path: Path) -> None:
    script = "import os; open('seen', 'w').write(os.environ['GIVEN'] + ' ' + os.environ['TIERSERVE_TOKEN'])"
    engine.start(FREE, manifest("a", script))
    reaches(engine, Phase.SUCCEEDED)
    assert (tmp_path / "seen").read_text() == "by the manifest free/tierserve-free-a"


WRITES = "import os, pathlib; pathlib.Path(os.environ['TMPDIR'], 'model').write_text('large')"


def test_a_pod_is_told_with_its_job_and_how_far_it_has_come(engine: LocalEngine) -> None:
    engine.start(FREE, manifest("a", "import time; time.sleep(60)"))
    engine.start(FREE, manifest("b", "pass"))
    shown = eventually(
        lambda: {pod.job: pod for pod in engine.pods([FREE])},
        20,
        "one has ended",
        lambda pods: pods["tierserve-free-b"].status == "Succeeded",
    )
    running, ended = shown["tierserve-free-a"], shown["tierserve-free-b"]
    assert (running.stage, running.node, ended.stage) == (Stage.LOADING, platform.node(), None)


def test_the_log_of_a_job_is_shown_by_a_command(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine.start(FREE, manifest("a", "print('what it said')"))
    command = engine.log_command(FREE, "tierserve-free-a")
    assert command == "less logs/tierserve-free-a.log"
    eventually(lambda: Path(shlex.split(command)[1]).read_bytes(), 20, "it is there", b"what it said\n".__eq__)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert engine.log_command(FREE, "tierserve-free-a") == ""


def test_a_job_has_a_folder_of_its_own_which_goes_with_it(engine: LocalEngine, tmp_path: Path) -> None:
    sleep = "import time; pathlib.Path('written-' + os.environ['TMPDIR'][-1]).touch(); time.sleep(60)"
    for run in "ab":
        engine.start(FREE, manifest(run, f"{WRITES}; {sleep}"))
        eventually((tmp_path / f"written-{run}").exists, 20, "the Job has written")
    assert sorted(path.parent.name for path in tmp_path.glob("tmp/*/model")) == ["tierserve-free-a", "tierserve-free-b"]
    engine.stop("tierserve-free-a")
    eventually(lambda: len(engine.pods([FREE])), 20, "one Job is left", lambda seen: seen == 1)
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["tierserve-free-b"]
    engine.close()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_killed_server_left_of_its_jobs_is_deleted(tmp_path: Path) -> None:
    left, elsewhere = tmp_path / "tmp" / "tierserve-free-a", tmp_path / "elsewhere"
    left.mkdir(parents=True)
    elsewhere.mkdir()
    for folder in (left, elsewhere):
        (folder / "model").touch()
    (left.parent / "link").symlink_to(elsewhere)
    (left.parent / "file").touch()
    (tmp_path / "tmp").chmod(0o700)
    LocalEngine({}, lambda tier, job: "", tmp_path / "logs", tmp_path / "tmp", tmp_path).close()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (elsewhere / "model").exists()


def test_the_same_job_starts_once(engine: LocalEngine) -> None:
    engine.start(FREE, manifest("a", SLEEP))
    engine.start(FREE, manifest("a", SLEEP))
    assert len(engine.jobs(FREE)) == len(engine.pods([FREE])) == 1


def test_the_quota_is_the_room(engine: LocalEngine) -> None:
    wanted = manifest("x", SLEEP, cpu="900m")
    assert engine.room(FREE, wanted).jobs == 2
    assert engine.room(replace(FREE, name="open", quota={}), wanted).jobs == 1000
    assert engine.room(replace(FREE, name="paused", quota={"cpu": "0"}), wanted).jobs == 0
    engine.start(FREE, manifest("a", SLEEP, cpu="900m"))
    engine.start(FREE, manifest("b", SLEEP, cpu="900m"))
    room = engine.room(FREE, wanted)
    assert (room.jobs, room.reason) == (0, "quota cpu: 1.8 of 2 used, a worker takes 0.9")
    with pytest.raises(NoRoom, match=r"1\.8 of 2"):
        engine.start(FREE, wanted)


def test_gpus_are_counted_like_everything_else(engine: LocalEngine) -> None:
    wanted = manifest("a", SLEEP)
    for resources in wanted["spec"]["template"]["spec"]["containers"][0]["resources"].values():
        resources["nvidia.com/gpu"] = "2"
    tier = replace(FREE, quota={"gpus": "3"})
    assert engine.room(tier, wanted).jobs == 1
    engine.start(tier, wanted)
    assert engine.room(tier, wanted).reason == "quota gpus: 2 of 3 used, a worker takes 2"


def test_a_start_keeps_to_the_quota_that_nobody_asked_for_before(engine: LocalEngine) -> None:
    with pytest.raises(NoRoom, match="quota cpu: 0 of 2 used, a worker takes 3"):
        engine.start(FREE, manifest("a", SLEEP, cpu="3"))
    assert engine.jobs(FREE) == []


def test_a_failure_tells_its_last_words(engine: LocalEngine) -> None:
    engine.start(FREE, manifest("a", "print('first', flush=True); raise SystemExit('no model here')"))
    reaches(engine, Phase.FAILED)
    assert engine.jobs(FREE)[0].reason == "exit code 1: no model here"


def test_what_has_ended_is_known_for_its_time_to_live(engine: LocalEngine, clock: HandClock) -> None:
    engine.start(FREE, manifest("a", "raise SystemExit(1)"))
    reaches(engine, Phase.FAILED)
    clock.now = 99
    assert phases(engine) == {"a": Phase.FAILED}
    clock.now = 100
    assert phases(engine) == {}


def test_a_program_that_this_machine_lacks_is_told_before_it_is_started(engine: LocalEngine) -> None:
    engine.check(manifest("a", SLEEP))
    broken = manifest("a", SLEEP)
    broken["spec"]["template"]["spec"]["containers"][0]["command"] = ["no-such-program"]
    with pytest.raises(BadManifest, match="no-such-program"):
        engine.check(broken)


def test_a_command_that_is_not_there(engine: LocalEngine) -> None:
    broken = manifest("a", "")
    broken["spec"]["template"]["spec"]["containers"][0]["command"] = ["/no/such/program"]
    try:
        engine.start(FREE, broken)
    except EngineError as error:
        assert "/no/such/program" in str(error)
    else:
        reaches(engine, Phase.FAILED)
        assert "/no/such/program" in engine.jobs(FREE)[0].reason


def test_a_deadline_ends_a_job(engine: LocalEngine, clock: HandClock) -> None:
    engine.start(FREE, manifest("a", SLEEP, deadline=30))
    assert phases(engine) == {"a": Phase.RUNNING}
    clock.now = 30
    engine.jobs(FREE)
    reaches(engine, Phase.FAILED)
    assert "deadline" in engine.jobs(FREE)[0].reason


def test_what_ignores_sigterm_is_killed_after_its_grace(engine: LocalEngine, clock: HandClock, tmp_path: Path) -> None:
    engine.start(FREE, manifest("a", STUBBORN, grace=5))
    log = tmp_path / "logs" / "tierserve-free-a.log"
    eventually(log.read_text, 20, "it says that it ignores SIGTERM", lambda text: "on" in text)
    engine.stop("tierserve-free-a")
    assert engine.jobs(FREE) == []
    assert len(engine.pods([FREE])) == 1
    clock.now = 4.9
    assert len(engine.pods([FREE])) == 1
    clock.now = 5
    eventually(lambda: engine.pods([FREE]), 20, "it is killed", operator.not_)


def test_a_job_outlives_the_thread_that_asked_for_it_and_ends_in_order(engine: LocalEngine, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(engine.start, FREE, manifest("a", ORDERLY)).result(20)
        eventually((tmp_path / "ready").exists, 20, "the Job runs")
    engine.close()
    assert (tmp_path / "in-order").exists()


def test_stopping_what_is_not_there_is_success(engine: LocalEngine) -> None:
    engine.stop("tierserve-free-nobody")


def test_close_leaves_no_process(engine: LocalEngine, clock: HandClock) -> None:
    for run in "ab":
        engine.start(FREE, manifest(run, SLEEP))
    children = [process.popen.pid for process in engine._processes.values()]
    assert all(map(alive, children))
    clock.now += 1000
    engine.close()
    assert not any(map(alive, children))
