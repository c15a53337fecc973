"""A zygote for the tests of a module, worlds in which each test tries one fault, and the channel of a Job in one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.channel import Channel
from tests.faults.databases import POSTGRESQL, SQLITE, Database, database
from tests.faults.history import History
from tests.faults.pictures import Pictures
from tests.faults.world import World
from tests.faults.zygote import Zygote
from tests.postgres import need_postgres
from tests.waiting import eventually

Begin = Callable[..., World]


def work_in(world: World, number: int = -1) -> Channel:
    """The channel of a Job of this server, which has opened its door; the newest one's is -1."""
    tokens = eventually(world.doors.tokens, 30, "Jobs have told their tokens", lambda found: len(found) >= -number)
    channel = Channel(f"http://127.0.0.1:{world.service.internal_port}", tokens[number])
    channel.hold()
    return channel


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def each_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == POSTGRESQL:
        need_postgres()
    with database(request.param) as found:
        yield found


@pytest.fixture
def seed() -> int:
    """A new seed. It is printed, so that ``python -m tests.faults`` can repeat the run."""
    found = random.randrange(1 << 32)
    print(f"seed {found}")  # noqa: T201
    return found


@pytest.fixture(scope="session")
def pictures(models: Path) -> Pictures:
    return Pictures(models)


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with Zygote(tmp_path_factory.mktemp("zygote"), b"not a secret") as found:
        yield found


@pytest.fixture
def begin(models: Path, tmp_path: Path, zygote: Zygote) -> Iterator[Begin]:
    """Makes a world and starts its server. ``real``: it has real workers; otherwise the test is the worker."""
    with ExitStack() as stack:
        history = History(tmp_path / "history.jsonl")
        stack.callback(history.close)

        def make(*settings: str, real: bool = False, folder: Path | None = None) -> World:
            world = stack.enter_context(
                World(folder or tmp_path / "world", models, zygote, history, settings, Database())
            )
            world.start(real=real)
            assert world.wait_up()
            assert world.get("/healthz").status == 200
            return world

        yield make
