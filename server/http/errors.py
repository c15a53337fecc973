"""Turns exceptions into answers."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from tornado.web import HTTPError

from server.blobs import BlobError
from server.intake.storage_check import obstacle_of
from server.problems import Problem
from server.queue import DatabaseBusy, OutcomeUnknown, StorageError


def as_problem(error: BaseException | None, status: HTTPStatus) -> Problem:
    """The problem that an error stands for; ``status`` where nothing better is known."""
    match error:
        case Problem():
            return error
        # It is a ``StorageError`` too, but of it nobody can say that nothing was kept.
        case OutcomeUnknown():
            detail = f"{error}; ask again with the same Idempotency-Key, and it is done once"
            return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "outcome_unknown", detail, retry_after=5)
        case StorageError() | BlobError():
            return obstacle_of(error).problem
        case DatabaseBusy():
            return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many requests wait for the disk", retry_after=1)
        case HTTPError() if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            known = HTTPStatus(error.status_code)
            return Problem(known, known.name.lower(), error.log_message or known.phrase)
        case _ if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return Problem(status, status.name.lower(), status.phrase)
    detail = "this is a fault of the server; its log says more"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", detail)


def fields_of(problem: Problem, allow: Sequence[str]) -> dict[str, str]:
    """The header fields that a client needs beside the document; ``allow`` are the methods of the route."""
    fields = {}
    if problem.status == HTTPStatus.UNAUTHORIZED:
        fields["WWW-Authenticate"] = "Bearer"
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        fields["Allow"] = ", ".join(allow)
    if problem.retry_after is not None:
        fields["Retry-After"] = str(max(1, round(problem.retry_after)))
    return fields
