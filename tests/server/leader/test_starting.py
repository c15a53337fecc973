"""Starting: whatever the engine does, promises are kept and no Job is started without need."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from server.engines.base import Job, Phase, Room
from server.leader.planning import BREAKER_FIRST
from server.queue import Completion, Status
from server.settings.live import AGAIN_SECONDS
from server.settings.manifests import Manifest
from server.settings.records import Tier
from server.shipped import TEMPLATES
from tests.server.leader.leader_world import Obedient, Refusing, Stillborn, Unreachable, World


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


def test_a_worker_that_only_renews_is_heard(world: World) -> None:
    world.submit()
    world.look()
    (name,) = world.engine.started
    (leased,) = world.lease(name, most=1)
    done = Completion(id=leased.id, token=leased.token, results=[{}], error=None, predict_ms=1.0)
    world.queue.complete(name, [done]).result(10)
    for _ in range(10):
        assert not world.queue.extend(name, [], world.settings.lease.seconds).result(10)
        world.look(world.settings.lease.seconds / 2)
    assert name in world.engine.running
    world.look(world.settings.lease.seconds)
    assert world.engine.stopped_at_once == [name]


def test_a_job_nobody_knows_is_stopped(world: World) -> None:
    stranger = Job(name="tierserve-free-stranger", tier="free", phase=Phase.RUNNING)
    world.engine.running[stranger.name] = stranger
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


def test_an_engine_that_cannot_be_asked_stops_nothing_else(tmp_path: Path, worlds: list[World]) -> None:
    worlds.append(world := World(tmp_path, Unreachable()))
    key = world.submit(deadline=5)
    world.look()
    world.submit()
    world.look(6)
    assert world.get(key).status is Status.ABORTED
    assert (world.view().healthy, world.view().reason) == (False, "no answer")


def test_a_caution_is_told_once_and_keeps_no_job_from_starting(
    tmp_path: Path, worlds: list[World], caplog: pytest.LogCaptureFixture
) -> None:
    class Cautious(Obedient):
        said = "Pod Security enforces nothing"

        def caution(self, tier: Tier) -> str:
            return self.said if tier.name == "free" else ""

    engine = Cautious()
    worlds.append(world := World(tmp_path, engine))
    world.submit()
    for _ in range(3):
        world.look()
    assert (len(engine.started), world.view().healthy, world.view().caution) == (1, True, engine.said)
    assert [record.getMessage() for record in caplog.records] == [f"tier free: {engine.said}"]
    assert world.view("premium").caution == ""
    engine.said = ""
    world.look()
    assert world.view().caution == ""


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_changed_values_are_taken_up_while_it_runs(editable: World, tmp_path: Path) -> None:
    edit(tmp_path / "values.yaml", "queue: 1000 ", "queue: 7 ")
    editable.look()
    assert editable.live.current.settings.tiers["free"].limits.queue == 7
    assert editable.live.problem == ""


def test_a_new_tier_is_served_at_once(editable: World, tmp_path: Path) -> None:
    text = (tmp_path / "values.yaml").read_text()
    gold = text[text.index("  premium:") :].split("\n\n")[0].replace("premium", "gold")
    edit(tmp_path / "values.yaml", "tiers:\n", f"tiers:\n{gold.replace('gold.yaml', 'premium.yaml').rstrip()}\n")
    editable.look()
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
    world.engine.finish(name, Phase.OVER_QUOTA, "exceeded quota")
    world.engine.most = 0
    world.look()
    assert world.engine.running == {}
    assert world.queue.strikes("free").result(10).count == 0


def test_a_server_that_does_not_lead_takes_changes_up_and_starts_nothing(editable: World, tmp_path: Path) -> None:
    edit(tmp_path / "values.yaml", "queue: 1000 ", "queue: 7 ")
    editable.submit()
    editable.leader.starting.step(None)
    assert editable.live.current.settings.tiers["free"].limits.queue == 7
    assert editable.engine.started == []
    assert editable.queue.views().result(10) == {}


def test_every_tier_is_seen_before_any_job_is_started(tmp_path: Path, worlds: list[World]) -> None:
    class Noting(Obedient):
        """Records what it is asked, in order."""

        def __init__(self) -> None:
            super().__init__()
            self.asked: list[tuple[str, str]] = []

        def room(self, tier: Tier, manifest: Manifest) -> Room:
            self.asked.append(("room", tier.name))
            return super().room(tier, manifest)

        def start(self, tier: Tier, manifest: Manifest) -> None:
            self.asked.append(("start", tier.name))
            super().start(tier, manifest)

    worlds.append(world := World(tmp_path, engine := Noting()))
    world.submit("free")
    world.submit("premium")
    world.look()
    assert engine.asked == [("room", "free"), ("room", "premium"), ("start", "free"), ("start", "premium")]


def test_what_was_seen_is_told_at_news_and_every_three_ticks(world: World) -> None:
    def seen_at() -> float:
        at = world.view().seen_at
        assert at is not None
        return at

    world.look()
    first = seen_at()
    world.look()
    world.look()
    assert seen_at() == first
    world.look()
    assert seen_at() == first + 3
    world.submit()
    world.look()
    assert (seen_at(), world.view().reason) == (first + 4, "a worker is starting")


def test_a_new_term_tells_readers_at_once(world: World) -> None:
    world.look()
    first = world.view().seen_at
    world.leader = world.another()
    world.look()
    assert world.view().seen_at != first
