"""``GET /work/channel``: the connection over which a worker gets predictions and hands in what it has done.

On the internal port only; the tier comes from the token. ``schemas/worker-protocol.schema.json`` has the messages.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from server.access.workers import AccessDenied, AccessUnknown, Worker
from server.blobs import Piece
from server.http import origins
from server.http.base import BaseHandler
from server.http.callers import Workers, worker_of
from server.http.connections import Exchange
from server.http.internal import wire
from server.http.internal.delivery import Delivery
from server.http.internal.frames import Outcomes, message
from server.http.internal.handshake import PROTOCOL, check_upgrade, model_of
from server.http.internal.messages import BIG_BYTES, MESSAGE, MESSAGE_LEAST, completed, longest_message, pairs
from server.http.internal.wire import Refused, Wire
from server.intake.memory import Held
from server.lobby import Handed
from server.points import Point, reached
from server.problems import Problem
from server.queue import ATTEMPTS, Completion, Leased, QueueError, UnknownJob

log = logging.getLogger(__name__)

MOST_CREDITS = MOST_OUTCOMES = 64


class ChannelHandler(BaseHandler, WebSocketHandler):
    """The channel of one worker: a ``Peer`` of the handout. ``worker`` is what its token proves."""

    callers = Workers()
    worker: Worker
    model: str
    _wire: Wire | None = None
    _left = True

    @classmethod
    def methods(cls) -> frozenset[str]:
        """``GET`` alone: a channel has no head of its own."""
        return frozenset({"GET"})

    async def admit(self) -> None:
        """Check what must hold before there is a channel. Raises ``Problem`` and ``QueueError``."""
        self.worker = self.caller
        if self.services.wakeups.draining:
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise Problem(unavailable, "stopping", "this server is about to stop", retry_after=1)
        origins.check_site(self.request)
        check_upgrade(self.request)
        self.model = await model_of(self.worker, self.services)

    def check_origin(self, origin: str) -> bool:
        """As Tornado's; ``admit`` has checked it."""
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str:
        """As Tornado's; ``admit`` has found it among those that the worker speaks."""
        return PROTOCOL

    def get_websocket_protocol(self) -> Wire:
        """As Tornado's."""
        self._wire = Wire(self, self)
        return self._wire

    def open(self) -> None:
        """Called by Tornado when the channel is open."""
        self.set_nodelay(True)
        exchange = self.request.connection
        assert isinstance(exchange, Exchange)
        self._connection = exchange.connection
        self._connection.farewell = self._say_farewell
        self._delivery = Delivery(self.services, self)
        self._outcomes: list[tuple[str, str]] = []
        self._credits, self._taken_up, self._busy, self._left = 0, False, False, False
        self.services.silence.heard(self)
        self._told: dict[str, Any] = {}
        self._tell_settings()
        self.services.handout.join(self)

    def on_connection_close(self) -> None:
        """Called by Tornado when the connection is lost, be it before the channel is open, or the channel is closed."""
        super().on_connection_close()
        if self._wire is None:
            # Tornado's class for WebSockets leaves this out: it ends a request whose body has not all come.
            RequestHandler.on_connection_close(self)
        else:
            self._leave()

    def release(self) -> None:
        """As the base's; the body of the request ended before the channel was opened."""
        if self._wire is None:
            super().release()

    # What the handout asks of a peer.

    def deliver(self, handed: Sequence[Handed]) -> Awaitable[None] | None:
        """As ``Peer.deliver``."""
        self._credits -= len(handed)
        return self._delivery.deliver(handed)

    def dismiss(self, code: int, reason: str) -> None:
        """As ``Peer.dismiss``."""
        if self._outcomes:
            self._try_to_say({})
        self._open_wire.close(code, reason)
        self._leave()

    def stopping(self) -> None:
        """As ``Peer.stopping``."""
        self._try_to_say({"stopping": True})

    def retire(self, reason: str) -> None:
        """As ``Peer.retire``."""
        self._try_to_say({"retire": reason})

    # What a delivery asks of its line.

    def send_frame(self, parts: Sequence[Piece]) -> asyncio.Future[None] | None:
        """As ``Line.send_frame``."""
        return self._open_wire.send(wire.BINARY, parts)

    def take_outcomes(self) -> Outcomes:
        """As ``Line.take_outcomes``."""
        taken, self._outcomes = self._outcomes, []
        return taken

    def not_sent(self, leased: Sequence[Leased]) -> None:
        """As ``Line.not_sent``."""
        self.services.handout.finished(self, [one.id for one in leased])
        if not self._left:
            self._grant(len(leased))

    def break_off(self) -> None:
        """As ``Line.break_off``."""
        self._open_wire.stream.close()

    # What the wire asks of whoever takes its messages.

    def longest(self) -> int:
        """As ``Messages.longest``: the results of a tier with many pictures in a request may be long."""
        tier = self.services.settings.tiers.get(self.worker.tier)
        return longest_message(tier.limits.images if tier else 1)

    def hold(self) -> Held:
        """As ``Messages.hold``."""
        tiers = self.services.settings.tiers.values()
        largest = {tier.name: longest_message(tier.limits.images) for tier in tiers}
        largest.setdefault(self.worker.tier, MESSAGE_LEAST)  # its last results, if the tier was removed
        return self.services.work.hold(self.worker.tier, self.worker.job, largest)

    async def took(self, size: int) -> None:
        """As ``Messages.took``."""
        await self._connection.took(size)

    async def receive(self, text: bytes | bytearray) -> None:
        """As ``Messages.receive``."""
        self._busy = True
        try:
            await self._obey(await self._read(text))
        finally:
            self._busy = False
            if not self._left:
                self.services.silence.heard(self)

    def unheard(self, seconds: float) -> None:
        """As ``Speaker.unheard``."""
        lease = self.services.settings.lease
        if self._busy:  # with what the worker said
            return
        if seconds > lease.seconds:
            self.dismiss(wire.SILENT, f"nothing was heard for {seconds:.0f} s; a lease lasts {lease.seconds:g} s")
        else:
            self._tell_settings()

    @property
    def _open_wire(self) -> Wire:
        assert self._wire is not None
        return self._wire

    async def _read(self, text: bytes | bytearray) -> Mapping[str, Any]:
        try:
            if len(text) <= BIG_BYTES:
                return MESSAGE.read(text)
            async with self.services.big_json:
                return await asyncio.get_running_loop().run_in_executor(None, MESSAGE.read, text)
        except Problem as problem:
            raise Refused(wire.BAD_MESSAGE, str(problem)) from problem

    async def _obey(self, said: Mapping[str, Any]) -> None:
        renewed = said.get("renew")
        if renewed is not None:
            await self._check(said["token"])
        elif not self._taken_up:
            raise Refused(wire.BAD_MESSAGE, "the first message must renew what the worker holds")
        # Results first: a lease that the same message does not renew any more may be that of a result.
        if completions := said.get("completions"):
            await self._complete([completed(item) for item in completions])
        if released := said.get("release"):
            await self._release(pairs(released))
        if renewed is not None:
            await self._renew(pairs(renewed))
        elif len(self._outcomes) > MOST_OUTCOMES:
            await self._say({})
        if more := said.get("credits"):
            if self._credits + more > MOST_CREDITS:
                raise Refused(wire.BAD_MESSAGE, f"a worker may have {MOST_CREDITS} credits at most")
            self._grant(more)

    async def _check(self, token: str) -> None:
        """Check the token of now, which Kubernetes renews. Raises ``Refused``."""
        try:
            worker = await worker_of(token, self.address, self.services)
        except AccessUnknown as error:
            log.debug("the token of %s is checked at the next renewal: %s", self.worker.job, error)
            return
        except AccessDenied as error:
            raise Refused(wire.TOKEN_DENIED, str(error)) from error
        if worker != self.worker:
            raise Refused(wire.TOKEN_DENIED, "the token is another worker's")

    async def _complete(self, completions: Sequence[Completion]) -> None:
        worker, tier = self.worker, self.services.settings.tiers.get(self.worker.tier)
        try:
            attempts = tier.limits.attempts if tier else ATTEMPTS
            reference = self.model.partition(" ")[0]  # of its key
            outcomes = await self.services.lobby.complete(worker, completions, attempts, reference)
        except QueueError as error:
            log.debug("results of %s are asked for again: %s", worker.job, error)
            outcomes = ["again"] * len(completions)
        reached(Point.RESULT_KEPT)
        told = [(one.id, outcome) for one, outcome in zip(completions, outcomes, strict=True)]
        self._outcomes += told
        self.services.measures.add(worker.tier, self.model, completions, outcomes)
        self.services.handout.finished(self, [key for key, outcome in told if outcome != "again"])
        if invalid := [key for key, outcome in told if outcome == "invalid"]:
            log.warning("Job %s handed in what cannot be the results of %s", worker.job, ", ".join(invalid))
            self.services.metrics.invalid(worker.tier, len(invalid))

    async def _release(self, leases: Sequence[tuple[str, str]]) -> None:
        # It is about to end, and would be given the same ones again.
        self._credits = 0
        self.services.handout.forgo(self)
        try:
            await self.services.lobby.release(self.worker, leases)
        except QueueError as error:
            log.debug("leases that %s handed back are left until their end: %s", self.worker.job, error)
        self.services.handout.finished(self, [key for key, _ in leases])

    async def _renew(self, leases: Sequence[tuple[str, str]]) -> None:
        """Prolong leases, and say which are lost. Raises ``Refused``."""
        lobby, seconds, lost = self.services.lobby, self.services.settings.lease.seconds, list[str]()
        try:
            if not self._taken_up:
                self.services.handout.took_up(self, await lobby.take_up(self.worker, leases, seconds))
                self._taken_up = True
            lost = await lobby.renew(self.worker, leases, seconds)
        except UnknownJob as error:
            raise Refused(wire.UNKNOWN_JOB, str(error)) from error
        except QueueError as error:
            if not self._taken_up:  # else what never reached this worker would wait for the end of its lease
                raise Refused(wire.BUSY, "the queue cannot be asked now") from error
            log.debug("leases of %s are renewed at the next renewal: %s", self.worker.job, error)
        self.services.handout.finished(self, lost)
        await self._say({"lost": lost})

    def _grant(self, more: int) -> None:
        self._credits += more
        self.services.handout.grant(self, more)

    async def _say(self, news: dict[str, Any]) -> None:
        """Send JSON, and return when it has gone, so that a worker that reads nothing is listened to no longer."""
        if (written := self._open_wire.send(wire.TEXT, [message(news, self.take_outcomes())])) is not None:
            await written

    def _try_to_say(self, news: dict[str, Any]) -> None:
        try:
            self._open_wire.send(wire.TEXT, [message(news, self.take_outcomes())])
        except StreamClosedError:
            log.debug("%s is gone, and is not told %s", self.worker.job, news)

    def _tell_settings(self) -> None:
        """Tell the worker how often it renews its leases and how it logs predictions, unless it knows that."""
        settings = self.services.settings
        if (news := {"renew": settings.lease.heartbeat, "log": settings.access_log}) != self._told:
            self._told = news
            self._try_to_say(dict(news))

    def _say_farewell(self) -> None:
        """Called before the connection is closed, because this server stops."""
        self.dismiss(wire.STOPS, "this server stops")

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self.services.silence.end(self)
            self.services.handout.leave(self)
