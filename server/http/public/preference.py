"""How long a client would like to wait for its answer: the header ``Prefer`` of RFC 7240."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST_WAIT = 60.0


class Preference:
    """How long to wait, and what of the client's preference was heeded."""

    def __init__(self, seconds: float, applied: str) -> None:
        self.seconds = seconds
        self.applied = applied

    @classmethod
    def of(cls, headers: Sequence[str], default: float) -> Preference:
        """Read the ``Prefer`` headers; what is not understood is ignored, as the RFC asks."""
        tokens = [token.strip().lower() for header in headers for token in header.split(",")]
        waits = [match[1] for token in tokens if (match := re.fullmatch(r'wait\s*=\s*"?(\d{1,6})"?', token))]
        if waits:  # the RFC: of several, the first counts
            seconds = min(float(waits[0]), LONGEST_WAIT)
            return cls(seconds, f"wait={seconds:g}")
        if "respond-async" in tokens:
            return cls(0.0, "respond-async")
        return cls(default, "")
