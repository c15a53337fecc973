"""Finds the pictures and parameters in the body of a request, in any of the accepted formats."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from tornado.httputil import HTTPFile, HTTPInputError, ParseMultipartConfig, parse_multipart_form_data

from server.problems import Problem, json_object
from server.settings.records import Limits

TOP_K_DEFAULT, TOP_K_MOST = 5, 100
MULTIPART_PART_OVERHEAD = 16 * 1024
JSON_OVERHEAD = 64 * 1024
# Types that say nothing about the body: the last one is what curl --data-binary sends unless it is told another.
SAYS_NOTHING = ("", "application/octet-stream", "application/x-www-form-urlencoded")
MAGIC = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP", re.DOTALL)
DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w=.+-]+)*;base64,")


@dataclass(frozen=True, slots=True)
class Request:
    """One POST: its pictures, each as the chunks it came in, and how many labels each shall get."""

    pictures: Sequence[Sequence[bytes]]
    top_k: int


def media_type(headers: Mapping[str, str]) -> str:
    """The Content-Type without its parameters, lower case."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def most_bytes(kind: str, limits: Limits) -> int:
    """How long a body of this media type may be."""
    if kind == "multipart/form-data":
        return limits.images * (limits.image_bytes + MULTIPART_PART_OVERHEAD)
    if kind.startswith("image/") or kind == "application/octet-stream":
        return limits.image_bytes
    return limits.images * (4 * limits.image_bytes // 3 + 4) + JSON_OVERHEAD


def read(headers: Mapping[str, str], chunks: Sequence[bytes], top_k: str | None, limits: Limits) -> Request:
    """Return the request in a body; ``top_k`` is from the query. Raises ``Problem`` with 400, 413, 415 or 422."""
    kind = media_type(headers)
    if not any(chunks):
        raise Problem(HTTPStatus.BAD_REQUEST, "empty_body", "the body is empty: send the bytes of a picture")
    if kind == "multipart/form-data":
        request = _multipart(headers["Content-Type"], b"".join(chunks), top_k)
    elif kind.startswith("image/") or (kind in SAYS_NOTHING and MAGIC.match(_start(chunks))):
        request = Request([chunks], _top_k(top_k))
    elif _start(chunks).lstrip()[:1] in (b"{", b"[") or kind.endswith("json"):
        request = _json(b"".join(chunks), top_k)
    else:
        raise _unsupported(f"{kind or 'a body without Content-Type'} is not taken")
    _check(request, limits)
    return request


def _check(request: Request, limits: Limits) -> None:
    if len(request.pictures) > limits.images:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_many_images",
            f"{len(request.pictures)} pictures in one request; {limits.images} are allowed",
            limit_images=limits.images,
        )
    for index, chunks in enumerate(request.pictures):
        if (size := sum(map(len, chunks))) > limits.image_bytes:
            raise too_large(size, limits.image_bytes, f"picture {index}")
    # One picture suffices: each of the others gets an error of its own from the worker, which alone decodes them.
    if not any(MAGIC.match(_start(chunks)) for chunks in request.pictures):
        raise _unsupported("this is no picture")


def too_large(size: int, limit: int, what: str) -> Problem:
    """The problem of something that has more bytes than it may."""
    detail = f"{what} has {size} bytes; {limit} are allowed"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_many_bytes", detail, limit_bytes=limit)


def _unsupported(what: str) -> Problem:
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        f"{what}: send a JPEG, PNG, WebP or GIF picture as it is, as multipart/form-data, or in JSON",
    )


def _start(chunks: Sequence[bytes]) -> bytes:
    # 16 chunks of at least one byte each hold all of MAGIC, without joining a whole picture.
    return chunks[0] if len(chunks[0]) >= 16 else b"".join(chunks[:16])


def _multipart(content_type: str, body: bytes, top_k: str | None) -> Request:
    boundary = re.search(r'boundary="?([^";,]+)"?', content_type)
    arguments: dict[str, list[bytes]] = {}
    files: dict[str, list[HTTPFile]] = {}
    try:
        if boundary is None:
            raise HTTPInputError("multipart/form-data without a boundary")
        config = ParseMultipartConfig(max_parts=TOP_K_MOST)
        parse_multipart_form_data(boundary[1].encode(), body, arguments, files, config=config)
    except (HTTPInputError, UnicodeDecodeError) as error:
        raise Problem(
            HTTPStatus.BAD_REQUEST, "bad_multipart", f"the body is not multipart/form-data: {error}"
        ) from error
    pictures = [[file["body"]] for of_one_name in files.values() for file in of_one_name]
    if not pictures:
        raise Problem(
            HTTPStatus.BAD_REQUEST, "no_image", "no part of the body is a file: send pictures with a filename"
        )
    given = arguments["top_k"][-1].decode(errors="replace") if "top_k" in arguments else top_k
    return Request(pictures, _top_k(given))


def _json(body: bytes, top_k: str | None) -> Request:
    asked = json_object(body)
    inputs = asked.get("inputs")
    texts = inputs if isinstance(inputs, list) else [inputs]
    if not texts or not all(isinstance(text, str) for text in texts):
        detail = '"inputs" must be a picture in base64 or a data URL, or a list of them'
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_inputs", detail, pointer="/inputs")
    parameters = asked.get("parameters") or {}
    if not isinstance(parameters, dict) or parameters.keys() - {"top_k"}:
        detail = '"parameters" must be an object; the only parameter is "top_k"'
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_parameters", detail, pointer="/parameters")
    return Request([[_decode(index, text)] for index, text in enumerate(texts)], _top_k(parameters.get("top_k", top_k)))


def _decode(index: int, text: str) -> bytes:
    prefix = DATA_URL.match(text[:256])  # its character classes would also run over megabytes of base64
    try:
        return base64.b64decode(text[prefix.end() :] if prefix else text, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = f"picture {index} is not base64: {error}"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_base64", detail, pointer=f"/inputs/{index}") from error


def _top_k(given: Any) -> int:
    if given is None:
        return TOP_K_DEFAULT
    # A pattern, as int() also takes "1_0" and digits of other scripts.
    number = int(given) if re.fullmatch("[0-9]{1,3}", str(given).strip()) else 0
    if not 1 <= number <= TOP_K_MOST:
        detail = f"top_k is {str(given)[:20]!r}; it must be a whole number from 1 to {TOP_K_MOST}"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_top_k", detail, pointer="/parameters/top_k")
    return number
