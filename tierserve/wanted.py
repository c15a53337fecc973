"""What is wanted of pictures, and the requests that ask for it."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from tierserve.errors import Refused
from tierserve.pictures import Picture, bytes_of
from tierserve.predictions import Prediction, understood
from tierserve.sending import Patience, Sender


@dataclass(frozen=True, slots=True)
class Wanted:
    """The parameters of ``Client.classify``."""

    tier: str
    top_k: int | None
    function_to_apply: str | None
    cancel_after: float | None

    @property
    def path(self) -> str:
        """The target of the request."""
        given = {"top_k": self.top_k, "function_to_apply": self.function_to_apply}
        query = urlencode({name: value for name, value in given.items() if value is not None})
        return f"/img-classification/{quote(self.tier, safe='')}" + (f"?{query}" if query else "")

    async def ask(
        self, sender: Sender, picture: Picture, seconds: float, patience: Patience, key: str | None = None
    ) -> Prediction:
        """Send a picture, and wait for its end for so many seconds, or not at all if these are 0.

        However often it is sent, it makes one prediction: that of its Idempotency-Key, which is ``key`` or a new one.
        Raises ``BadPicture``, ``Refused`` and ``Unreachable``.
        """
        body = picture if isinstance(picture, bytes) else await asyncio.to_thread(bytes_of, picture)
        headers = {
            "Prefer": f"wait={seconds:g}" if seconds else "respond-async",
            "Idempotency-Key": key or uuid.uuid4().hex,
        }
        if self.cancel_after is not None:
            headers["Cancel-After"] = f"{self.cancel_after:g}s"
        try:
            answer: Any = await sender.ask("POST", self.path, body, headers, patience)
        except Refused as refused:
            # One that ended badly is a problem that has the prediction.
            if "prediction" not in refused.document:
                raise
            answer = refused.document["prediction"]
        return understood(Prediction.of, answer)
