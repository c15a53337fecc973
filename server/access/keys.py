"""Keys: their text, the digests that are kept of them, and the records that people read and write.

A key is ``tsk_ID_SECRET``. The id is 12 characters of base 36, the secret 160 random bits in base 32 (RFC 4648, in
lower case). Only HMAC-SHA256 of the whole text is kept, made with the pepper.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from server.logs import AUDIT
from server.queue import Key

ID = re.compile(r"[0-9a-z]{12}")
KEY = re.compile(rf"tsk_({ID.pattern})_[2-7a-z]{{32}}")
SECRET_BYTES = 20
LIMITS = {
    "perSecond": "per_second",
    "burst": "burst",
    "perDay": "per_day",
    "queued": "queued",
    "bytesQueued": "bytes_queued",
}
"""The limits of a key by their names in values files, and as ``CallerLimits`` names them."""

_audit = logging.getLogger(AUDIT)
_ID_CHARACTERS, _ID_LENGTH = string.digits + string.ascii_lowercase, 12
_DURATION = re.compile(r"([0-9]{1,5})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class KeyRefused(Exception):
    """No caller is recognized by this text: ``code`` is stable, ``detail`` a sentence that holds nothing of it."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


class Pepper:
    """What digests of keys are made with; its text is never shown."""

    def __init__(self, text: str) -> None:
        self._secret = text.encode()

    def digest(self, key: str) -> str:
        """HMAC-SHA256 of a key's text, in hexadecimal."""
        return hmac.digest(self._secret, key.encode("utf-8", "replace"), hashlib.sha256).hex()

    @property
    def check(self) -> str:
        """What shows, beside digests, with which pepper they were made; no key has the text that it is made of."""
        return self.digest("tierserve pepper")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a key is made for. ``limits`` by their names in ``CallerLimits``; ``expires_at`` in epoch seconds."""

    owner: str
    tiers: Sequence[str]
    expires_at: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict, hash=False)
    weight: float = 1.0


def make(pepper: Pepper, terms: Terms, now: float) -> tuple[str, Key]:
    """A new key: its text, which is kept nowhere, and what is kept of it."""
    key_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
    text = f"tsk_{key_id}_{base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode().lower()}"
    return text, Key(
        id=key_id,
        owner=terms.owner,
        tiers=tuple(dict.fromkeys(terms.tiers)),
        digest=pepper.digest(text),
        created_at=now,
        expires_at=terms.expires_at,
        limits=dict(terms.limits),
        weight=terms.weight,
    )


def audit(what: str, key: Key, by: str) -> None:
    """Log what happened to a key, and who did it."""
    told = (key.id, key.owner, ",".join(key.tiers), time_text(key.expires_at) or "never")
    _audit.info("key %s: id=%s owner=%s tiers=%s expires=%s by=%s", what, *told, by)


def moment(text: str, now: float) -> float:
    """Epoch seconds of ``90d``, ``12h``, ``30m``, ``45s`` or ``2w`` from now, or of a time of RFC 3339.

    Raises ``ValueError`` for any other text, and for what is over already.
    """
    found = now + seconds(text) if _DURATION.fullmatch(text) else instant(text)
    if found <= now:
        raise ValueError(f"{text[:40]!r} is over already")
    return found


def seconds(text: str) -> float:
    """How long ``90d``, ``12h``, ``30m``, ``45s`` or ``2w`` is. Raises ``ValueError`` for any other text."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no time such as 90d, 12h, 30m or 0s")
    return int(found[1]) * _SECONDS[found[2]]


def instant(text: str) -> float:
    """Epoch seconds of a time of RFC 3339. Raises ``ValueError`` for any other text."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise ValueError(f"{text[:40]!r} is no time such as 90d, 12h or 2030-01-31T00:00:00Z")
    return parsed.timestamp()


def time_text(seconds: float | None) -> str | None:
    """A moment in RFC 3339, as the API writes it."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def limits_of(given: Mapping[str, float]) -> dict[str, float]:
    """The limits with the names of ``CallerLimits``, from those of values files."""
    return {LIMITS[name]: value for name, value in given.items()}


def shown(key: Key) -> dict[str, Any]:
    """What operators read of a key: neither its text nor its digest."""
    outside = {inside: name for name, inside in LIMITS.items()}
    return {
        "id": key.id,
        "owner": key.owner,
        "tiers": list(key.tiers),
        "limits": {outside[name]: value for name, value in key.limits.items()},
        "weight": key.weight,
        "created_at": time_text(key.created_at or None),
        "expires_at": time_text(key.expires_at),
        "revoked_at": time_text(key.revoked_at),
    }


def record(key: Key) -> dict[str, Any]:
    """A key as a file of hashed keys has it (``schemas/keys.schema.json``)."""
    told = shown(key)
    kept = {name: told[name] for name in ("id", "owner", "tiers")} | {"digest": key.digest}
    if key.expires_at is not None:
        kept["expires"] = told["expires_at"]
    return kept | {name: told[name] for name in ("limits", "weight") if told[name] != {}}


def from_record(found: Mapping[str, Any]) -> Key:
    """The key of a record that its schema accepts. Raises ``ValueError`` for an end that is no time of RFC 3339."""
    expires = found.get("expires")
    return Key(
        id=found["id"],
        owner=found["owner"],
        tiers=tuple(found["tiers"]),
        digest=found["digest"],
        created_at=0.0,
        expires_at=None if expires is None else instant(expires),
        limits=limits_of(found.get("limits", {})),
        weight=float(found.get("weight", 1)),
    )
