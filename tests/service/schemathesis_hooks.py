"""What schemathesis cannot know from a schema: what a picture is, and what the settings of a tier allow."""

from __future__ import annotations

import base64
import re
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image
from schemathesis import Case, HookContext

from tests.service.pictures import encode

SMALL = Image.new("RGB", (8, 8), (200, 30, 30))
PICTURES = st.sampled_from([encode(SMALL, form) for form in ("PNG", "JPEG", "GIF", "WEBP")])
SHORTEST_SECONDS = 10.0  # for a worker to start, and to be done
LONGEST_SECONDS, PICTURES_MOST = 3600.0, 8  # ``waits.queueSeconds`` and ``limits.images`` of both tiers
UNITS = {"s": 1, "m": 60, "h": 3600}

for kind in ("image/jpeg", "image/png", "image/webp", "image/gif", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, PICTURES)
schemathesis.openapi.format("picture", PICTURES.map(lambda data: base64.b64encode(data).decode()))
schemathesis.openapi.format("cursor", st.just(""))  # where a list begins


@schemathesis.hook
def filter_case(context: HookContext, case: Case[Any]) -> bool:
    """Leave out what the tiers refuse: times that are too short or too long for them, and too many pictures."""
    found = re.fullmatch(r"([0-9.]+)([smh]?)", str(dict(case.headers or {}).get("Cancel-After", "")))
    in_time = found is None or SHORTEST_SECONDS <= float(found[1]) * UNITS[found[2] or "s"] <= LONGEST_SECONDS
    pictures = case.body.get("inputs", case.body.get("file")) if isinstance(case.body, dict) else None
    return in_time and not (isinstance(pictures, list) and len(pictures) > PICTURES_MOST)
