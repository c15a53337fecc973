"""``/img-classification/{tier}``: pictures in, labels out."""

from __future__ import annotations

from http import HTTPStatus

from server.http.public.ends import until_final
from server.http.public.preference import Preference
from server.http.public.representation import describe, ended_badly, path_of
from server.http.public.uploads import UploadHandler
from server.intake import formats
from server.intake.wishes import Wishes
from server.points import Point, reached
from server.problems import Problem
from server.queue import Prediction, Status, asked
from server.settings.records import Tier


class ClassifyHandler(UploadHandler):
    """``POST``: keep pictures, then answer with their labels or with where they stand."""

    tier: Tier
    wishes: Wishes
    refusal: Problem | None = None  # of a full queue, which a repeated request need not mind

    def most_bytes(self) -> int:
        """How long the body may be, by its tier and its type. Raises ``Problem`` when there is no such tier."""
        self.tier = self.tier_called(self.path_args[0])
        return formats.most_bytes(self.request.headers, self.tier.limits)

    async def admit(self) -> None:
        """Refuse before the body is read what can be refused then."""
        self.expect_pictures(self.tier)
        self.wishes = Wishes.of(self.request.headers, self.tier.waits.queue)
        await self._enter()

    async def _enter(self) -> None:
        """Pass the gate. What may be a repeated request passes a full queue too, as it takes no place there."""
        try:
            await self.services.gate.enter(self.tier, self.body.announced)
        except Problem as full:
            key = self.wishes.idempotency_key
            if key is None or not await asked(self.services.queue.key_used(self.caller, key)):
                raise
            self.refusal = full

    async def post(self, tier: str) -> None:
        """Keep the pictures on disk, wait as long as the client wants to, answer."""
        reached(Point.BODY_READ)
        preference = Preference.of(self.request.headers.get_list("Prefer"), self.tier.waits.sync)
        if preference.applied:
            self.set_header("Preference-Applied", preference.applied)
        prediction_id = self.services.queue.ids.new(self.services.clock)
        kept = self._keep(prediction_id)  # begins only in ``until_final``, which listens for the end before
        await self._answer(await until_final(prediction_id, kept, preference.seconds, self.services))

    async def _keep(self, prediction_id: str) -> Prediction:
        """Return the accepted prediction. Its pictures are on disk by then, so their memory is free while it waits."""
        with self.pictures(self.get_query_argument("top_k", None)) as request:
            asking = (prediction_id, self.caller, self.tier, request, self.wishes, self.refusal)
            return await self.services.submissions.submit(*asking)

    async def _answer(self, prediction: Prediction) -> None:
        reached(Point.ANSWER_READY)
        resource = await describe(prediction, self.services)
        if problem := ended_badly(prediction, resource):
            raise problem
        self.set_header("Location", path_of(prediction.id))
        if prediction.status is Status.SUCCEEDED:
            return self.answer(resource)
        seconds = (resource["queue"] or {}).get("eta_seconds", 1)
        self.set_header("Retry-After", str(max(1, round(seconds))))
        return self.answer(resource, HTTPStatus.ACCEPTED)
