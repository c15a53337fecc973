"""Which formats a picture may have, and what other bytes are: from ``model/formats.json``, which workers read too."""

from __future__ import annotations

import json
import re
from http import HTTPStatus

from server.problems import Problem
from server.shipped import FORMATS

_FORMATS = json.loads(FORMATS.read_text("utf-8"))
_NAMES = [one["name"] for one in _FORMATS["taken"]]
_OTHERS = [(re.compile(one["start"].encode("latin-1"), re.DOTALL), one) for one in _FORMATS["refused"]]

MAGIC = re.compile("|".join(f"(?:{one['start']})" for one in _FORMATS["taken"]).encode("latin-1"), re.DOTALL)
"""How pictures begin."""
MAGIC_BYTES = 64
"""So many first bytes of a body tell whether it begins as a picture."""
NAMED_BYTES = 512
"""So many first bytes are looked at to say what else it is, which bounds the time of that."""
TAKEN = f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}"
"""The formats that are taken, in words."""


def unsupported(start: bytes, otherwise: str = "this is no picture") -> Problem:
    """The problem of a picture that begins so, which is of no accepted format: named if it is known, with advice.

    ``otherwise``, the first half of a sentence, is said of unknown bytes.
    """
    start = start[:NAMED_BYTES]
    known = next((one for pattern, one in _OTHERS if pattern.match(start)), None)
    what = f"this is {known['name']}: {known['do']}" if known else otherwise
    detail = f"{what}. Send a {TAKEN} picture as it is, as multipart/form-data, or in JSON"
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
