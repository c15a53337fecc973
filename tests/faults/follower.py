"""Follows predictions by their events, as a client does, and says what the judge needs of that."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from tests.events import Event, Stream
from tests.faults.history import FINAL, facts
from tests.running import Answer

JSON = {"Content-Type": "application/json"}
SECONDS = (0.2, 0.5, 2, 15)
AGAIN_SHARE = 0.8
BROKEN = (OSError, http.client.HTTPException)


@dataclass(slots=True)
class Followed:
    """What came of following. ``answer`` is what was answered instead of a stream; it has no status if nothing was.

    ``how`` is how it ended: "ended", "drained", "left" (by the client) or "lost: ..."; ``last_id`` is the last event's.
    """

    answer: Answer = field(default_factory=lambda: Answer(0, {}, b""))
    events: list[Event] = field(default_factory=list)
    how: str = ""
    last_id: str = ""


class Follower:
    """Chooses what a client follows: some predictions, or again those whose stream it left or lost."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._last: tuple[dict[str, str], str] = {}, ""

    def choose(self, pending: Sequence[str], ended: Sequence[str]) -> tuple[dict[str, str], str]:
        """Some ids with the states in which the client knows them, and the last event of which it knows that."""
        (knew, last), self._last = self._last, ({}, "")
        if knew and self._chance.random() < AGAIN_SHARE:
            return knew, last
        some = [*pending, *ended[-1:]]
        return dict.fromkeys(self._chance.sample(some, self._chance.randint(1, len(some))), ""), ""

    def seconds(self) -> float:
        """For how long to follow."""
        return self._chance.choice(SECONDS)

    def keep(self, knew: Mapping[str, str], found: Followed) -> None:
        """What came of it."""
        if found.how != "ended":
            self._last = dict(knew), found.last_id


def path_of(ids: Sequence[str]) -> str:
    """Where one or several predictions are followed."""
    if len(ids) == 1:
        return f"/v1/predictions/{ids[0]}/events"
    return "/v1/predictions/events?" + "&".join(f"id={one}" for one in ids)


def follow(
    address: tuple[str, int],
    ids: Sequence[str],
    headers: Mapping[str, str],
    last_id: str,
    seconds: float,
    quiet: float = 0.0,
    tell: Callable[[Event], object] = lambda event: None,
) -> Followed:
    """Follow predictions for so long, or until the stream ends.

    The stream is left, too, when nothing comes for ``quiet`` seconds, not even a comment; 0 is as long as all. ``tell``
    is called with each event when it comes.
    """
    found, until = Followed(last_id=last_id), time.monotonic() + seconds
    seen = {"Last-Event-ID": last_id} if last_id else {}
    try:
        with closing(http.client.HTTPConnection(*address, timeout=quiet or seconds)) as connection:
            connection.request("GET", path_of(ids), headers={**headers, **seen})
            with connection.getresponse() as response:
                _read(Stream(response), found, until, tell)
    except TimeoutError:
        found.how = "left"
    except (*BROKEN, ValueError) as error:  # the last event was cut off
        found.how = f"lost: {type(error).__name__}"
    return found


def _read(stream: Stream, found: Followed, until: float, tell: Callable[[Event], object]) -> None:
    if stream.status != 200:
        found.answer, found.how = stream.answer, "ended"
        return
    found.answer = Answer(200, stream.headers, b"")
    while time.monotonic() < until:
        event = stream.next()
        if event is None:
            drained = bool(found.events) and found.events[-1].name == "drain"
            found.how = "lost: cut off" if stream.was_cut else "drained" if drained else "ended"
            return
        found.events.append(event)
        found.last_id = stream.last_id
        tell(event)
    found.how = "left"


def told(found: Followed, prediction_id: str) -> dict[str, Any]:
    """The parts of what was told of one prediction that the judge needs."""
    if not found.answer.status:
        return {"error": found.how}
    if found.answer.status != 200:
        return facts(found.answer)
    mine = [event for event in found.events if event.name != "drain" and event.data["id"] == prediction_id]
    noted: dict[str, Any] = {"status": 200, "how": found.how, "names": [event.name for event in mine]}
    noted["first_id"] = found.events[0].id if found.events else ""
    if not mine:
        return noted
    last = mine[-1]
    if last.name in FINAL:
        noted |= facts(Answer(200, JSON, json.dumps(last.data).encode()))
    elif last.name == "gone":
        noted["code"] = last.data["code"]
    else:
        noted["state"] = "leased" if last.name == "leased" else "queued"
    return noted
