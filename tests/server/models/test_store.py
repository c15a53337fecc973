"""The store of pushed models: no sweep takes a file from a model, whatever is pushed and removed meanwhile."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from server.blobs import DirectoryFiles
from server.models.orphans import LOOK_SECONDS, Orphans
from server.models.pushed import checked, digest_of
from server.models.store import TRUSTED_SECONDS, Store, pick
from server.problems import Problem
from server.queue import Queue, SQLite, StoredModel
from server.settings.records import StoreLimits
from tests.server.given import HandClock
from tests.server.pushed_models import digest_as_built, record, sha256

FILES = (b"1", b"2", b"3")
LIMITS = StoreLimits(bytes=1000, model_bytes=100)


class Dated(DirectoryFiles):
    """Dates its files by the clock of the test."""

    def __init__(self, root: Path, clock: HandClock) -> None:
        super().__init__(root)
        self.root, self._clock = root, clock

    def put(self, sha256: str, size: int, chunks: Iterable[bytes]) -> None:
        super().put(sha256, size, chunks)
        os.utime(self.root / sha256, (self._clock(), self._clock()))

    def _now(self) -> float:
        return self._clock()


class Held(Store):
    """Lets something happen in a push, after it has found its files and before its row is committed."""

    between: Callable[[], object] = staticmethod(lambda: None)

    def _check_files(self, model: StoredModel, of_models: dict[str, int]) -> None:
        super()._check_files(model, of_models)
        self.between()


class World:
    """A store on a real database and real files, and what looks for orphans."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.database = SQLite.open(folder / "data", self.clock)
        self.queue = Queue(self.database)
        self.files = Dated(folder / "store", self.clock)
        self.store = Held(self.queue, self.files, lambda: LIMITS)
        self.orphans = Orphans(self.queue, self.files, self.clock)

    def close(self) -> None:
        self.database.close()
        self.files.close()

    def bring(self, *files: bytes) -> None:
        for data in files:
            self.store.put(sha256(data), len(data), [data])

    def push(self, name: str, *files: bytes) -> StoredModel:
        model = checked(record(name, *files))
        self.store.push(model, [])
        return model

    def remove(self, model: StoredModel) -> None:
        self.queue.remove_model(model.name, model.version).result(10)

    def look(self, times: int = 1, seconds: float = LOOK_SECONDS) -> None:
        for _ in range(times):
            self.clock.advance(seconds)
            self.orphans.step(lambda: False)

    def left(self) -> list[str]:
        return sorted(found.sha256 for found in self.files.listed())

    def broken(self) -> list[str]:
        """The models that lack a file."""
        there = set(self.left())
        return [model.reference for model in self.store.models() if not there >= {file.sha256 for file in model.files}]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_files_that_no_model_has_go_at_the_second_look(world: World) -> None:
    world.bring(b"1", b"2")
    world.push("flowers", b"1")
    world.clock.advance(2 * TRUSTED_SECONDS - LOOK_SECONDS)
    world.look()
    assert len(world.left()) == 2, "one look is not enough"
    world.look(3, LOOK_SECONDS / 3.1)
    assert len(world.left()) == 2, "looks that follow too soon are not enough"
    world.look()
    assert world.left() == [sha256(b"1")]


def test_a_push_has_hours_for_bringing_its_files(world: World) -> None:
    world.bring(b"1")
    world.look(int(2 * TRUSTED_SECONDS / LOOK_SECONDS) - 1)
    assert world.left() == [sha256(b"1")]
    world.bring(b"1")
    world.look(int(2 * TRUSTED_SECONDS / LOOK_SECONDS) - 1)
    assert world.left() == [sha256(b"1")], "a file that is brought again is as good as a new one"


def test_files_of_a_removed_model_go_but_those_of_others_stay(world: World) -> None:
    world.bring(b"1", b"2")
    old = world.push("flowers", b"1", b"2")
    world.push("tulips", b"2")
    world.clock.advance(10 * TRUSTED_SECONDS)
    world.look(3)
    assert len(world.left()) == 2
    world.remove(old)
    world.look(2)
    assert world.left() == [sha256(b"2")]


def test_a_file_that_a_model_has_again_is_no_suspect_any_more(world: World) -> None:
    world.bring(b"1")
    world.clock.advance(2 * TRUSTED_SECONDS)
    world.look()
    world.bring(b"1")
    model = world.push("flowers", b"1")
    world.clock.advance(2 * TRUSTED_SECONDS)
    world.look()
    world.remove(model)
    world.look()
    assert world.left() == [sha256(b"1")]
    world.look()
    assert world.left() == []


def test_a_sweep_ends_between_two_files(world: World) -> None:
    world.bring(*FILES)
    world.clock.advance(2 * TRUSTED_SECONDS)
    world.look()
    answers = iter([False, True])
    world.clock.advance(LOOK_SECONDS)
    world.orphans.step(lambda: next(answers))
    assert len(world.left()) == 2


def test_a_push_that_stood_still_for_hours_leaves_no_broken_model(world: World) -> None:
    world.bring(b"1")

    def hours() -> None:
        world.clock.advance(3 * TRUSTED_SECONDS)
        world.look(2)

    world.store.between = hours
    with pytest.raises(Problem) as refused:
        world.push("flowers", b"1")
    assert refused.value.body["code"] == "missing_file"
    assert (world.store.models(), world.left()) == ([], [])


def test_a_model_whose_file_is_gone_is_whole_again_after_a_push(world: World) -> None:
    world.bring(b"1")
    model = world.push("flowers", b"1")
    world.files.delete(sha256(b"1"))
    with pytest.raises(Problem) as refused:
        world.push("flowers", b"1")
    assert refused.value.body["missing"] == [sha256(b"1")]
    assert [one.reference for one in world.store.models()] == [model.reference], "it is still there for others to see"
    world.bring(b"1")
    world.push("flowers", b"1")
    assert world.broken() == []


class Machine(RuleBasedStateMachine):
    """Pushes, removals, waiting and looks in any order, also within a push."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))

    def teardown(self) -> None:
        self.world.close()
        self.folder.cleanup()

    @rule(data=st.sampled_from(FILES))
    def bring(self, data: bytes) -> None:
        self.world.bring(data)

    @rule(name=st.sampled_from("ab"), files=st.sets(st.sampled_from(FILES), min_size=1))
    def push(self, name: str, files: set[bytes]) -> None:
        self.try_to_push(name, sorted(files))

    @rule(
        name=st.sampled_from("ab"),
        files=st.sets(st.sampled_from(FILES), min_size=1),
        removed=st.lists(st.integers(0, 5)),
        seconds=st.sampled_from([0.0, 1.0, 30.0]),
    )
    def push_while_others_are_removed(self, name: str, files: set[bytes], removed: list[int], seconds: float) -> None:
        def between() -> None:
            for number in removed:
                self.remove(number)
            self.world.look(1, seconds)

        self.world.store.between = between
        self.try_to_push(name, sorted(files))
        self.world.store.between = lambda: None

    @rule(number=st.integers(0, 5))
    def remove(self, number: int) -> None:
        models = self.world.store.models()
        if models:
            self.world.remove(models[number % len(models)])

    @rule(seconds=st.sampled_from([1.0, 60.0, LOOK_SECONDS, TRUSTED_SECONDS, 2 * TRUSTED_SECONDS]))
    def wait_and_look(self, seconds: float) -> None:
        self.world.look(1, seconds)

    @rule(seconds=st.sampled_from([60.0, TRUSTED_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @invariant()
    def every_model_has_its_files(self) -> None:
        assert self.world.broken() == []

    def try_to_push(self, name: str, files: Sequence[bytes]) -> None:
        with suppress(Problem):
            self.world.push(name, *files)


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

_numbers = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-1000, 1000)
_json = st.recursive(
    st.none() | st.booleans() | _numbers | st.text(max_size=5),
    lambda more: st.lists(more, max_size=3) | st.dictionaries(st.text(max_size=3), more, max_size=3),
    max_leaves=5,
)


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=5), min_size=1),
    arguments=st.dictionaries(st.text(max_size=5), _json, max_size=3),
    mean=st.lists(_numbers, min_size=3, max_size=3),
    files=st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=3),
)
def test_the_digest_is_that_of_a_build(labels: object, arguments: object, mean: object, files: list[bytes]) -> None:
    made = record("a", *files, labels=["x"], arguments=arguments)
    made |= {"labels": labels, "preprocessing": made["preprocessing"] | {"mean": mean}}
    assert digest_of(made) == digest_as_built(made)


def test_a_name_alone_is_what_was_pushed_last() -> None:
    def made(version: str, *tags: str, latest: bool = False, name: str = "a") -> StoredModel:
        return StoredModel(name, version, version * 8, "", (), 0.0, tags, latest)

    of_a = [made("00000001", "best"), made("00000002", latest=True)]
    models = [*of_a, made("00000003", "best", latest=True, name="b")]
    names = ("a", "a@best", "a@00000001", "b@best", "b@00000001", "c", "a@", "")
    found = {name: model.version if (model := pick(models, name)) else None for name in names}
    assert found == {
        "a": "00000002",
        "a@best": "00000001",
        "a@00000001": "00000001",
        "b@best": "00000003",
        "b@00000001": None,
        "c": None,
        "a@": None,
        "": None,
    }
