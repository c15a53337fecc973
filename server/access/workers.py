"""Who a worker is. On one machine: a token that names its tier and Job, signed with a secret of the server's."""

from __future__ import annotations

import hashlib
import hmac
from abc import ABC, abstractmethod
from dataclasses import dataclass


class AccessDenied(Exception):
    """The caller showed no token, or not one of ours."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What a token proves: the Job and the tier it may work for."""

    tier: str
    job: str


class AccessUnknown(Exception):
    """Whoever could say whose token it is does not answer."""


class Credentials(ABC):
    """What tells whose token it is."""

    @abstractmethod
    def recall(self, token: str) -> Worker | None:
        """Who shows this token, as far as that needs no asking; never blocks."""

    @abstractmethod
    def check(self, token: str) -> Worker:
        """Who shows this token; may block. Raises ``AccessDenied`` or ``AccessUnknown``."""


class WorkerTokens(Credentials):
    """Mints and checks ``tier.job.signature`` (HMAC-SHA256). Job names hold no dot, so the parts are unambiguous."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def mint(self, tier: str, job: str) -> str:
        """The token of one Job."""
        claim = f"{tier}.{job}"
        return f"{claim}.{self._sign(claim)}"

    def recall(self, token: str) -> Worker | None:
        """Who shows this token; compares in constant time."""
        claim, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(claim).encode()):
            return None
        tier, _, job = claim.partition(".")
        return Worker(tier, job)

    def check(self, token: str) -> Worker:
        """Who shows this token. Raises ``AccessDenied``."""
        worker = self.recall(token)
        if worker is None:
            raise AccessDenied("the worker token is not one of this server's")
        return worker

    def _sign(self, claim: str) -> str:
        return hmac.new(self._secret, claim.encode(), hashlib.sha256).hexdigest()
