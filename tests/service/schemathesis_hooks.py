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
DIMENSIONS_MOST = 8  # of a tensor
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
    body = case.body if isinstance(case.body, dict) else {}
    pictures = body.get("instances", body.get("inputs", body.get("file")))
    in_json = "Inference-Header-Content-Length" not in dict(case.headers or {})  # which must fit the body
    return (
        in_time and in_json and not (isinstance(pictures, list) and len(pictures) > PICTURES_MOST) and _is_tensor(body)
    )


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    """Give a tensor the shape that it has, if it has one at all."""
    for one in _tensors(body):
        shape, count = one.get("shape"), _elements(one)
        if count and isinstance(shape, list) and 0 < len(shape) <= DIMENSIONS_MOST and all(map(_is_size, shape)):
            one["shape"] = [count]
    return body


def _is_tensor(body: Any) -> bool:
    """No output is named twice, only scores are wanted as classes, and there are not too many pictures."""
    outputs = [one for one in _list(body, "outputs") if isinstance(one, dict)]
    names = [one.get("name") for one in outputs]
    labels = [one.get("parameters") for one in outputs if one.get("name") == "labels"]
    few = all(_elements(one) <= PICTURES_MOST for one in _tensors(body))
    return few and names.count("labels") < 2 and names.count("scores") < 2 and "classification" not in str(labels)


def _tensors(body: Any) -> list[dict[str, Any]]:
    return [one for one in _list(body, "inputs") if isinstance(one, dict)]


def _elements(tensor: dict[str, Any]) -> int:
    return sum(len(one) if isinstance(one, list) else 1 for one in _list(tensor, "data"))


def _list(body: Any, name: str) -> list[Any]:
    found = body.get(name) if isinstance(body, dict) else None
    return found if isinstance(found, list) else []


def _is_size(value: Any) -> bool:
    return type(value) in (int, float) and value % 1 == 0 and 0 <= value < 2**32
