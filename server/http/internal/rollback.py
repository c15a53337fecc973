"""The operators' route that brings the earlier model of a tier back."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

from server.http.internal.operators import OperatorHandler
from server.http.schemas import Schema
from server.logs import AUDIT
from server.models import NoModel, rolled_back
from server.problems import Problem
from server.queue import OutcomeUnknown

_ROLLBACK = Schema("model.schema.json", "rollback", "bad_rollback")

_audit = logging.getLogger(AUDIT)


class RollbackHandler(OperatorHandler):
    """``/v1/tiers/{tier}/rollback``."""

    async def post(self, name: str) -> None:
        """Serve what the tier served before, until its settings name another model; with ``undo`` what they name."""
        services = self.services
        tiers = services.settings.tiers
        if name not in tiers:
            detail = f"there is no tier {name[:80]!r}; the tiers are {', '.join(tiers)}"
            raise Problem(HTTPStatus.NOT_FOUND, "no_such_tier", detail, tiers=list(tiers))
        undo = bool(_ROLLBACK.read(self.received or b"{}").get("undo", False))
        what = "rollback undone" if undo else "rolled back"
        asked = (services.queue, services.catalog, tiers[name], services.clock())
        try:
            now = await asyncio.get_running_loop().run_in_executor(
                services.store_pool, lambda: rolled_back(*asked, undo=undo)
            )
        except NoModel as error:
            raise Problem(HTTPStatus.CONFLICT, "no_rollback", str(error)) from error
        except OutcomeUnknown:
            _audit.info("tier %s, unless its commit failed: tier=%s by=%s", what, name, self.caller)
            raise
        served = now.main.reference if now.main else None
        _audit.info("tier %s: tier=%s serves=%s instead_of=%s by=%s", what, name, served, now.instead_of, self.caller)
        self.answer(
            {
                "tier": name,
                "main": served,
                "instead_of": now.instead_of or None,
                "previous": [model.reference for model in now.previous],
                "problem": now.problem or None,
            }
        )
