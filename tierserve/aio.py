"""The client for programs with an event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

from tierserve.errors import NotYet
from tierserve.following import Gone, Group, follow
from tierserve.mapping import Counting, Mapping, Outcome, Progress
from tierserve.pictures import Picture
from tierserve.predictions import Event, Prediction, PredictionFailed, Tier, understood
from tierserve.sending import PATIENCE_SECONDS, Patience, Sender
from tierserve.wanted import Wanted

DEFAULT_URL = "http://127.0.0.1:8080"
WAIT_SECONDS = 10
"""How long a request with a picture waits for its result; a prediction that has not ended then is followed."""
WATCHED_SECONDS = 1
"""The same where somebody wants to see why it waits."""
PAGE = 100
"""Predictions in one answer."""

OnEvent = Callable[[Picture, "Event | None"], None]


class AsyncClient:
    """Asks the server at ``url`` (``TIERSERVE_URL`` of the environment by default, else this machine's).

    ``key`` is sent with each request (``TIERSERVE_KEY`` of the environment by default; an empty one is none). When the
    server is lost, restarts, or says when to come back, a request is sent again, for ``patience`` seconds in a row. A
    server that has never answered is not waited for.

    Use it in one event loop, and as an ``async with``, or call ``aclose``. Every method raises ``Unreachable`` and
    ``Refused``. Raises ``Misconfigured`` if the URL or the key cannot be one.
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, patience: float = PATIENCE_SECONDS) -> None:
        where = os.environ.get("TIERSERVE_URL", "") if url is None else url
        secret = os.environ.get("TIERSERVE_KEY", "").strip() if key is None else key
        self._sender = Sender(where or DEFAULT_URL, secret, patience)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sender.aclose()

    async def classify(
        self,
        picture: Picture,
        tier: str = "free",
        *,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        cancel_after: float | None = None,
        idempotency_key: str | None = None,
    ) -> Prediction:
        """Classify a picture, and return its prediction once that has succeeded, however long it waits.

        ``top_k`` is how many labels it gets, 5 by default, and ``function_to_apply`` what turns the model's logits into
        scores: ``softmax`` (the default), ``sigmoid`` or ``none``. After ``cancel_after`` seconds the server gives it
        up. A request with the same ``idempotency_key``, picture and parameters gets the same prediction.

        Raises ``PredictionFailed`` if it ended without success, and ``BadPicture`` if the picture cannot be read here.
        """
        wanted = Wanted(tier, top_k, function_to_apply, cancel_after)
        return await self.ask(wanted, picture, idempotency_key)

    async def submit(
        self,
        picture: Picture,
        tier: str = "free",
        *,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        cancel_after: float | None = None,
        idempotency_key: str | None = None,
    ) -> Prediction:
        """Send a picture as ``classify`` does, and return its prediction at once, as it then is. Raises the same."""
        wanted = Wanted(tier, top_k, function_to_apply, cancel_after)
        return await self.send(wanted, picture, idempotency_key)

    async def wait(self, prediction: Prediction | str, timeout: float | None = None) -> Prediction:  # noqa: ASYNC109
        """Return a prediction once it has succeeded. It is named by its id, too.

        Raises ``PredictionFailed`` if it ended without success, and ``NotYet`` after ``timeout`` seconds.
        """
        if isinstance(prediction, Prediction) and prediction.ended:
            return succeeded(prediction)
        key = _id(prediction)
        try:
            async with asyncio.timeout(timeout):
                return succeeded(await self._until_ended(key, self._sender.patience()))
        except TimeoutError as error:
            assert timeout is not None
            raise NotYet(key, timeout) from error

    async def get(self, prediction: Prediction | str) -> Prediction:
        """A prediction as it is now."""
        return understood(Prediction.of, await self._sender.ask("GET", _path(prediction)))

    async def cancel(self, prediction: Prediction | str) -> Prediction:
        """Cancel a prediction that has not ended; return it as it is then. One that has ended stays as it ended."""
        return understood(Prediction.of, await self._sender.ask("DELETE", _path(prediction)))

    async def stream(self, prediction: Prediction | str) -> AsyncGenerator[Event]:
        """The states of a prediction as they change, until its end, which is the last event."""
        async with aclosing(self._follow(_id(prediction), self._sender.patience())) as events:
            async for event in events:
                yield event

    async def tiers(self) -> list[Tier]:
        """All tiers, as they are now."""
        answer = await self._sender.ask("GET", "/v1/tiers")
        return understood(_tiers, answer)

    async def predictions(
        self,
        *,
        tier: str | Sequence[str] | None = None,
        status: str | Sequence[str] | None = None,
        since: datetime | str | None = None,
        limit: int = 20,
    ) -> list[Prediction]:
        """The latest ``limit`` predictions of the owner of the key, the newest first, without their results.

        ``tier`` and ``status`` take one or several, and ``since`` a time with its zone.
        """
        when = since.isoformat() if isinstance(since, datetime) else since
        asked = {name: value for name, value in (("tier", tier), ("status", status), ("since", when)) if value}
        found: list[Prediction] = []
        cursor: str | None = ""
        while cursor is not None and len(found) < limit:
            query = {**asked, "limit": min(PAGE, limit - len(found)), **({"cursor": cursor} if cursor else {})}
            answer = await self._sender.ask("GET", f"/v1/predictions?{urlencode(query, doseq=True)}")
            page, cursor = understood(_page, answer)
            found += page
        return found

    async def map(
        self,
        pictures: Iterable[Picture],
        tier: str = "free",
        *,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        cancel_after: float | None = None,
        concurrency: int = 32,
        ordered: bool = False,
        progress: bool | Callable[[Progress], None] = False,
        on_event: OnEvent | None = None,
    ) -> AsyncGenerator[Outcome]:
        """Classify many pictures, ``concurrency`` at a time; yield what came of each as soon as it is there.

        With ``ordered``, yield in the order of the pictures. A picture that fails is an outcome with an error, and the
        others go on. The pictures are read when it is their turn, also from an iterator, which may be in another
        thread. ``progress`` is called after each picture, or True for a bar on standard error. ``on_event`` is called
        with a picture and None when it is sent, then with each event but the last, if it waits longer than a second.

        The patience of the client is that of all pictures together. Raises what the iterator raises.
        """
        wanted = Wanted(tier, top_k, function_to_apply, cancel_after)
        with Counting(progress, pictures) as counting:
            async with self.begun(pictures, wanted, concurrency, ordered, on_event) as many:
                while batch := await many.batch():
                    for outcome in batch:
                        counting.count(outcome)
                        yield outcome

    @asynccontextmanager
    async def begun(
        self,
        pictures: Iterable[Picture],
        wanted: Wanted,
        concurrency: int,
        ordered: bool,
        on_event: OnEvent | None = None,
    ) -> AsyncGenerator[Mapping]:
        """What ``map`` does, for who takes the outcomes in batches while the block lasts."""
        patience = self._sender.patience()
        seconds = WAIT_SECONDS if on_event is None else WATCHED_SECONDS

        async with Group(self._sender, patience) as group:

            async def one(picture: Picture) -> Prediction:
                tell = partial(on_event or _nobody, picture)
                tell(None)
                prediction = await wanted.ask(self._sender, picture, seconds, patience)
                if not prediction.ended:
                    prediction = await group.until_ended(prediction.id, tell)
                return succeeded(prediction)

            async with Mapping(pictures, one, concurrency, ordered) as many:
                yield many

    async def ask(self, wanted: Wanted, picture: Picture, idempotency_key: str | None) -> Prediction:
        """What ``classify`` does."""
        patience = self._sender.patience()
        prediction = await wanted.ask(self._sender, picture, WAIT_SECONDS, patience, idempotency_key)
        if not prediction.ended:
            prediction = await self._until_ended(prediction.id, patience)
        return succeeded(prediction)

    async def send(self, wanted: Wanted, picture: Picture, idempotency_key: str | None) -> Prediction:
        """What ``submit`` does."""
        return await wanted.ask(self._sender, picture, 0, self._sender.patience(), idempotency_key)

    async def _until_ended(self, prediction_id: str, patience: Patience) -> Prediction:
        async with aclosing(self._follow(prediction_id, patience)) as events:
            async for event in events:
                ended = event.prediction
        assert ended is not None  # the last event has it
        return ended

    async def _follow(self, prediction_id: str, patience: Patience) -> AsyncGenerator[Event]:
        async with aclosing(follow(self._sender, [prediction_id], patience)) as events:
            async for event in events:
                if isinstance(event, Gone):
                    raise event.refused
                yield event


def succeeded(prediction: Prediction) -> Prediction:
    """The prediction, which has ended. Raises ``PredictionFailed`` unless it succeeded."""
    if prediction.status != "succeeded":
        raise PredictionFailed(prediction)
    return prediction


def _page(answer: dict[str, Any]) -> tuple[list[Prediction], str | None]:
    return [Prediction.of(one) for one in answer["predictions"]], answer["next_cursor"]


def _tiers(answer: dict[str, Any]) -> list[Tier]:
    return [Tier.of(one) for one in answer["tiers"]]


def _nobody(*_: object) -> None:
    """Nobody wants to be told."""


def _id(prediction: Prediction | str) -> str:
    return prediction if isinstance(prediction, str) else prediction.id


def _path(prediction: Prediction | str) -> str:
    return f"/v1/predictions/{quote(_id(prediction), safe='')}"
