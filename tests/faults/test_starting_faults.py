"""Rows 14 and 15 of the list of faults: an engine that fails at random, also after it has done what was asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from server.engines.base import EngineError, Job, Room
from server.queue import Completion
from server.settings.manifests import Manifest
from server.settings.records import Tier
from tests.server.leader.leader_world import Obedient, World

pytestmark = pytest.mark.faults

SHARE = 0.3
MOST, PREDICTIONS, LOOKS = 3, 40, 400


class Fickle(Obedient):
    """Fails at about every third call. A call to ``start`` may fail after the Job has started."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(MOST)
        self._chance, self.fails = chance, True

    def check(self, manifest: Manifest) -> None:
        self._may_fail("429 Too Many Requests")
        super().check(manifest)

    def room(self, tier: Tier, manifest: Manifest) -> Room:
        self._may_fail("500 Internal Server Error")
        return super().room(tier, manifest)

    def jobs(self, tier: Tier) -> Sequence[Job]:
        self._may_fail("no answer within 30 s")
        return super().jobs(tier)

    def start(self, tier: Tier, manifest: Manifest) -> None:
        self._may_fail("no answer within 30 s")
        super().start(tier, manifest)
        self._may_fail("the answer was lost")

    def stop(self, name: str, *, at_once: bool = False) -> None:
        self._may_fail("409 Conflict")
        super().stop(name, at_once=at_once)

    def _may_fail(self, how: str) -> None:
        if self.fails and self._chance.random() < SHARE:
            raise EngineError(how)


def test_14_an_engine_that_fails_at_random_gets_no_job_twice(tmp_path: Path, seed: int) -> None:
    engine = Fickle(random.Random(seed))
    world = World(tmp_path, engine)
    waiting = {world.submit() for _ in range(PREDICTIONS)}
    for look in range(LOOKS):
        engine.fails = look < LOOKS / 2  # in the second half everything must come to its end
        try:
            world.look()
        except EngineError:
            continue
        assert len(engine.running) <= MOST
        known = {row.name for row in world.queue.jobs().result(10)}
        assert known >= engine.running.keys() or engine.fails
        for name in engine.running.keys() & known:
            for one in world.lease(name):
                done = Completion(id=one.id, token=one.token, results=[{"labels": []}], error=None, predict_ms=1.0)
                assert world.queue.complete(name, [done]).result(10) == ["accepted"]
                waiting.discard(one.id)
    assert not waiting
    assert len(set(engine.started)) == len(engine.started)
    assert engine.running.keys() <= {row.name for row in world.queue.jobs().result(10)}
    world.database.close()
