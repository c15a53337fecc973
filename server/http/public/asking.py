"""What every route that takes pictures does with them: limits, the lobby or the queue, and the wait for the end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from server.http.public.ends import patience, until_final, watched
from server.http.public.preference import Preference
from server.http.public.uploads import UploadHandler
from server.http.wakeups import Waiter
from server.intake.gathering import PARAMETERS, Request, check
from server.intake.memory import Held
from server.intake.submissions import described
from server.intake.wishes import Wishes
from server.lobby import Entry
from server.points import Point, reached
from server.problems import Problem
from server.queue import OutcomeUnknown, Prediction, Status, Submission, asked
from server.settings.records import Tier


class AskingHandler(UploadHandler):
    """A subclass calls ``ask`` in its method for pictures, and says in ``respond`` how a prediction is answered.

    It may override what says where its tier stands, what reads its body, where parameters come from, and how long it
    waits: ``tier_asked``, ``longest``, ``reader`` and ``preference``.
    """

    begins_traces = True
    parameters: ClassVar[Sequence[str] | None] = PARAMETERS

    tier: Tier
    wishes: Wishes
    refusal: Problem | None = None  # of a full queue, which a repeated request need not mind
    _query: Mapping[str, Any]
    _prediction_id = ""
    _entry: Entry | None = None
    _gone = False

    def on_connection_close(self) -> None:
        """A client that hangs up takes back what nobody works on yet: it was promised nothing."""
        super().on_connection_close()
        self._gone = True
        if self._entry is not None:
            self.services.lobby.withdraw(self._entry)

    def tier_asked(self) -> str:
        """The name of the tier that is asked, be there one or not."""
        return self.path_args[0]

    def preference(self) -> Preference:
        """How long the client waits."""
        return Preference.of(self.request.headers.get_list("Prefer"), self.tier.waits.sync)

    def draw(self) -> tuple[str, bool]:
        """The id of a new prediction, and whether the tier's canary is to classify it, which follows from the id."""
        prediction_id = self.services.queue.ids.new(self.services.clock, self.caller.owner)
        return prediction_id, self.services.serving.is_canary(self.tier.name, prediction_id)

    async def respond(self, prediction: Prediction) -> None:
        """Answer with the prediction, which is final, or as it is at the end of the wait. Raises ``Problem``."""
        raise NotImplementedError

    def most_bytes(self) -> int:
        """How long the body may be, by its tier and type. Raises ``Problem`` when the caller may not use the tier."""
        self.tier = self.tier_to_use(self.tier_asked())
        return self.longest(self.tier.limits)

    async def admit(self) -> None:
        """Refuse before the body is read what can be refused then."""
        # Not stripped: a number with a blank is no number.
        self._query = {name: self.get_query_argument(name, None, strip=False) for name in PARAMETERS}
        check(self._query)
        self.expect_pictures(self.tier)
        self.wishes = Wishes.of(self.request.headers, self.tier.waits.queue, self.request_id, self.trace.traceparent)
        await self._enter()

    async def _enter(self) -> None:
        """Pass the gate. What may be a repeated request passes a full queue too, as it takes no place there."""
        self.services.allowances.request(self.caller, self.tier)
        try:
            await self.services.gate.enter(self.caller, self.tier, self.body.announced)
        except Problem as full:
            key = self.wishes.idempotency_key
            if key is None or not await asked(self.services.queue.key_used(self.caller.owner, key)):
                raise
            self.refusal = full

    async def ask(self) -> None:
        """Have the pictures classified, wait as long as the client wants to, answer."""
        reached(Point.BODY_READ)
        preference = self.preference()
        if preference.applied:
            self.set_header("Preference-Applied", preference.applied)
        prediction = await self._predict(preference.seconds)
        if prediction is not None:
            if prediction.id == self._prediction_id:  # and not one of an earlier request with the same idempotency key
                self.services.metrics.accepted(self.tier.name, self.caller.owner)
            reached(Point.ANSWER_READY)
            await self.respond(prediction)

    async def _predict(self, seconds: float) -> Prediction | None:
        """The prediction once it is final, or as it is after ``seconds``; None if its caller hung up before."""
        services = self.services
        prediction_id, canary = self.draw()
        self._prediction_id = prediction_id
        request, held = self.take_pictures(self._query)
        lane = self.tier.name, canary
        if seconds > 0 and self.wishes.idempotency_key is None and services.handout.has_workers(lane):
            submission = described(prediction_id, self.caller, self.tier, request, self.wishes, canary=canary)
            if services.lobby.has_place(submission, services.gate.stored(self.tier)):
                try:
                    await services.gate.enter_beside(self.caller, self.tier, self.body.announced, submission)
                except BaseException:
                    held.release()
                    raise
                return await self._wait_in_lobby(submission, request, held, seconds)
        # It begins in ``until_final``, which listens for the end before.
        kept = self._keep(prediction_id, request, held, canary)
        return await until_final(prediction_id, kept, seconds, services)

    async def _keep(self, prediction_id: str, request: Request, held: Held, canary: bool) -> Prediction:
        """Return the accepted prediction. Its pictures are on disk by then, so their memory is free while it waits."""
        try:
            asking = (prediction_id, self.caller, self.tier, request, self.wishes, self.refusal)
            prediction = await self.services.submissions.submit(*asking, canary=canary)
            if prediction.id == prediction_id:  # and not one of an earlier request with the same idempotency key
                self.services.activity.accepted(prediction.tier)
            return prediction
        finally:
            held.release()

    async def _wait_in_lobby(
        self, submission: Submission, request: Request, held: Held, seconds: float
    ) -> Prediction | None:
        services, end = self.services, asyncio.get_running_loop().time() + seconds
        with services.wakeups.for_end(submission.id) as waiter:
            entry = self._entry = services.lobby.enter(submission, request.pictures, held, waiter.wake)
            services.activity.accepted(submission.tier)
            del request
            try:
                prediction = await self._outcome(entry, waiter, end)
            except Exception as error:
                if not isinstance(error, OutcomeUnknown):
                    services.allowances.give_back(self.caller, self.tier, submission.images)
                raise
            if prediction is None:
                return None
            if prediction.status is Status.QUEUED:
                services.allowances.kept(submission.tier, submission.caller, submission.size)
            return await watched(prediction, waiter, end, services)

    async def _outcome(self, entry: Entry, waiter: Waiter, end: float) -> Prediction | None:
        """The prediction of an entry that has left the lobby, at ``end`` at the latest; None if its caller hung up.

        Raises what kept it from being kept.
        """
        while (outcome := entry.outcome) is None:
            if self._gone:
                self.services.lobby.withdraw(entry)
                return None
            if (left := patience(waiter, end, self.services)) <= 0:
                return await self.services.lobby.keep(entry)
            await waiter.wait(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
