"""What a body is, its bytes say; its type decides only where they leave it open.

How it could break: a picture is refused for a type that a library sets by habit; what was sent under a wrong type is
refused without saying which is the right one; an error of JSON points elsewhere than to the error.
"""

from __future__ import annotations

import base64
import json

import pytest

from server.intake import formats
from server.intake.gathering import Request
from server.intake.memory import Memory
from server.problems import Problem
from server.settings.records import Limits

LIMITS = Limits(queue=10, queue_bytes=1_000_000, images=10, image_bytes=2000, image_pixels=100, attempts=3)
JPEG = b"\xff\xd8\xff" + bytes(100)
TEXT = base64.b64encode(JPEG).decode()
JSON = json.dumps({"inputs": TEXT}).encode()
FORM = b'--XX\r\nContent-Disposition: form-data; name="a"; filename="a.jpg"\r\n\r\n' + JPEG + b"\r\n--XX--\r\n"
TYPES = [
    "image/jpeg", "image/jpg", "image/pjpeg", "IMAGE/JPEG; q=1", "image/png", "image/*", "application/x-image", "",
    "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded", "text/plain", "text/html",
    "text/plain; charset=utf-8", "application/json", "application/xml", "multipart/form-data", "none", "*/*",
    "video/mp4", "multipart/form-data; boundary=XX",
]  # fmt: skip


def read(body: bytes, kind: str, step: int = 1000) -> Request:
    held = Memory(100_000).hold("free", "127.0.0.1", {"free": 100_000})
    reader = formats.reader({"Content-Type": kind}, LIMITS, held)
    for start in range(0, len(body), step):
        reader.feed(body[start : start + step])
    return reader.finish({})


def refused(body: bytes, kind: str, step: int = 1000) -> tuple[str, str]:
    with pytest.raises(Problem) as problem:
        read(body, kind, step)
    return problem.value.body["code"], problem.value.body["detail"]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("step", [1, 1000])
def test_a_picture_is_a_picture_under_any_type(kind: str, step: int) -> None:
    assert [b"".join(pieces) for pieces in read(JPEG, kind, step).pictures] == [JPEG]


@pytest.mark.parametrize("kind", [one for one in TYPES if not one.lower().startswith(("image/", "multipart/"))])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b" \r\n", b"\xef\xbb\xbf\n"])
def test_json_is_json_under_any_type_but_that_of_a_picture_or_a_form(kind: str, before: bytes) -> None:
    assert [b"".join(pieces) for pieces in read(before + JSON, kind).pictures] == [JPEG]


@pytest.mark.parametrize(
    ("body", "kind", "code", "says"),
    [
        (JSON, "image/jpeg", "unsupported_media_type", "this is JSON: send it with Content-Type: application/json"),
        (JSON, "multipart/form-data; boundary=XX", "bad_multipart", "boundary"),
        (
            FORM,
            "image/jpeg",
            "unsupported_media_type",
            "this is a form: send it with Content-Type: multipart/form-data",
        ),
        (FORM, "application/octet-stream", "unsupported_media_type", "this is a form"),
        (FORM, "multipart/mixed; boundary=XX", "unsupported_media_type", "this is a form"),
        (TEXT.encode(), "text/plain", "unsupported_media_type", "base64"),
        (f'"{TEXT}"'.encode(), "text/plain", "unsupported_media_type", "base64"),
        (f"data:image/jpeg;base64,{TEXT}".encode(), "text/plain", "unsupported_media_type", "data URL"),
        (f"image={TEXT}".encode(), "application/x-www-form-urlencoded", "unsupported_media_type", "is not taken"),
        (JSON.decode().encode("utf-16"), "application/json", "bad_json", "UTF-16"),
        (JSON.decode().encode("utf-16-le"), "application/json", "bad_json", "UTF-16"),
        (JSON.decode().encode("utf-16-be"), "text/plain", "bad_json", "UTF-16"),
        (b"", "", "empty_body", "the body is empty"),
    ],
)
def test_what_was_sent_under_a_wrong_type_is_named(body: bytes, kind: str, code: str, says: str) -> None:
    found, detail = refused(body, kind)
    assert (found, says in detail) == (code, True), detail


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"inputs": "%b" "parameters": {}}', "Expecting ',' delimiter at byte {after:2}, in line 1"),
        (b'{\n"inputs": "%b",\n"parameters": {"top_k": 5,}}', "in line 3"),
        (b'{"inputs": ["%b", "%b"], }', "in line 1"),
        (b'{"inputs": "%b", "parameters": {"top_k": NaN}}', "NaN is not JSON"),
        (b'{"inputs": "%b", "parameters": {"top_k": ' + 5000 * b"1" + b"}}", "Exceeds the limit (4300 digits)"),
        (b'{"inputs": "%b", "a": "\xff"}', "byte {end:-2} is not UTF-8"),
        (b'{"inputs": "%b", "\xff": 1}', "a key of an object is not a string in double quotes, in UTF-8"),
        (b"{'inputs': '%b'}", "a key of an object is not a string in double quotes"),
        (b'{"inputs": "%b"', "at byte {end:+1}, in line 1"),
        (b'{"inputs": "%b"} and more', "Extra data at byte {after:3}"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_an_error_of_json_says_where_it_is_in_the_body_and_shows_nothing_of_it(
    body: bytes, says: str, step: int
) -> None:
    body = body.replace(b"%b", TEXT.encode())
    after, end = body.find(b'"', body.find(TEXT.encode())), len(body)
    for name, place in (("after", after + 1), ("end", end)):
        head, found, rest = says.partition("{" + name + ":")
        if found:
            offset, _, tail = rest.partition("}")
            says = f"{head}{place + int(offset)}{tail}"
    code, detail = refused(body, "application/json", step)
    assert (code, says in detail) == ("bad_json", True), (detail, says)
    assert TEXT not in detail
