"""Authenticates workers. On one machine a worker's token names its tier and its Job, signed with a server secret."""

from __future__ import annotations

import hashlib
import hmac
from abc import ABC, abstractmethod
from dataclasses import dataclass


class AccessDenied(Exception):
    """The caller sent no token, or one that is not valid."""


@dataclass(frozen=True, slots=True)
class Worker:
    """The worker that a token stands for: its Job, and the tier that it may work for."""

    tier: str
    job: str


class AccessUnknown(Exception):
    """The token cannot be checked now, because what checks it (the Kubernetes API server) does not answer."""


class Credentials(ABC):
    """Finds the worker that a token belongs to."""

    @abstractmethod
    def recall(self, token: str) -> Worker | None:
        """Return the token's worker if it is known without a request to another server, else None; never blocks.

        Raises ``AccessDenied`` when no server would accept the token.
        """

    @abstractmethod
    def check(self, token: str) -> Worker:
        """Return the token's worker; may block. Raises ``AccessDenied`` or ``AccessUnknown``."""


class WorkerTokens(Credentials):
    """Makes and checks tokens ``tier.job.signature`` (HMAC-SHA256). Job names have no dot, so the parts are clear."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def mint(self, tier: str, job: str) -> str:
        """Return the token for one Job."""
        claim = f"{tier}.{job}"
        return f"{claim}.{self._sign(claim)}"

    def recall(self, token: str) -> Worker | None:
        """Return the token's worker. Raises ``AccessDenied``."""
        return self.check(token)

    def check(self, token: str) -> Worker:
        """Return the token's worker; compares signatures in constant time. Raises ``AccessDenied``."""
        claim, _, signature = token.rpartition(".")
        # As bytes: compare_digest takes only ASCII text, and a header may contain other text.
        if not hmac.compare_digest(signature.encode(), self._sign(claim).encode()):
            raise AccessDenied("the worker token is not one of this server's")
        tier, _, job = claim.partition(".")
        return Worker(tier, job)

    def _sign(self, claim: str) -> str:
        return hmac.new(self._secret, claim.encode(), hashlib.sha256).hexdigest()
