"""``/v1/predictions/{id}``: read one, wait for its end, cancel it."""

from __future__ import annotations

import re
from http import HTTPStatus

from server.http.public.base import PublicHandler
from server.http.public.ends import check_own, read, until_final
from server.http.public.preference import LONGEST_WAIT
from server.http.public.representation import describe
from server.problems import Problem
from server.queue import Prediction, asked, has_tag

_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?")


class PredictionHandler(PublicHandler):
    """One prediction. For all but its owner there is none."""

    parameters = ("wait",)

    async def admit(self) -> None:
        """Refuse what cannot be an id of the caller's."""
        if self.path_args:
            check_own(self.path_args[0], self.caller.owner, self.services)

    async def get(self, prediction_id: str) -> None:
        """Where it stands; with ``?wait=20``, as soon as it is final or after so many seconds."""
        seconds = self._seconds()
        prediction = await until_final(prediction_id, self._read(prediction_id), seconds, self.services)
        await self._answer(prediction)

    async def delete(self, prediction_id: str) -> None:
        """Cancel it. One that has ended stays as it ended."""
        if not has_tag(prediction_id):  # so that only its row tells whose it is
            await self._read(prediction_id)
        prediction = await asked(self.services.queue.cancel(prediction_id))
        await self._answer(prediction or await self._read(prediction_id))

    async def _answer(self, prediction: Prediction) -> None:
        self.about = self.services.settings.tiers.get(prediction.tier)
        self.answer(await describe(prediction, self.services))

    async def _read(self, prediction_id: str) -> Prediction:
        return await read(prediction_id, self.caller.owner, self.services)

    def _seconds(self) -> float:
        given = self.get_query_argument("wait", "0", strip=False)
        # A pattern, as float() also takes "nan" and "1_0". It is that of a number in JSON.
        if not (_NUMBER.fullmatch(given) and 0 <= float(given) <= LONGEST_WAIT):
            detail = f"wait is {given[:20]!r}; it must be a number of seconds from 0 to {LONGEST_WAIT:g}"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad_wait", detail, limit_seconds=LONGEST_WAIT)
        return float(given)
