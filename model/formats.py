"""Which formats a picture may have, and what other bytes are. ``formats.json`` says so; the server reads it too."""

from __future__ import annotations

import json
import re
from pathlib import Path

_FORMATS = json.loads(Path(__file__).with_name("formats.json").read_text("utf-8"))
_STARTS = {one["name"]: re.compile(one["start"].encode("latin-1"), re.DOTALL) for one in _FORMATS["taken"]}
_OTHERS = [(re.compile(one["start"].encode("latin-1"), re.DOTALL), one) for one in _FORMATS["refused"]]
_LOOKED_AT = 512  # bytes from the start, which bounds the time of any pattern

ENDINGS = tuple(ending for one in _FORMATS["taken"] for ending in one["endings"])
"""How the names of pictures end that are taken, in lower case."""
_NAMES = list(_STARTS)
TAKEN = f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}"
"""The formats that are taken, in words."""


def format_of(data: bytes) -> str | None:
    """Return which of the formats that are taken the first bytes are of; None if they are of no such format."""
    start = data[:_LOOKED_AT]
    return next((name for name, pattern in _STARTS.items() if pattern.match(start)), None)


def refusal(data: bytes) -> str:
    """Say what bytes are that are not taken, and what to do with them."""
    start = data[:_LOOKED_AT]
    known = next((one for pattern, one in _OTHERS if pattern.match(start)), None)
    if known is None:
        return f"The bytes are not a {TAKEN} picture."
    return f"The bytes are {known['name']}, and a picture must be {TAKEN}: {known['do']}."
