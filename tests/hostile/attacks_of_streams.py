"""Event streams that are many, that nobody reads, or that ask for nonsense; and floods of what browsers ask first."""

from __future__ import annotations

import asyncio

from tests.hostile.attack import Attack
from tests.hostile.attacks_of_connections import SILENT, SPREAD_SECONDS, waiting_path
from tests.hostile.oddities import LAST_EVENT_IDS, SEGMENTS, STATIC_PATHS
from tests.hostile.wire import Wire, head

TIERS = "/v1/tiers/events"
FLOOD_SECONDS, FLOOD_PAUSE = 0.5, 0.02
IDS = 100  # in one stream


class Streams(Attack):
    """More event streams than the server may have open files: of a prediction that waits, and of the tiers."""

    name = "streams"

    async def run(self) -> None:
        self._paths = (f"{await waiting_path(self.target, self.tally)}/events", TIERS)
        await self.crowd(SILENT, self._once, pause=1.0, spread=SPREAD_SECONDS)

    async def _once(self, wire: Wire, index: int) -> None:
        await wire.send(head("GET", self._paths[index % 2], {"Accept": "text/event-stream"}))
        await wire.answer()
        await wire.silence()


class DeafReaders(Attack):
    """Streams and large answers that are asked for and never read, and streams on which a reader goes on talking."""

    name = "deaf"
    paths = (TIERS, "/openapi.json", "/", "/v1/tiers", TIERS, "/page/style.css")

    async def run(self) -> None:
        await self.crowd(120, self._once, pause=0.5)

    async def _once(self, wire: Wire, index: int) -> None:
        wire.deafen()
        request = head("GET", self.paths[index % len(self.paths)], {})
        await wire.send(request)
        if index % 4 == 0:
            await asyncio.sleep(60)
        while True:  # a next request before the answer was read; on a stream, which never ends, it is only noise
            await wire.send(request * 20)
            await asyncio.sleep(0.1)


class HangUpsOnStreams(Attack):
    """Streams that are closed as soon as they are open, as fast as they open."""

    name = "stream-hang-ups"

    async def run(self) -> None:
        self._path = await waiting_path(self.target, self.tally)
        await self.crowd(30, self._once, pause=FLOOD_PAUSE)

    async def _once(self, wire: Wire, index: int) -> None:
        paths = (TIERS, f"{self._path}/events", f"{self._path.replace('predictions/', 'predictions/events?id=')}")
        await wire.send(head("GET", paths[index % 3], {}))
        if index % 2:
            await wire.answer()


class OddStreams(Attack):
    """Streams of a hundred unknown ids, of too many, of garbage, with huge queries and invented last events."""

    name = "odd-streams"

    async def run(self) -> None:
        await self.crowd(30, self._once, pause=FLOOD_PAUSE)

    async def _once(self, wire: Wire, index: int) -> None:
        chance = self.chance
        match index % 5:
            case 0:
                path = "/v1/predictions/events?" + "&".join(f"id={chance.getrandbits(128):032x}" for _ in range(IDS))
            case 1:
                path = "/v1/predictions/events?" + "&".join(f"id={number}" for number in range(3000))[:15_000]
            case 2:
                path = f"/v1/predictions/events?id={chance.choice(SEGMENTS)}"
            case 3:
                path = f"/v1/predictions/{chance.choice(SEGMENTS)}/events"
            case _:
                path = chance.choice((TIERS, "/v1/tiers/free/activity", "/v1/predictions/events"))
        await wire.send(head("GET", path, {"Last-Event-ID": chance.choice(LAST_EVENT_IDS)}))
        await wire.answer(FLOOD_SECONDS)


class Preflights(Attack):
    """What browsers ask before they ask, from many origins, with more headers than any browser has."""

    name = "preflights"

    async def run(self) -> None:
        await self.crowd(40, self._once, pause=FLOOD_PAUSE)

    async def _once(self, wire: Wire, index: int) -> None:
        given: dict[str, object] = {
            "Origin": f"https://{self.chance.getrandbits(32):x}.example.org",
            "Access-Control-Request-Method": ("POST", "DELETE", "X" * 200)[index % 3],
            "Access-Control-Request-Headers": ", ".join(f"x-{number}" for number in range(1000)),
        }
        paths = (f"/img-classification/{self.target.tier}", "/v1/predictions/events", "/nope", "*")
        await wire.send(head("OPTIONS", paths[index % 4], given))
        await wire.answer()


class StaticPaths(Attack):
    """Paths that try to leave the folders of the page and of the viewer, and their files as fast as they come."""

    name = "static"

    async def run(self) -> None:
        await self.crowd(30, self._once, pause=FLOOD_PAUSE)

    async def _once(self, wire: Wire, index: int) -> None:
        path = self.chance.choice(STATIC_PATHS)
        await wire.send(head("GET", path, {"Range": "bytes=0-0", "If-None-Match": '"' + "a" * 3000 + '"'}))
        await wire.answer()
