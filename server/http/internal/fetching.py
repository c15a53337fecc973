"""``/work/models/NAME@VERSION`` and ``/work/model-files/SHA256``: a worker gets the model of its Job, and no other."""

from __future__ import annotations

import logging
from http import HTTPStatus

from server.access.workers import Worker
from server.blobs import BlobMissing
from server.http.base import BaseHandler
from server.http.callers import Workers
from server.http.internal.sending import send_file
from server.problems import Problem
from server.queue import StoredModel, UnknownJob, asked

log = logging.getLogger(__name__)


class FetchingHandler(BaseHandler):
    """``caller`` is a worker."""

    callers = Workers()
    caller: Worker

    async def model(self) -> StoredModel:
        """The model of the worker's Job. Raises ``Problem`` and what the queue raises."""
        reference = await self.reference()
        name, _, version = reference.partition("@")
        found = await asked(self.services.queue.model(name, version))
        if found is None:
            detail = f"the server has no model {reference}: push it again, or let the tier serve another one"
            raise Problem(HTTPStatus.NOT_FOUND, "no_such_model", detail)
        return found

    async def reference(self) -> str:
        """``NAME@VERSION`` of the model of the worker's Job. Raises ``Problem`` and what the queue raises."""
        worker = self.caller
        jobs = await asked(self.services.queue.jobs())
        keys = [job.model for job in jobs if (job.name, job.tier) == (worker.job, worker.tier)]
        if not keys:
            raise Problem(HTTPStatus.GONE, "unknown_job", str(UnknownJob(worker.job)))
        return keys[0].partition(" ")[0]

    def other(self, what: str) -> Problem:
        """What a worker is answered that asks for what is not of its model."""
        detail = f"{what} is not of the model of the Job {self.caller.job}"
        return Problem(HTTPStatus.FORBIDDEN, "not_your_model", detail)


class WorkerRecordHandler(FetchingHandler):
    """``/work/models/{reference}``."""

    async def get(self, reference: str) -> None:
        """The text of ``model.json``, as it was pushed."""
        if await self.reference() != reference:
            raise self.other(reference)
        model = await self.model()
        self.set_header("Content-Type", "application/json")
        await self.finish(model.record)


class WorkerFileHandler(FetchingHandler):
    """``/work/model-files/{sha256}``."""

    async def get(self, sha256: str) -> None:
        """The bytes of a file, piece by piece."""
        model = await self.model()
        sizes = {file.sha256: file.size for file in model.files}
        if sha256 not in sizes:
            raise self.other(sha256)
        try:
            await send_file(self, sha256, sizes[sha256])
        except BlobMissing as error:
            log.error("a file of the model %s is missing in the store: %s", model.reference, sha256)
            detail = f"a file of {model.reference} is missing in the store: push the model again"
            raise Problem(HTTPStatus.NOT_FOUND, "no_such_model", detail) from error
        self.finish()
