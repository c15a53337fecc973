"""Follows predictions over lost streams and servers that stop, until they have ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from tierserve.errors import Refused, Unreachable
from tierserve.events import Events
from tierserve.predictions import FINAL, WAITING, Event, Prediction, understood
from tierserve.sending import LEAST_RETRY, MOST_RETRY, Patience, Sender

SILENT_SECONDS = 40.0
"""A stream on which nothing came for so long is dead: a server sends a comment every 15 s."""
IDS = 100
"""How many predictions one stream can tell of."""
GATHERING_SECONDS = 0.2
"""How long a stream waits for more predictions before it is opened anew."""
GONE = "gone"
TOLD = FINAL | WAITING | {"leased", GONE}

Tell = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Gone:
    """The server has not this prediction, or has it no more."""

    prediction_id: str
    refused: Refused

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Gone:
        """From the data of the event ``gone``. Raises ``LookupError`` if it is not such data."""
        status = HTTPStatus.GONE if data["code"] == "result_gone" else HTTPStatus.NOT_FOUND
        return cls(data["id"], Refused(status, data))


async def follow(sender: Sender, ids: Sequence[str], patience: Patience) -> AsyncGenerator[Event | Gone]:
    """The states of at most ``IDS`` predictions, until all have ended.

    Raises ``Refused`` if the server refuses the stream, and ``Unreachable`` if it is lost for longer than the patience
    lasts.
    """
    path = f"/v1/predictions/events?{urlencode({'id': list(ids)}, doseq=True)}"
    left, tries, events = set(ids), 0, Events(LEAST_RETRY)
    while True:
        events.open()
        try:
            async with sender.stream(path, events.last_id, SILENT_SECONDS) as parts:
                async for part in parts:
                    for event in understood(_told, events, part):
                        patience.renew()
                        tries = 0
                        if isinstance(event, Gone) or event.prediction is not None:
                            left.discard(event.prediction_id)
                        yield event
                    if not left:
                        return
            pause = min(max(events.retry_seconds, LEAST_RETRY), MOST_RETRY)
            if not patience.lasts(pause):
                raise Unreachable(f"{sender.shown} ends each event stream before it tells anything")
            await asyncio.sleep(pause)
        except (Refused, Unreachable) as error:
            await sender.pause(error, tries, patience)
            tries += 1


class Group:
    """Follows predictions that come and go, in one stream for each ``IDS`` of them. Use it as a context manager."""

    def __init__(self, sender: Sender, patience: Patience) -> None:
        self._sender, self._patience = sender, patience
        self._shards: list[_Shard] = []

    async def __aenter__(self) -> Group:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(shard.close() for shard in self._shards))

    async def until_ended(self, prediction_id: str, tell: Tell) -> Prediction:
        """The prediction, once it has ended; ``tell`` gets its events until then.

        Raises ``Refused`` if the server has it no more, and what ``follow`` raises.
        """
        shard = next((one for one in self._shards if one.room), None)
        if shard is None:
            shard = _Shard(self._sender, self._patience)
            self._shards.append(shard)
        return await shard.until_ended(prediction_id, tell)


class _Shard:
    """One stream, which is opened anew when there are more predictions to follow."""

    def __init__(self, sender: Sender, patience: Patience) -> None:
        self._sender, self._patience = sender, patience
        self._followed: dict[str, tuple[Tell, asyncio.Future[Prediction]]] = {}
        self._gathering: asyncio.TimerHandle | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def room(self) -> bool:
        return len(self._followed) < IDS

    async def until_ended(self, prediction_id: str, tell: Tell) -> Prediction:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Prediction] = loop.create_future()
        self._followed[prediction_id] = (tell, ended)
        if self._gathering is None:
            self._gathering = loop.call_later(GATHERING_SECONDS, self._open)
        try:
            return await ended
        finally:
            del self._followed[prediction_id]

    async def close(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def _open(self) -> None:
        # What a stream did not tell that is left now, the next one tells at its beginning.
        self._gathering = None
        if self._reading is not None:
            self._reading.cancel()
        ids = [one for one, (_, ended) in self._followed.items() if not ended.done()]
        self._reading = asyncio.create_task(self._read(ids))
        self._reading.add_done_callback(partial(self._read_to_the_end, ids))

    async def _read(self, ids: Sequence[str]) -> None:
        async with aclosing(follow(self._sender, ids, self._patience)) as events:
            async for event in events:
                if event.prediction_id in self._followed:
                    self._take(event, *self._followed[event.prediction_id])

    def _read_to_the_end(self, ids: Sequence[str], reading: asyncio.Task[None]) -> None:
        if reading.cancelled() or (error := reading.exception()) is None:
            return
        for one in ids:
            if one in self._followed and not (ended := self._followed[one][1]).done():
                ended.set_exception(error)

    def _take(self, event: Event | Gone, tell: Tell, ended: asyncio.Future[Prediction]) -> None:
        if ended.done():
            return
        if isinstance(event, Gone):
            ended.set_exception(event.refused)
        elif event.prediction is not None:
            ended.set_result(event.prediction)
        else:
            tell(event)


def _told(events: Events, part: bytes) -> list[Event | Gone]:
    """What these bytes of a stream tell. Raises what ``Event.of`` raises."""
    return [_read(one.name, json.loads(one.data)) for one in events.feed(part) if one.name in TOLD]


def _read(name: str, data: dict[str, Any]) -> Event | Gone:
    return Gone.of(data) if name == GONE else Event.of(name, data)
