"""A request whose body is pictures, which are read as they come."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from server.http.public.base import PublicHandler
from server.intake import formats
from server.intake.gathering import Request
from server.intake.memory import Held
from server.problems import Problem
from server.settings.records import Limits, Tier


class UploadHandler(PublicHandler):
    """A subclass calls ``expect_pictures`` in ``admit``, and takes them in ``post``."""

    _reader: formats.Reader | None = None
    _held: Held | None = None

    def expect_pictures(self, tier: Tier) -> None:
        """Read the body as pictures within the tier's limits. Raises ``Problem``: 411 without a body, 415 for some."""
        if not self.body.given:
            detail = "the request has no body and no Content-Length"
            raise Problem(HTTPStatus.LENGTH_REQUIRED, "no_length", detail)
        self.body.refuse_compressed()
        tiers = self.services.settings.tiers.values()
        largest = {one.name: one.limits.images * one.limits.image_bytes for one in tiers}
        self._held = self.services.uploads.hold(tier.name, self.address, largest, self.refuse)
        self._reader = self.reader(tier.limits, self._held)

    def longest(self, limits: Limits) -> int:
        """How many bytes a body with these headers may have."""
        return formats.most_bytes(self.request.headers, limits)

    def reader(self, limits: Limits, held: Held) -> formats.Reader:
        """What reads a body with these headers."""
        return formats.reader(self.request.headers, limits, held)

    def take(self, chunk: bytes) -> None:
        """Pass on a part of the body. Raises ``Problem``."""
        if self._reader is not None:
            self._reader.feed(chunk)

    def take_pictures(self, query: Mapping[str, Any]) -> tuple[Request, Held]:
        """What has come, with parameters of the query, and what counts its memory, which the caller must release.

        Raises ``Problem``.
        """
        reader, held = self._reader, self._held
        self._reader = self._held = None  # a client that hangs up now does not release it
        assert reader is not None
        assert held is not None
        held.keep()
        try:
            return reader.finish(query), held
        except BaseException:
            held.release()
            raise

    def release(self) -> None:
        """Forget the body, and give its memory back, unless ``take_pictures`` was called."""
        super().release()
        self._reader = None
        if self._held is not None:
            self._held.release()
