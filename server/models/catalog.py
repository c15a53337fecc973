"""All models that tiers can serve: those that were pushed, then those of the folder."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import TypeVar

from server.models.folder import Models, NoModel, Record, lacking
from server.queue import Queue, StoredModel
from server.settings.quantity import parse_quantity
from server.settings.records import Tier

ANSWER_SECONDS = 30.0  # longer than the database may take for a statement or a lock
PUSH = "tierserve model push DIR"
OTHERS_SHOWN = 10
MEBI = 1024 * 1024

T = TypeVar("T")


class Catalog:
    """Knows what was pushed as of the last ``refresh``. Every method may block, and raises what the queue raises.

    ``folder`` has the models of this machine, or the records of those in the workers' image. Safe from any thread.
    """

    def __init__(self, queue: Queue, folder: Models | None = None) -> None:
        self._queue, self._folder = queue, folder
        self._lock = threading.RLock()
        self._number = -1
        self._named: dict[str, StoredModel] = {}
        self._kept: dict[str, Record] = {}
        self._used: set[str] = set()

    def refresh(self) -> None:
        """Take what was pushed, tagged and removed; forget the records that were not used since the last time."""
        with self._lock:
            self._kept = {reference: record for reference, record in self._kept.items() if reference in self._used}
            if self._folder is not None:
                self._folder.keep_only(self._used)
            self._used = set()
            number = _answer(self._queue.models_changed())
            if number != self._number:
                self._named = {name: model for model in _answer(self._queue.models()) for name in _names(model)}
                self._number = number

    def find(self, name: str) -> Record:
        """The model of this name: ``NAME``, ``NAME@VERSION`` or ``NAME@TAG``. Raises ``NoModel``."""
        with self._lock:
            if (stored := self._named.get(name)) is not None:
                return self._record(stored)
            if self._folder is None:
                raise NoModel(f"no model {name} was pushed{self._others(name)}. Push it: {PUSH}")
            self._used.add(name)
            try:
                return self._folder.read(name)
            except NoModel as error:
                raise NoModel(f"{error}. Or push it{self._others(name)}: {PUSH}") from error

    def usable(self, tier: Tier, name: str) -> Record:
        """The same, if workers of the tier can run it. Raises ``NoModel``."""
        record = self.find(name)
        sentence = lacking(record, tier) or (_too_large(record, tier) if name in self._named else "")
        if sentence:
            raise NoModel(sentence)
        return record

    def records(self, references: Iterable[str]) -> dict[str, Record]:
        """The models of these names, as far as there are such, by name; ``refresh`` included."""
        found = {}
        with self._lock:
            self.refresh()
            for reference in references:
                try:
                    found[reference] = self.find(reference)
                except NoModel:
                    continue
        return found

    def _record(self, stored: StoredModel) -> Record:
        reference = stored.reference
        self._used.add(reference)
        kept = self._kept.get(reference)
        if kept is not None and kept.digest == stored.digest:
            return kept
        whole = _answer(self._queue.model(stored.name, stored.version))
        if whole is None:
            raise NoModel(f"{reference} was removed just now. Push it: {PUSH}")
        try:
            record = self._kept[reference] = Record.parse(whole.record)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise NoModel(f"the record of {reference} cannot be read ({error}). Push it again: {PUSH}") from error
        return record

    def _others(self, name: str) -> str:
        others = sorted(
            other for other, model in self._named.items() if "@" in other and model.name == name.split("@")[0]
        )
        return f", where there are {', '.join(others[:OTHERS_SHOWN])}" if others else ""


def _names(model: StoredModel) -> list[str]:
    tags = [f"{model.name}@{tag}" for tag in model.tags]
    return [model.reference, *tags, *([model.name] if model.latest else [])]


def _too_large(record: Record, tier: Tier) -> str:
    """Say that workers have too little disk for a model that was pushed; empty if they have enough."""
    variant = record.variant(tier.model.runtime, tier.model.variant)
    storage = parse_quantity(tier.job.model_storage)
    if variant is None or variant.bytes <= storage:
        return ""
    key, enough = f"tiers.{tier.name}.job.modelStorage", math.ceil(variant.bytes / MEBI)
    has = f"{record.reference} has {variant.bytes} bytes as {variant.name}"
    return f"{has}, more than the {tier.job.model_storage} of {key}: --set {key}={enough}Mi"


def _answer(future: Future[T]) -> T:
    return future.result(ANSWER_SECONDS)
