"""Versions of a model change at random while clients ask and processes die; a server that mixes them up is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.clients import Habits
from tests.faults.databases import Database
from tests.faults.mixed import Manner, run
from tests.faults.rules_of_models import EFFECT_SECONDS, LATE_SECONDS

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

SECONDS = 40.0
FAULTS = ("worker-kill", "worker-term", "server-kill")
PAUSE = (4.0, 9.0)
HABITS = Habits(slow=3)  # no picture kills a worker: else none would live for longer than its model is served


def test_versions_that_change_while_workers_and_servers_die(
    models: Path, tmp_path: Path, each_database: Database, seed: int
) -> None:
    figures = run(tmp_path, models, SECONDS, seed, each_database, FAULTS, manner=Manner(PAUSE, HABITS))
    print(figures.table())  # noqa: T201
    assert figures.violations == []
    assert len(figures.story.did("change")) > 6
    assert len({model for op in figures.story.did("served") for model in op.answer.get("models", ())}) > 1


def test_a_server_that_gives_work_to_outdated_workers_is_found(models: Path, tmp_path: Path, seed: int) -> None:
    # Such a server has nobody answer what is a canary's, and what never ends is the breach of another promise.
    # A model may still come into force some seconds after it was replaced, so it is replaced for longer than that.
    # Every other change names another model, for certain the first one, when no worker may be there, and the third one.
    quiet = EFFECT_SECONDS + 3 * LATE_SECONDS
    manner = Manner(PAUSE, HABITS, "versions", canaries=False, quiet=[quiet])
    figures = run(tmp_path, models, 4 * quiet, seed, Database(), ("liars",), manner=manner)
    print(figures.table())  # noqa: T201
    assert {one.rule for one in figures.violations} == {"answered_by_what_is_served"}
