"""Which trace a request belongs to: W3C Trace Context, level 1 (https://www.w3.org/TR/trace-context-1/)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

# Of a version that is not known yet, what it may add is left out.
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})-"
    r"(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
SAMPLED = 1


@dataclass(frozen=True, slots=True)
class Trace:
    """A part of a trace. All ids are in hexadecimal: ``trace_id`` has 32 digits, the others have 16.

    ``span_id`` is new, and stands for what is done here; ``parent_id`` is its caller's, and empty where the trace
    begins here. ``sampled``: the spans of this trace are kept.
    """

    trace_id: str
    span_id: str
    parent_id: str
    sampled: bool

    @classmethod
    def of(cls, traceparent: str | None, sample: Callable[[], bool]) -> Trace:
        """The trace that a caller's header names, or a new one if that is none; ``sample`` is asked for a new one."""
        found = _TRACEPARENT.fullmatch(traceparent or "")
        if found is None or (found["version"] == "00" and found["more"] is not None):
            return cls(secrets.token_hex(16), new_span_id(), "", sample())
        return cls(found["trace"], new_span_id(), found["span"], bool(int(found["flags"], 16) & SAMPLED))

    @property
    def traceparent(self) -> str:
        """What those are told who do a part of this: 55 characters."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"


def new_span_id() -> str:
    """A new id of a span."""
    return secrets.token_hex(8)


def trace_id_of(traceparent: str | None) -> str:
    """The id in a ``Trace.traceparent`` of ours; empty if there is none."""
    return (traceparent or "")[3:35]
