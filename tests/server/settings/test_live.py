"""Settings in force: taken up when files change, kept for a restart, and never waited for."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from server.settings import apart
from server.settings.blueprints import InForce
from server.settings.judging import judge
from server.settings.kept import Kept
from server.settings.live import AGAIN_SECONDS, Live
from server.settings.manifests import Manifest
from server.settings.sources import ConfigError, Files, Sources
from server.shipped import DEFAULT_VALUES, TEMPLATES
from tests.server.given import HandClock
from tests.waiting import eventually


@pytest.fixture
def files(tmp_path: Path) -> Files:
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    shutil.copy(DEFAULT_VALUES, tmp_path / "values.yaml")
    return Files((tmp_path / "values.yaml",), base=None, templates=tmp_path / "templates")


@pytest.fixture
def kept(tmp_path: Path, files: Files) -> Kept:
    return Kept(tmp_path / "state" / "settings.json", files)


def live(files: Files, kept: Kept | None = None) -> Live:
    return Live(files, kept, judge, patience=30)


def fine(manifest: Manifest) -> None:
    """Every Job could start."""


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def spoil(files: Files) -> None:
    edit(files.values[0], "variant: int8", "variant: int9")


def test_a_restart_with_refused_values_goes_on_with_the_last_good_ones(files: Files, kept: Kept) -> None:
    edit(files.values[0], "queue: 1000 ", "queue: 7 ")
    live(files, kept).refresh(fine)
    spoil(files)
    after = live(files, kept)
    assert after.current.settings.tiers["free"].limits.queue == 7
    assert "int9" in after.problem
    assert after.refresh(fine) is False, "the same wrong files change nothing"
    assert "int9" in after.problem
    edit(files.values[0], "variant: int9", "variant: int8")
    edit(files.values[0], "queue: 7 ", "queue: 8 ")
    assert after.refresh(fine)
    assert (after.problem, after.current.settings.tiers["free"].limits.queue) == ("", 8)


def test_a_change_that_came_into_force_is_what_a_restart_goes_on_with(files: Files, kept: Kept) -> None:
    running = live(files, kept)
    running.refresh(fine)
    edit(files.values[0], "queue: 1000 ", "queue: 9 ")
    assert running.refresh(fine)
    spoil(files)
    assert not running.refresh(fine)
    assert live(files, kept).current.settings.tiers["free"].limits.queue == 9


def test_the_lobby_is_switched_off_without_a_restart(files: Files) -> None:
    running = live(files)
    edit(files.values[0], "lobbySeconds: 1 ", "lobbySeconds: 0 ")
    assert running.refresh(fine)
    assert running.current.settings.lobby_seconds == 0


def test_capacity_and_shares_change_without_a_restart(files: Files) -> None:
    def now() -> tuple[object, int, str]:
        settings = running.current.settings
        return settings.capacity, settings.tiers["free"].share, settings.tiers["free"].quota["cpu"]

    running = live(files)
    assert now() == ({}, 1, "2")
    edit(files.values[0], "capacity: {} ", 'capacity: {cpu: "4"} ')
    edit(files.values[0], "share: 1 ", "share: 3 ")
    edit(files.values[0], '      cpu: "2"\n', "")
    assert running.refresh(fine)
    assert now() == ({"cpu": "4"}, 3, "4")
    edit(files.values[0], 'capacity: {cpu: "4"} ', 'capacity: {cpu: "3"} ')
    assert not running.refresh(fine)
    assert "tiers.premium.quota.cpu is 4, more than capacity.cpu, 3" in running.problem
    assert now() == ({"cpu": "4"}, 3, "4")
    edit(files.values[0], 'capacity: {cpu: "3"} ', "capacity: {} ")
    assert not running.refresh(fine)
    assert "tiers.free.share is 3" in running.problem
    edit(files.values[0], "share: 3 ", "share: 1 ")
    assert running.refresh(fine)
    assert (running.problem, running.current.settings.capacity) == ("", {})


def test_a_restart_with_a_refused_template_stops_no_tier(files: Files, kept: Kept) -> None:
    live(files, kept).refresh(fine)
    (files.templates / "free.yaml.j2").write_text("{{ nothing | tojson }}")
    after = live(files, kept)
    assert after.current.blueprints.broken == {}
    assert "'nothing' is undefined" in after.problem


def test_values_that_vanished_are_no_reason_to_stop(files: Files, kept: Kept) -> None:
    live(files, kept).refresh(fine)
    files.values[0].unlink()
    assert "No such file" in live(files, kept).problem


def test_a_first_start_with_wrong_values_fails(files: Files, kept: Kept) -> None:
    spoil(files)
    with pytest.raises(ConfigError, match="int9"):
        live(files, kept)


def test_nothing_is_kept_before_the_server_works(files: Files, kept: Kept, tmp_path: Path) -> None:
    live(files, kept)
    assert not (tmp_path / "state").exists()


def test_a_wrong_flag_fails_whatever_was_kept(files: Files, kept: Kept, tmp_path: Path) -> None:
    live(files, kept).refresh(fine)
    flagged = Files(files.values, ("tiers.free.model.variant=int9",), None, files.templates)
    with pytest.raises(ConfigError, match="--set"):
        live(flagged, Kept(tmp_path / "state" / "settings.json", flagged))


def test_flags_go_over_the_kept_values(files: Files, kept: Kept, tmp_path: Path) -> None:
    live(files, kept).refresh(fine)
    spoil(files)
    flagged = Files(files.values, ("tiers.premium.limits.queue=3",), None, files.templates)
    after = live(flagged, Kept(tmp_path / "state" / "settings.json", flagged))
    assert after.current.settings.tiers["premium"].limits.queue == 3


def test_values_of_other_files_are_not_gone_on_with(files: Files, kept: Kept, tmp_path: Path) -> None:
    live(files, kept).refresh(fine)
    other = Files((tmp_path / "other.yaml",), (), None, files.templates)
    other.values[0].write_text("tiers: 1\n")
    with pytest.raises(ConfigError):
        live(other, Kept(tmp_path / "state" / "settings.json", other))


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, '{"version": 2}', '{"version": 1, "files": []}', "\x00"])
def test_a_damaged_file_counts_as_none(files: Files, kept: Kept, tmp_path: Path, text: str) -> None:
    live(files, kept).refresh(fine)
    (tmp_path / "state" / "settings.json").write_text(text)
    assert kept.read() is None
    assert live(files, kept).problem == ""


def test_the_kept_file_is_ours_alone_and_no_link_is_followed(files: Files, kept: Kept, tmp_path: Path) -> None:
    path, precious = tmp_path / "state" / "settings.json", tmp_path / "precious"
    precious.write_text("precious")
    path.parent.mkdir()
    for name in (path, path.with_name("settings.json.new")):
        name.symlink_to(precious)
    assert kept.read() is None
    live(files, kept).refresh(fine)
    assert precious.read_text() == "precious"
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert kept.read() == files.read()
    path.chmod(0o602)
    assert kept.read() is None
    path.unlink()
    os.mkfifo(path)
    assert kept.read() is None


def test_settings_that_cannot_be_kept_are_in_force_all_the_same(
    files: Files, kept: Kept, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("no folder")
    clock = HandClock()
    running = Live(files, kept, judge, clock, patience=30)
    for _ in range(3):
        running.refresh(fine)
        clock.now += AGAIN_SECONDS
    assert len(caplog.records) == 1, "told once"
    (tmp_path / "state").unlink()
    running.refresh(fine)
    assert kept.read() == files.read(), "tried again"


class Slow:
    """Judges when it is let to."""

    def __init__(self) -> None:
        self.free, self.asked = threading.Event(), 0
        self.free.set()

    def __call__(self, sources: Sources) -> InForce:
        self.asked += 1
        assert self.free.wait(60)
        return judge(sources)


def test_a_judgement_that_takes_long_is_not_waited_for_and_is_told(files: Files) -> None:
    slow = Slow()
    running = Live(files, judge=slow, patience=0.01)
    slow.free.clear()
    edit(files.values[0], "queue: 1000 ", "queue: 7 ")
    for _ in range(3):
        assert not running.refresh(fine)
    assert running.problem == "the changed settings and templates are still being checked"
    assert slow.asked == 2, "one judgement at a time"
    slow.free.set()
    eventually(lambda: running.refresh(fine), 30, "the change is in force")
    assert (running.problem, running.current.settings.tiers["free"].limits.queue) == ("", 7)


class Written(Files):
    """Files that somebody changes while they are read, from 6 places in a queue to 7."""

    def read(self) -> Sources:
        sources = super().read()
        if "queue: 7 " not in sources.layers[0][1]:
            edit(self.values[0], "queue: 6 ", "queue: 7 ")
        return sources


def test_files_that_change_while_they_are_read_are_read_again(files: Files) -> None:
    edit(files.values[0], "queue: 1000 ", "queue: 6 ")
    running = Live(Written(files.values, (), None, files.templates), judge=judge, patience=30)
    edit(files.values[0], "queue: 7 ", "queue: 6 ")
    assert not running.refresh(fine)
    assert running.refresh(fine)
    assert running.current.settings.tiers["free"].limits.queue == 7


def test_a_file_that_is_emptied_before_it_is_written_does_not_come_into_force_empty(files: Files) -> None:
    text = files.values[0].read_text().replace("queue: 1000 ", "queue: 7 ")

    def written(sources: Sources) -> InForce:
        if not files.values[0].stat().st_size:
            files.values[0].write_text(text)
        return judge(sources)

    running = Live(files, judge=written, patience=30)
    files.values[0].write_text("")
    assert not running.refresh(fine)
    assert running.refresh(fine)
    assert running.current.settings.tiers["free"].limits.queue == 7


def test_a_judgement_that_failed_for_no_fault_of_the_files_is_made_again(files: Files) -> None:
    clock, fails = HandClock(), [apart.NotJudged([]), RuntimeError("a mistake")]
    troubles: list[Exception] = []

    def judged(sources: Sources) -> InForce:
        if troubles:
            raise troubles.pop()
        return judge(sources)

    running = Live(files, judge=judged, clock=clock, patience=30)
    for trouble in fails:
        troubles.append(trouble)
        edit(files.values[0], "# ", "#  ")
        assert not running.refresh(fine)
        clock.now += AGAIN_SECONDS
        assert running.refresh(fine)
