"""Who a worker is: a token that names its tier and Job, signed with a secret that lives as long as the server."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass


class AccessDenied(Exception):
    """The caller showed no token, or not one of ours."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What a token proves: the Job and the tier it may work for."""

    tier: str
    job: str


class WorkerTokens:
    """Mints and checks ``tier.job.signature`` (HMAC-SHA256). Job names hold no dot, so the parts are unambiguous."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def mint(self, tier: str, job: str) -> str:
        """The token of one Job."""
        claim = f"{tier}.{job}"
        return f"{claim}.{self._sign(claim)}"

    def check(self, token: str) -> Worker:
        """Who shows this token. Raises ``AccessDenied``; compares in constant time."""
        claim, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(claim).encode()):
            raise AccessDenied("the worker token is not one of this server's")
        tier, _, job = claim.partition(".")
        return Worker(tier, job)

    def _sign(self, claim: str) -> str:
        return hmac.new(self._secret, claim.encode(), hashlib.sha256).hexdigest()
