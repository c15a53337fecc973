"""The tokens of leases: each proves that its Job was given the lease."""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache

TOKEN_CHARACTERS = 32
_MARK_CHARACTERS = 8
_RANDOM_BYTES = (TOKEN_CHARACTERS - _MARK_CHARACTERS) // 2
_JOBS_KNOWN = 1000


def new_token(job: str) -> str:
    """A token for a new lease of this Job, which nobody can guess."""
    return mark(job) + secrets.token_hex(_RANDOM_BYTES)


@lru_cache(_JOBS_KNOWN)
def mark(job: str) -> str:
    """Return what the tokens of a Job's leases begin with: of a lost lease, the row keeps only the token."""
    return hashlib.sha256(job.encode()).hexdigest()[:_MARK_CHARACTERS]
