"""The dispatcher: whatever the engine does, promises are kept and nothing is started for nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from server.blobs import DirectoryBlobs
from server.engines.base import Job, Phase, Place, Room
from server.leader.dispatcher import Dispatcher
from server.leader.planning import BREAKER_FIRST, breaker_seconds, plan
from server.queue.facts.records import Completion, Depth
from server.queue.facts.states import Status
from server.queue.queue import Queue
from server.settings.live import AGAIN_SECONDS
from server.settings.values import DEFAULT_VALUES, TEMPLATES
from tests.server.dispatcher_world import Obedient, Refusing, Stillborn, Unreachable, World


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[list[World]]:
    made: list[World] = []
    yield made
    for world in made:
        world.database.close()


@pytest.fixture
def world(tmp_path: Path, worlds: list[World]) -> World:
    worlds.append(World(tmp_path, Obedient()))
    return worlds[0]


def room(jobs: int) -> Room:
    return Room(jobs, "quota cpu: 2 of 2 used, a worker takes 1", {})


@pytest.mark.parametrize(
    ("queued", "leased", "waited", "starting", "running", "jobs", "pace", "starts"),
    [
        (0, 0, 0, 0, 0, 5, 1, 0),  # nothing to do
        (1, 0, 0, 0, 0, 5, 1, 1),
        (9, 0, 0, 0, 0, 5, 1, 1),  # slow start
        (9, 0, 0, 1, 1, 5, 2, 2),
        (9, 0, 0, 3, 3, 2, 4, 2),  # room bounds it
        (9, 0, 0, 0, 5, 0, 4, 0),  # no room
        (1, 0, 0, 1, 1, 5, 1, 0),  # the starting one will take it
        (2, 0, 0, 1, 1, 5, 1, 1),
        (1, 0, 0, 0, 1, 5, 1, 0),  # the idle one will take it
        (1, 0, 2, 0, 1, 5, 1, 1),  # it did not: it has hung
        (1, 1, 0, 0, 1, 5, 1, 1),  # the only one is busy
        (1, 4, 0, 0, 2, 5, 1, 1),  # both hold more than one
    ],
)
def test_plan(
    queued: int, leased: int, waited: float, starting: int, running: int, jobs: int, pace: int, starts: int
) -> None:
    depth = Depth(queued, leased, 100.0 - waited if queued else None)
    assert plan(depth, 100.0, starting, running, room(jobs), pace).starts == starts


def test_plan_says_why_it_waits() -> None:
    assert (
        plan(Depth(3, 2, 0), 0, 0, 2, room(0), 1).reason == "2 workers busy; quota cpu: 2 of 2 used, a worker takes 1"
    )
    assert plan(Depth(1, 0, 0), 0, 0, 0, room(0), 1).reason.startswith("no worker runs; quota")
    assert plan(Depth(1, 0, 0), 0, 0, 0, room(1), 1).reason == "a worker is starting"
    assert plan(Depth(0, 0, None), 0, 0, 0, room(1), 1).reason == ""


def test_jobs_start_one_two_four_until_the_room_is_taken(tmp_path: Path, worlds: list[World]) -> None:
    worlds.append(world := World(tmp_path, Obedient(most=6)))
    for _ in range(20):
        world.submit()
    counts = []
    for _ in range(5):
        world.look()
        counts.append(len(world.engine.started))
    assert counts == [1, 3, 6, 6, 6]
    assert world.view().reason == "6 workers busy; 6 of 6 taken"
    assert world.queue.jobs().result(10)[0].tier == "free"


def test_a_refusal_ends_the_round_and_starts_slowly_again(tmp_path: Path, worlds: list[World]) -> None:
    worlds.append(world := World(tmp_path, Refusing()))
    for _ in range(9):
        world.submit()
    world.look()
    world.look()
    assert len(world.engine.started) == 1
    assert world.view().reason == "somebody else took the quota"
    assert world.queue.strikes("free").result(10).count == 0
    assert [row.name for row in world.queue.jobs().result(10)] == world.engine.started


def test_a_dead_worker_gives_back_what_it_held_and_a_finished_one_is_forgotten(world: World) -> None:
    key = world.submit()
    world.look()
    (name,) = world.engine.started
    world.lease(name)
    world.engine.finish(name, Phase.FAILED, "signal SIGKILL")
    world.look()
    assert name in world.engine.running, "a failed Job can be looked at until its time to live is over"
    assert world.get(key).reason == "signal SIGKILL"
    (second,) = world.engine.started[1:]
    (leased,) = world.lease(second)
    assert (leased.id, leased.solo, leased.attempt) == (key, True, 2)


def test_a_job_that_vanished_costs_no_attempt(world: World) -> None:
    key = world.submit()
    world.look()
    (name,) = world.engine.started
    world.lease(name)
    world.engine.running.clear()
    world.look()
    assert (world.get(key).status, world.get(key).attempts) == (Status.QUEUED, 0)


def test_workers_may_renew_the_leases_that_ran_out_while_no_server_was_there(world: World) -> None:
    kept, lost = world.submit(), world.submit()
    world.look()
    world.look()
    alive, silent = world.engine.started
    (leased,), _ = world.lease(alive), world.lease(silent)
    world.clock.now += 100
    world.dispatcher = Dispatcher(world.live, world.queue, world.blobs, world.engine, "http://x", world.clock)
    world.look()
    assert world.queue.extend(alive, [(leased.id, leased.token)], 60.0).result(10) == []
    world.look(world.settings.lease.seconds)
    assert (world.get(kept).status, world.get(lost).status) == (Status.LEASED, Status.QUEUED)
    assert "stopped answering" in world.get(lost).reason


def test_a_worker_of_which_nothing_is_heard_makes_room_at_once(tmp_path: Path, worlds: list[World]) -> None:
    worlds.append(world := World(tmp_path, Obedient(most=1)))
    lost, kept = world.submit(), world.submit()
    for _ in range(3):
        world.look(world.settings.lease.seconds / 2)
        if len(world.engine.started) == 1 and not world.get(lost).attempts:
            ((silent,), _) = world.engine.started, world.lease(world.engine.started[0], most=2)
    world.look(world.settings.lease.seconds)
    assert world.engine.stopped_at_once == [silent]
    (second,) = world.engine.started[1:]
    assert "nothing was heard" in world.get(kept).reason or "stopped answering" in world.get(kept).reason
    assert [one.id for one in world.lease(second)] == [lost]


def test_a_worker_that_only_asks_is_heard(world: World) -> None:
    world.submit()
    world.look()
    (name,) = world.engine.started
    (leased,) = world.lease(name, most=1)
    world.queue.complete(name, [Completion(leased.id, leased.token, [], None, 1.0)]).result(10)
    for _ in range(10):
        assert not world.lease(name)
        world.look(world.settings.lease.seconds / 2)
    assert name in world.engine.running
    world.look(world.settings.lease.seconds)
    assert world.engine.stopped_at_once == [name]


def test_a_server_that_does_not_lead_starts_nothing(world: World, tmp_path: Path) -> None:
    class Following(Queue):
        leading = False

        def leads(self) -> bool:
            return self.leading

    queue = Following(world.database)
    world.dispatcher = Dispatcher(world.live, queue, world.blobs, world.engine, "http://x", world.clock)
    world.submit()
    world.look()
    assert not world.engine.started
    queue.leading = True
    world.look()
    assert len(world.engine.started) == 1


def test_a_job_nobody_knows_is_stopped(world: World) -> None:
    world.engine.running["tierserve-free-stranger"] = Job("tierserve-free-stranger", "free", Phase.RUNNING)
    world.look()
    assert world.engine.running == {}


def test_a_job_that_asks_for_no_work_is_replaced(world: World) -> None:
    world.submit()
    world.look()
    (name,) = world.engine.started
    world.look(world.settings.tiers["free"].waits.start + 1)
    assert name not in world.engine.running
    assert "asked for no work within 60 s" in world.queue.strikes("free").result(10).last_reason


def test_a_tier_whose_jobs_all_fail_rests_longer_each_time_and_the_other_works(
    tmp_path: Path, worlds: list[World]
) -> None:
    worlds.append(world := World(tmp_path, Stillborn()))
    world.submit()
    for _ in range(8):
        world.look()
    assert len(world.engine.started) == 3
    assert world.view().healthy is False
    assert "exit code 1: no model here" in world.view().reason
    world.look(BREAKER_FIRST)
    assert len(world.engine.started) == 4
    world.look()
    world.look(BREAKER_FIRST)
    assert len(world.engine.started) == 4
    world.look(BREAKER_FIRST)
    assert len(world.engine.started) == 5
    world.submit("premium")
    world.look()
    assert world.view("premium").healthy is True
    assert "premium" in world.engine.started[-1]


def test_breaker_seconds_are_bounded() -> None:
    assert [breaker_seconds(strikes) for strikes in (0, 2, 3, 4, 50)] == [0, 0, 10, 20, 300]


def test_an_engine_that_cannot_be_asked_stops_nothing_else(tmp_path: Path, worlds: list[World]) -> None:
    worlds.append(world := World(tmp_path, Unreachable()))
    key = world.submit(deadline=5)
    world.look()
    world.submit()
    world.look(6)
    assert world.get(key).status is Status.ABORTED
    assert (world.view().healthy, world.view().reason) == (False, "no answer")


def test_a_passed_deadline_ends_what_waits(world: World) -> None:
    world.engine.most = 0
    key = world.submit(deadline=5)
    world.look(6)
    assert world.get(key).status is Status.ABORTED


@pytest.fixture
def editable(tmp_path: Path, worlds: list[World]) -> World:
    """A world whose settings and templates are files of its own."""
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    shutil.copy(DEFAULT_VALUES, tmp_path / "values.yaml")
    worlds.append(World(tmp_path, Obedient(), values=tmp_path / "values.yaml", templates=tmp_path / "templates"))
    return worlds[-1]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_removed_tier_ends_its_jobs_and_its_predictions_with_a_reason(editable: World, tmp_path: Path) -> None:
    world, key = editable, editable.submit("premium")
    world.look()
    (name,) = world.engine.started
    world.lease(name, tier="premium")
    waiting = world.submit("premium")
    text = (tmp_path / "values.yaml").read_text()
    (tmp_path / "values.yaml").write_text(text[: text.index("  premium:")])
    world.look()
    assert list(world.live.current.settings.tiers) == ["free"]
    assert world.engine.running == {}
    for one, status in ((key, Status.FAILED), (waiting, Status.ABORTED)):
        found = world.get(one)
        assert (found.status, (found.error or {})["code"]) == (status, "tier_removed")


def test_changed_values_are_taken_up_while_it_runs(editable: World, tmp_path: Path) -> None:
    edit(tmp_path / "values.yaml", "queue: 1000 ", "queue: 7 ")
    editable.look()
    assert editable.live.current.settings.tiers["free"].limits.queue == 7
    assert editable.live.problem == ""


def test_a_new_tier_is_served_at_once(editable: World, tmp_path: Path) -> None:
    text = (tmp_path / "values.yaml").read_text()
    gold = text[text.index("  premium:") :].split("\n\n")[0].replace("premium", "gold")
    edit(tmp_path / "values.yaml", "tiers:\n", f"tiers:\n{gold.replace('gold.yaml', 'premium.yaml').rstrip()}\n")
    editable.submit("gold")
    editable.look()
    assert ["gold" in name for name in editable.engine.started] == [True]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("values.yaml", "variant: int8", "variant: int9", "int9"),
        ("values.yaml", "cpu: 900m", "cpu: 9", "no Job could ever start"),
        ("templates/free.yaml.j2", "{{ super() }}", "{{ sup }}", "free.yaml.j2:5"),
        ("templates/base.yaml.j2", "completions: 1", "completions: 2", "must be 1, not 2"),
    ],
)
def test_bad_changes_keep_the_last_good_ones_and_say_so(
    editable: World, tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    before = editable.live.current.settings
    edit(tmp_path / file, old, new)
    edit(tmp_path / "values.yaml", "attempts: 3 ", "attempts: 2 ")
    editable.submit("free")
    editable.look()
    assert editable.live.current.settings is before
    assert said in editable.live.problem
    assert len(editable.engine.started) == 1, "the last good template still works"
    edit(tmp_path / file, new, old)
    editable.look()
    assert editable.live.problem == ""
    assert editable.live.current.settings.tiers["free"].limits.attempts == 2


def test_a_change_that_the_cluster_would_refuse_is_not_taken_up(editable: World, tmp_path: Path) -> None:
    editable.engine.refused = "none-such"
    edit(tmp_path / "values.yaml", 'priorityClassName: ""', "priorityClassName: none-such")
    editable.look()
    assert "refused" in editable.live.problem
    assert editable.live.current.settings.tiers["free"].job.priority_class_name == ""
    editable.engine.refused = ""
    editable.look(AGAIN_SECONDS)
    assert editable.live.problem == "", "what a cluster refuses now it may take later"
    assert editable.live.current.settings.tiers["free"].job.priority_class_name == "none-such"


def test_a_template_that_is_wrong_from_the_start_stops_only_its_tier(tmp_path: Path, worlds: list[World]) -> None:
    shutil.copytree(TEMPLATES, templates := tmp_path / "templates")
    (templates / "free.yaml.j2").write_text("{{ nothing | tojson }}")
    worlds.append(world := World(tmp_path, Obedient(), templates=templates))
    world.submit("free")
    world.submit("premium")
    world.look()
    assert ["premium" in name for name in world.engine.started] == [True]
    assert "free.yaml.j2" in world.view().reason
    shutil.copy(TEMPLATES / "free.yaml.j2", templates)
    world.look()
    assert len(world.engine.started) == 2


def test_what_keeps_a_starting_job_is_told_to_those_who_wait(world: World) -> None:
    world.submit()
    world.look()
    (name,) = world.engine.started
    world.engine.finish(name, Phase.RUNNING, "ErrImagePull: no such image")
    world.look()
    assert world.view().reason == "a worker is starting: ErrImagePull: no such image"


def test_a_job_that_the_quota_gave_no_pod_is_withdrawn_without_blame(world: World) -> None:
    world.submit()
    world.look()
    (name,) = world.engine.started
    world.engine.finish(name, Phase.REFUSED, "exceeded quota")
    world.engine.most = 0
    world.look()
    assert world.engine.running == {}
    assert world.queue.strikes("free").result(10).count == 0


def test_old_results_go_with_their_blobs_and_orphans_too(world: World) -> None:
    key = world.submit()
    world.look()
    (leased,) = world.lease(world.engine.started[0])
    world.queue.complete(world.engine.started[0], [Completion(key, leased.token, [{}], None, 1.0)]).result(10)
    world.blobs.put("porphan", [[b"x"]])
    aged = DirectoryBlobs(tmp := world.blobs._root, lambda: time.time() + 3 * 86400)
    world.dispatcher._blobs = aged
    waiting = world.submit("premium", deadline=10 * 86400)
    world.look(86400 + 61)
    assert world.queue.get(key).result(10) is None
    assert [path.name for path in tmp.iterdir()] == [waiting]


def test_run_goes_on_after_a_stumble_and_closes_the_engine(world: World) -> None:
    calls = []

    class Once(Obedient):
        def jobs(self, place: Place) -> Sequence[Job]:
            calls.append(1)
            if len(calls) == 1:
                raise RuntimeError("once")
            dispatcher.stop()
            return super().jobs(place)

    engine = Once()
    engine.running["x"] = Job("x", "free", Phase.RUNNING)
    dispatcher = Dispatcher(world.live, world.queue, world.blobs, engine, "http://x", world.clock)
    dispatcher.run()
    assert len(calls) > 1
    assert engine.running == {}
