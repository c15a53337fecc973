"""The operators' routes: they make, list, rotate and revoke keys. On the internal port only, with the admin token."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from http import HTTPStatus
from typing import Any, TypeVar

from server.access.keyring import Held
from server.access.keys import Terms, audit, limits_of, make, moment, shown
from server.http.internal.operators import OperatorHandler
from server.http.schemas import Schema
from server.problems import Problem
from server.queue import Key, OutcomeUnknown, PepperDiffers, QueueError, asked

GRACE_SECONDS = 86400.0
_CREATION, _ROTATION = (Schema("keys.schema.json", name, "bad_key_terms") for name in ("creation", "rotation"))

T = TypeVar("T")


class KeyRouteHandler(OperatorHandler):
    """What the routes of keys have in common."""

    async def look(self) -> None:
        """Have the keyring know all that was committed until now. Raises what the queue raises."""
        try:
            await asyncio.to_thread(self.services.keyring.refresh)
        except PepperDiffers as error:
            raise _other_pepper(error) from error

    async def named(self, key_id: str) -> Held:
        """The key with this id. Raises ``Problem``, which does not repeat the id: it may be a whole key by mistake."""
        await self.look()
        held = self.services.keyring.named(key_id)
        if held is None:
            raise Problem(HTTPStatus.NOT_FOUND, "no_such_key", "there is no key with this id: tierserve keys list")
        return held

    async def to_change(self, key_id: str) -> Key:
        """The key with this id, if it is kept in the database. Raises ``Problem``."""
        held = await self.named(key_id)
        if held.in_file:
            detail = f"the key {key_id} is kept in a file of hashed keys: change it there"
            raise Problem(HTTPStatus.CONFLICT, "key_in_file", detail)
        return held.key

    async def changed(self, what: str, key: Key, change: Future[T]) -> T:
        """Await a change of a key. Raises ``Problem`` and what the queue raises."""
        try:
            return await asked(change)
        except PepperDiffers as error:
            raise _other_pepper(error) from error
        except OutcomeUnknown:
            audit(f"{what}, unless its commit failed", key, self.caller)
            raise

    async def known(self) -> None:
        """Have the keyring know a change before it is answered; if it cannot now, it will soon."""
        with suppress(QueueError, TimeoutError):
            await asyncio.to_thread(self.services.keyring.refresh)

    def end_of(self, given: str) -> float:
        """The moment at which a key is to expire. Raises ``Problem``."""
        try:
            return moment(given, self.services.clock())
        except ValueError as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_key_terms", f"expires: {error}") from error

    def describe(self, key: Key, *, in_file: bool = False) -> dict[str, Any]:
        """A key as operators read it."""
        status, kept_in = key.status(self.services.clock()), "file" if in_file else "database"
        return {**shown(key), "status": status, "kept_in": kept_in}


class KeysHandler(KeyRouteHandler):
    """``/v1/keys``."""

    async def get(self) -> None:
        """All keys, in the order in which they were made, also those that are over."""
        await self.look()
        held = self.services.keyring.held()
        # Off the loop, as there may be ten thousand.
        self.answer(
            {"keys": await asyncio.to_thread(lambda: [self.describe(one.key, in_file=one.in_file) for one in held])}
        )

    async def post(self) -> None:
        """Make a key. Its text is in this answer and nowhere else."""
        body, services = _CREATION.read(self.received), self.services
        text, key = make(services.keyring.pepper, self._terms(body), services.clock())
        await self.changed("created", key, services.queue.add_key(key, services.keyring.pepper.check))
        audit("created", key, self.caller)
        await self.known()
        self.answer({"key": text, **self.describe(key)}, HTTPStatus.CREATED)

    def _terms(self, body: Mapping[str, Any]) -> Terms:
        tiers = self.services.settings.tiers
        if unknown := [name for name in body["tiers"] if name not in tiers]:
            detail = f"there is no tier {unknown[0]}; the tiers are {', '.join(tiers)}"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "no_such_tier", detail, tiers=list(tiers))
        return Terms(
            owner=body["owner"],
            tiers=body["tiers"],
            expires_at=self.end_of(body["expires"]) if "expires" in body else None,
            limits=limits_of(body.get("limits", {})),
            weight=float(body.get("weight", 1)),
        )


class KeyHandler(KeyRouteHandler):
    """``/v1/keys/{id}``."""

    async def get(self, key_id: str) -> None:
        """One key."""
        held = await self.named(key_id)
        self.answer(self.describe(held.key, in_file=held.in_file))

    async def delete(self, key_id: str) -> None:
        """Revoke it for ever. One that was revoked before stays as it is."""
        before = await self.to_change(key_id)
        revoked = await self.changed("revoked", before, self.services.queue.revoke_key(key_id))
        if before.revoked_at is None:
            audit("revoked", before, self.caller)
        await self.known()
        self.answer(self.describe(revoked or before))


class RotateHandler(KeyRouteHandler):
    """``/v1/keys/{id}/rotate``."""

    async def post(self, key_id: str) -> None:
        """Make a new key on the terms of this one, which expires after ``grace`` seconds.

        Without ``expires`` the new one lives as long as this one was to live.
        """
        body = _ROTATION.read(self.received or b"{}")
        old, services = await self.to_change(key_id), self.services
        now, pepper = services.clock(), services.keyring.pepper
        end = None if old.expires_at is None else now + old.expires_at - old.created_at
        if "expires" in body:
            end = self.end_of(body["expires"])
        text, key = make(pepper, Terms(old.owner, old.tiers, end, old.limits, old.weight), now)
        grace = float(body.get("grace", GRACE_SECONDS))
        what = f"created in place of {old.id}"
        rotated = await self.changed(what, key, services.queue.rotate_key(old.id, key, grace, pepper.check))
        if rotated is None:
            detail = f"the key {key_id} is {old.status(now)}: make a new one with tierserve keys create"
            raise Problem(HTTPStatus.CONFLICT, "key_over", detail)
        audit(what, key, self.caller)
        audit("rotated", rotated, self.caller)
        await self.known()
        told = {"key": text, **self.describe(key), "replaces": self.describe(rotated)}
        self.answer(told, HTTPStatus.CREATED)


def _other_pepper(error: PepperDiffers) -> Problem:
    detail = f"{error}: start it with the --pepper-file of the others"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "other_pepper", detail)
