"""The models that operators pushed: their rows in the database, and their files by digest.

A push brings the files first, then the record, which makes them a model. Until then no model has them. So that nothing
deletes a file on which a push counts, it may count on one only as long as ``TRUSTED_SECONDS`` have not passed since it
came, or while another model has it; and what no model has is deleted only when it is twice as old (``Orphans``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from server.blobs import BlobsFull, Files, WrongFile
from server.problems import Problem
from server.queue import Queue, Serving, StoredModel, TooManyModels, TooManyTags, VersionTaken
from server.settings.records import StoreLimits, Tier

ANSWER_SECONDS = 30.0  # longer than the database may take for a statement or a lock
TRUSTED_SECONDS = 3600.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Summary:
    """What a list of models says of one: how many classes it has; runtime, name and bytes of each variant."""

    classes: int
    variants: tuple[tuple[str, str, int], ...]


class Store:
    """Pushed models. Every method may block, and raises ``Problem``, ``BlobError``, and what the queue raises.

    Safe from any thread.
    """

    def __init__(self, queue: Queue, files: Files, limits: Callable[[], StoreLimits]) -> None:
        self._queue, self.files, self._limits = queue, files, limits
        self._summaries: dict[str, Summary] = {}

    def has(self, sha256: str) -> int | None:
        """The size of a file on which a push may count; None: it must bring it."""
        return self._trusted(sha256, _sizes(self._models()))

    def check_room(self, sha256: str, size: int) -> None:
        """Raises ``Problem`` if a file of this size may not come: 413, or 409 when the limit of all is reached."""
        limits = self._limits()
        if size > limits.model_bytes:
            raise too_large(size, limits.model_bytes)
        sizes = _sizes(self._models())
        for found in self.files.listed():
            if found.age < TRUSTED_SECONDS:
                sizes[found.sha256] = found.size
        sizes.pop(sha256, None)
        _check_total(sum(sizes.values()), size, limits.bytes)

    def put(self, sha256: str, size: int, chunks: Iterable[bytes]) -> bool:
        """Store a file; whether it is new. Raises ``Problem`` too if it is another one, or the disk is full."""
        new = self.files.has(sha256) is None
        try:
            self.files.put(sha256, size, chunks)
        except WrongFile as error:
            detail = f"the file was not kept: {error}"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "wrong_digest", detail) from error
        except BlobsFull as error:
            detail = f"the file was not kept: {error}"
            raise Problem(HTTPStatus.INSUFFICIENT_STORAGE, "store_full", detail, **error.numbers) from error
        return new

    def push(self, model: StoredModel, tags: Sequence[str]) -> bool:
        """Keep a model whose files are here, all of it or nothing; whether it is new."""
        limits, models = self._limits(), self._models()
        if model.bytes > limits.model_bytes:
            raise too_large(model.bytes, limits.model_bytes)
        sizes = _sizes(models)
        self._check_files(model, sizes)
        others = sum(size for sha256, size in sizes.items() if all(file.sha256 != sha256 for file in model.files))
        _check_total(others, model.bytes, limits.bytes)
        try:
            new = _answer(self._queue.add_model(model, tags))
        except (TooManyModels, TooManyTags) as error:
            code = "too_many_models" if isinstance(error, TooManyModels) else "too_many_tags"
            raise Problem(HTTPStatus.CONFLICT, code, str(error), limit_count=error.limit) from error
        except VersionTaken as error:
            raise Problem(HTTPStatus.CONFLICT, "version_taken", str(error)) from error
        # A server that stood still since it looked may find that a sweep took them for nobody's.
        if gone := [file.sha256 for file in model.files if self.files.has(file.sha256) is None]:
            if new:
                _answer(self._queue.remove_model(model.name, model.version))
            raise _missing(gone)
        return new

    def models(self) -> list[StoredModel]:
        """All models, without their records."""
        models = self._models()
        digests = {model.digest for model in models}
        self._summaries = {digest: told for digest, told in self._summaries.copy().items() if digest in digests}
        return models

    def summary(self, model: StoredModel) -> Summary:
        """What its record says in short. It is read only once."""
        if (known := self._summaries.get(model.digest)) is not None:
            return known
        text = model.record or self.find(model.reference).record
        record = json.loads(text)
        variants = tuple((one["runtime"], one["name"], one["bytes"]) for one in record["variants"])
        told = self._summaries[model.digest] = Summary(len(record["labels"]), variants)
        return told

    def find(self, reference: str) -> StoredModel:
        """The model of ``NAME@VERSION``, ``NAME@TAG`` or ``NAME``, with its record. Raises ``Problem`` with 404."""
        models = self._models()
        found = pick(models, reference)
        whole = None if found is None else _answer(self._queue.model(found.name, found.version))
        if whole is None:
            raise _no_such_model(models, reference)
        return whole

    def tag(self, model: StoredModel, tag: str) -> None:
        """Let a tag point to a model."""
        try:
            tagged = _answer(self._queue.tag_model(model.name, tag, model.version))
        except TooManyTags as error:
            raise Problem(HTTPStatus.CONFLICT, "too_many_tags", str(error), limit_count=error.limit) from error
        if not tagged:
            raise _no_such_model([], model.reference)

    def remove(self, reference: str, tiers: Iterable[Tier]) -> StoredModel:
        """Forget a model, by its ``NAME@VERSION`` only. Raises ``Problem`` with 409 while one of the tiers uses it.

        ``Orphans`` deletes its files.
        """
        models = self._models()
        model = next((one for one in models if one.reference == reference), None)
        if model is None:
            raise _no_such_model(models, reference, "; only NAME@VERSION names one that can be removed")
        if users := self.users(models, tiers).get(reference):
            detail = f"{reference} is used by {', '.join(users)}: let them serve another model first"
            raise Problem(HTTPStatus.CONFLICT, "model_in_use", detail, tiers=users)
        if not _answer(self._queue.remove_model(model.name, model.version)):
            raise _no_such_model([], reference)
        return model

    def users(self, models: Sequence[StoredModel], tiers: Iterable[Tier]) -> dict[str, list[str]]:
        """The tiers that serve a model, or whose settings name it, by ``NAME@VERSION``."""
        serving = _answer(self._queue.serving())
        found: dict[str, list[str]] = {}
        for tier in tiers:
            for reference in sorted(_used(tier, serving.get(tier.name, Serving()), models)):
                found.setdefault(reference, []).append(tier.name)
        return found

    def _models(self) -> list[StoredModel]:
        return _answer(self._queue.models())

    def _trusted(self, sha256: str, of_models: dict[str, int]) -> int | None:
        found = self.files.find(sha256)
        if found is None or (sha256 not in of_models and found.age >= TRUSTED_SECONDS):
            return None
        return found.size

    def _check_files(self, model: StoredModel, of_models: dict[str, int]) -> None:
        there = {file: self._trusted(file.sha256, of_models) for file in model.files}
        if missing := [file.sha256 for file, size in there.items() if size is None]:
            raise _missing(missing)
        for file, size in there.items():
            if size != file.size:
                detail = f"the file {file.sha256} has {size} bytes, and the record says {file.size}"
                raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_model", detail, pointer="/record/variants")


def pick(models: Iterable[StoredModel], reference: str) -> StoredModel | None:
    """The model that ``NAME@VERSION``, ``NAME@TAG`` or ``NAME`` stands for; ``NAME`` is what was pushed last."""
    name, at, word = reference.partition("@")
    for model in models:
        if model.name == name and (word in (model.version, *model.tags) if at else model.latest):
            return model
    return None


def too_large(size: int, limit: int) -> Problem:
    """The problem of a model, or of a file of one, that is larger than the server takes."""
    detail = f"the model has {size} bytes; server.models.modelBytes allows {limit}"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "model_too_large", detail, limit_bytes=limit)


def _check_total(others: int, size: int, limit: int) -> None:
    if others + size > limit:
        detail = f"{others} of the {limit} bytes of server.models.bytes are taken, and {size} more do not fit"
        help_ = "remove models, or allow more"
        raise Problem(HTTPStatus.CONFLICT, "store_full", f"{detail}: {help_}", used_bytes=others, limit_bytes=limit)


def _missing(digests: Sequence[str]) -> Problem:
    detail = f"{len(digests)} of the model's files must be sent first"
    return Problem(HTTPStatus.CONFLICT, "missing_file", detail, missing=list(digests))


def _no_such_model(models: Iterable[StoredModel], reference: str, more: str = "") -> Problem:
    name = reference.partition("@")[0]
    others = [model.reference for model in models if model.name == name][-10:]
    instead = f", but {', '.join(others)}" if others else ": tierserve model list shows those that there are"
    return Problem(HTTPStatus.NOT_FOUND, "no_such_model", f"there is no model {reference[:130]}{instead}{more}")


def _sizes(models: Iterable[StoredModel]) -> dict[str, int]:
    """The files of all models."""
    return {file.sha256: file.size for model in models for file in model.files}


def _used(tier: Tier, serving: Serving, models: Sequence[StoredModel]) -> set[str]:
    """What a tier serves, and what its settings name."""
    names = [tier.model.name, *([tier.model.canary.name] if tier.model.canary else [])]
    served = [one.reference for one in (serving.main, serving.canary) if one is not None]
    return {*served, *(found.reference for name in names if (found := pick(models, name)))}


def _answer(future: Future[T]) -> T:
    return future.result(ANSWER_SECONDS)
