"""The operators' routes for models: files by digest, then the record that makes a model of them."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from server.access.keys import time_text
from server.blobs import BlobMissing, is_sha256
from server.http.errors import as_problem
from server.http.internal.funnel import Funnel
from server.http.internal.operators import OperatorHandler
from server.http.internal.sending import send_file
from server.http.schemas import Schema
from server.logs import AUDIT
from server.models import RECORD_BYTES
from server.models.pushed import bad_model, checked
from server.models.store import Summary, too_large
from server.problems import Problem
from server.queue import OutcomeUnknown, StoredModel

PUSH_BYTES = RECORD_BYTES + 16 * 1024
TAG = re.compile(r"(?![0-9a-f]{8}\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,59}")  # as in schemas/model.schema.json
_PUSH = Schema("model.schema.json", "push", "bad_model")

T = TypeVar("T")

_audit = logging.getLogger(AUDIT)


class ModelHandler(OperatorHandler):
    """What the routes have in common."""

    async def off_loop(self, work: Callable[..., T], *given: Any) -> T:
        """Do what may block in the threads of the store."""
        return await asyncio.get_running_loop().run_in_executor(self.services.store_pool, work, *given)

    async def audited(self, what: str, reference: str, work: Callable[..., T], *given: Any) -> T:
        """Make a change off the loop, and log it, also if nobody can say whether it was kept."""
        told = f"model {what}"
        try:
            done = await self.off_loop(work, *given)
        except OutcomeUnknown:
            _audit.info("%s, unless its commit failed: reference=%s by=%s", told, reference, self.caller)
            raise
        _audit.info("%s: reference=%s by=%s", told, reference, self.caller)
        return done

    def shown(self, models: Sequence[StoredModel], chosen: Sequence[StoredModel]) -> list[dict[str, Any]]:
        """The chosen ones of all models as operators read them. Blocks."""
        store = self.services.store
        users = store.users(models, self.services.settings.tiers.values())
        return [_shown(model, users.get(model.reference, []), store.summary(model)) for model in chosen]

    def one(self, reference: str, *, record: bool = False) -> dict[str, Any]:
        """One model as operators read it. Blocks. Raises ``Problem``."""
        found = self.services.store.find(reference)
        (told,) = self.shown(self.services.store.models(), [found])
        return {**told, "record": json.loads(found.record)} if record else told


class StoredFileHandler(ModelHandler):
    """``/v1/model-files/{sha256}``."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Called by Tornado for each request."""
        super().initialize(*args, **kwargs)
        self._funnel: Funnel | None = None
        self._writing: asyncio.Future[bool] | None = None
        self._complete = False

    def most_bytes(self) -> int:
        """Those of a model. Raises ``Problem``."""
        most = self.services.settings.models.model_bytes
        if self.body.announced > most:
            raise too_large(self.body.announced, most)
        return most

    async def admit(self) -> None:
        """Begin to write the file before its first byte has come. Raises ``Problem``."""
        await super().admit()
        if self.request.method != "PUT":
            return
        sha256, size, services = self.path_args[0], self.body.announced, self.services
        if not is_sha256(sha256):
            detail = "the name of a file is its SHA-256, 64 hexadecimal digits in lower case"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "wrong_digest", detail)
        if not size:
            detail = "a file must be sent with its Content-Length, and cannot be empty"
            raise Problem(HTTPStatus.LENGTH_REQUIRED, "no_length", detail)
        if services.pushes.locked():
            detail = "as many files are being received as may be at once"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=1)
        await services.pushes.acquire()
        try:
            await self.off_loop(services.store.check_room, sha256, size)
        except BaseException:
            services.pushes.release()
            raise
        self._begin(sha256, size)

    def _begin(self, sha256: str, size: int) -> None:
        self._funnel = Funnel()
        work = asyncio.ensure_future(self.off_loop(self.services.store.put, sha256, size, self._funnel))
        work.add_done_callback(self._written)
        self._writing = work
        if self._iostream.closed():
            self._funnel.break_off()

    def _written(self, work: asyncio.Future[bool]) -> None:
        """The thread has ended: normally after all of the body has come."""
        self.services.pushes.release()
        assert self._funnel is not None
        self._funnel.unread()
        error = None if work.cancelled() else work.exception()
        if error is not None and not self._complete and not self.body.refused and not self._iostream.closed():
            self.refuse(as_problem(error, HTTPStatus.INTERNAL_SERVER_ERROR))

    def take(self, chunk: bytes) -> None:
        """Pass on a part of the body."""
        if self._funnel is not None:
            self._funnel.add(chunk)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """As the base; the rest of the body waits until the disk has taken what has come."""
        super().data_received(chunk)
        return None if self._funnel is None or self.body.refused else self._funnel.room()

    def release(self) -> None:
        """As the base; a body that has not come as a whole is written no further."""
        super().release()
        if self._funnel is not None and not self._complete:
            self._funnel.break_off()

    async def put(self, sha256: str) -> None:
        """Keep the file once all of it has come and its digest is right."""
        assert self._funnel is not None
        assert self._writing is not None
        self._complete = True
        self._funnel.end()
        new = await self._writing
        told = {"sha256": sha256, "bytes": self.body.announced}
        self.answer(told, HTTPStatus.CREATED if new else HTTPStatus.OK)

    async def head(self, sha256: str) -> None:
        """Whether a push need not bring the file. Raises ``Problem``."""
        size = await self.off_loop(self.services.store.has, sha256) if is_sha256(sha256) else None
        if size is None:
            raise no_such_file(sha256)
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Content-Length", size)
        self.finish()

    async def get(self, sha256: str) -> None:
        """The file. Raises ``Problem``."""
        size = await self.off_loop(self.services.store.files.has, sha256) if is_sha256(sha256) else None
        if size is None:
            raise no_such_file(sha256)
        try:
            await send_file(self, sha256, size)
        except BlobMissing as error:
            raise no_such_file(sha256) from error
        self.finish()


class StoredModelsHandler(ModelHandler):
    """``/v1/models``."""

    def most_bytes(self) -> int:
        """Those of the longest record."""
        return PUSH_BYTES

    async def get(self) -> None:
        """All models, by name; those of one name in the order in which they were pushed."""
        services = self.services

        def told() -> dict[str, Any]:
            models = services.store.models()
            taken = sum({file.sha256: file.size for model in models for file in model.files}.values())
            limit = services.settings.models.bytes
            return {"models": self.shown(models, models), "used_bytes": taken, "limit_bytes": limit}

        self.answer(await self.off_loop(told))

    async def post(self) -> None:
        """Make a model of a record whose files are here: 201, or 200 if it was here before."""
        async with self.services.big_json:  # a record can be long
            model, tags = await self.off_loop(_pushed, bytes(self.received))
        self.received.clear()
        new = await self.audited(_with_tags("pushed", tags), model.reference, self.services.store.push, model, tags)
        self.answer(await self.off_loop(self.one, model.reference), HTTPStatus.CREATED if new else HTTPStatus.OK)


class StoredModelHandler(ModelHandler):
    """``/v1/models/{reference}``."""

    async def get(self, reference: str) -> None:
        """The model of ``NAME@VERSION``, ``NAME@TAG`` or ``NAME``, with its record."""
        self.answer(await self.off_loop(lambda: self.one(reference, record=True)))

    async def delete(self, reference: str) -> None:
        """Remove the model of ``NAME@VERSION``, unless a tier uses it; its tags go too."""
        store, tiers = self.services.store, list(self.services.settings.tiers.values())
        told = await self.off_loop(self.one, reference)
        await self.audited("removed", reference, store.remove, reference, tiers)
        self.answer(told)


class TagHandler(ModelHandler):
    """``/v1/models/{reference}/tags/{tag}``."""

    async def put(self, reference: str, tag: str) -> None:
        """Let the tag point to the model. Raises ``Problem``."""
        if not TAG.fullmatch(tag):
            raise bad_model("/tag", "a tag has 1 to 60 letters, digits and any of .-_, and is not like a version")
        model = await self.off_loop(self.services.store.find, reference)
        await self.audited(_with_tags("tagged", [tag]), model.reference, self.services.store.tag, model, tag)
        self.answer(await self.off_loop(self.one, model.reference))


def _pushed(body: bytes) -> tuple[StoredModel, list[str]]:
    """What a push names. Raises ``Problem``."""
    found = _PUSH.read(body)
    return checked(found["record"]), list(found.get("tags", []))


def _with_tags(what: str, tags: Sequence[str]) -> str:
    return f"{what} tags={','.join(tags)}" if tags else what


def _shown(model: StoredModel, users: Sequence[str], summary: Summary) -> dict[str, Any]:
    return {
        "reference": model.reference,
        "name": model.name,
        "version": model.version,
        "digest": model.digest,
        "bytes": model.bytes,
        "pushed_at": time_text(model.pushed_at),
        "tags": list(model.tags),
        "latest": model.latest,
        "used_by": list(users),
        "classes": summary.classes,
        "variants": [{"runtime": runtime, "name": name, "bytes": size} for runtime, name, size in summary.variants],
    }


def no_such_file(sha256: str) -> Problem:
    """The problem of a digest that no file has."""
    return Problem(HTTPStatus.NOT_FOUND, "no_such_file", f"there is no file {sha256[:70]}")
