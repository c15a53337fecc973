"""Decides what the tiers serve, and stores it where every server reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from server.leader.answers import answer
from server.models import Catalog, NoModel, decide, with_canary
from server.queue import Queue, Serving
from server.settings.live import Unusable
from server.settings.records import Settings, Tier

log = logging.getLogger(__name__)

UNKNOWN = Serving()
TRIES = 3


class Deciding:
    """Works for one thread. ``clock`` gives epoch seconds. It remembers only what it has read and stored last."""

    def __init__(self, queue: Queue, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._queue, self._catalog, self._clock = queue, catalog, clock
        self._stored: dict[str, Serving] = {}

    def check(self, changed: Settings, current: Settings) -> None:
        """Raises ``Unusable`` if a tier is changed to a model that cannot be served, and what the queue raises."""
        self._catalog.refresh()
        for name, tier in changed.tiers.items():
            before = current.tiers.get(name)
            same = before and (before.model, before.job.model_storage) == (tier.model, tier.job.model_storage)
            if same:
                continue  # a tag that has moved since shall not stand in the way of other changes
            for model in (tier.model, tier.model.canary):
                if model is not None:
                    self._check(tier, model.name)

    def _check(self, tier: Tier, model: str) -> None:
        try:
            self._catalog.usable(tier, model)
        except NoModel as error:
            raise Unusable(f"tier {tier.name} cannot serve {model}: {error}") from error

    def step(self, tiers: Mapping[str, Tier]) -> dict[str, Serving]:
        """Decide what each tier serves, and store what has changed. Raises what the queue raises."""
        self._catalog.refresh()
        self._stored = answer(self._queue.serving())
        for name in self._stored.keys() - tiers.keys():
            answer(self._queue.forget_serving(name))
        return {name: self._decide(tier) for name, tier in tiers.items()}

    def _decide(self, tier: Tier) -> Serving:
        for _ in range(TRIES):
            before = self._stored.get(tier.name, UNKNOWN)
            now = decide(tier.model, before, partial(self._catalog.usable, tier), self._clock())
            if _choice(now) == _choice(before) or self._store(tier.name, now):
                return now
            self._stored = answer(self._queue.serving())  # an operator has rolled it back meanwhile
        return self._stored.get(tier.name, UNKNOWN)

    def settle(self, tier: Tier, serving: Serving, obstacle: str) -> Serving:
        """What ``step`` decided, once its Jobs were looked at: without an ``obstacle`` its canary gets predictions."""
        settled = with_canary(serving, tier.model, obstacle)
        if settled != self._stored.get(tier.name, UNKNOWN):
            self._store(tier.name, settled)  # if an operator was faster, the next step begins with what he did
        return settled

    def _store(self, tier: str, serving: Serving) -> bool:
        before = self._stored.get(tier, UNKNOWN)
        if not answer(self._queue.serve(tier, serving, before)):
            return False
        self._stored[tier] = serving
        if serving.main != before.main and serving.main is not None:
            log.info("tier %s serves %s from now on", tier, serving.main.key)
        if serving.problem != before.problem:
            log.warning("tier %s: %s", tier, serving.problem or "it serves what its settings say")
        return True


def _choice(serving: Serving) -> Serving:
    """Without what only a look at the Jobs tells."""
    return replace(serving, percent=0.0, problem="")
