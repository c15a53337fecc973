"""However a body is cut into parts, it is the same request; garbage is a problem, and never another error."""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import re
import weakref
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.intake import formats, gathering, names
from server.intake.forms import FIELDS_MOST
from server.intake.gathering import WHOLE_BYTES, Request
from server.intake.memory import Memory
from server.intake.texts import DEEPEST, MARKS_MOST, REST_BYTES
from server.problems import Problem
from server.settings.records import Limits

LIMITS = Limits(queue=10, queue_bytes=1_000_000, images=100, image_bytes=2000, image_pixels=100, attempts=3)
MEMORY = 100 * 2000 * 4
FORM = "multipart/form-data; boundary=XX"
MAGIC = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF1234WEBP"]

pictures = st.builds(lambda magic, rest: magic + rest, st.sampled_from(MAGIC), st.binary(max_size=600))
lists = st.lists(pictures, min_size=1, max_size=4)
cuts = st.lists(st.integers(0, 4000), max_size=12) | st.just(list(range(4000)))


def part(name: str, disposition: str, value: bytes, kind: str = "text/plain") -> bytes:
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{disposition}\r\nContent-Type: {kind}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(files: Sequence[tuple[str, bytes]], fields: Sequence[tuple[str, bytes]] = ()) -> bytes:
    parts = [part(name, "", value) for name, value in fields]
    parts += [part(name, '; filename="a.png"', value) for name, value in files]
    return b"preamble\r\n" + b"".join(parts) + b"--XX--\r\nepilogue"


@st.composite
def texts(draw: st.DrawFn, picture: bytes) -> bytes:
    """A JSON string of a picture, in any of the ways of writing it."""
    prefix = draw(
        st.sampled_from(["", "data:image/png;base64,", "data:;a=b;charset=utf-8;base64,", "data:a/b;base64,"])
    )
    found = json.dumps(prefix + base64.b64encode(picture).decode())
    if draw(st.booleans()):
        found = found.replace("/", "\\/")
    if draw(st.booleans()):
        found = found.replace("A", "\\u0041").replace("=", "\\u003D")
    return found.encode()


def read(body: bytes, at: Sequence[int], kind: str, limits: Limits = LIMITS, most: int = MEMORY) -> Request:
    """Read a body that is cut at some places, with whatever is beside its pictures. In the end, its memory is free."""
    memory = Memory(most)
    held = memory.hold("free", "127.0.0.1", {"free": most})
    reader = formats.reader({"Content-Type": kind}, limits, held, strict=False)
    places = [0, *sorted(place % (len(body) + 1) for place in at), len(body)]
    try:
        for start, end in pairwise(places):
            if start < end:
                reader.feed(body[start:end])
        request = reader.finish({"top_k": None, "function_to_apply": "sigmoid"})
        assert memory.used() >= size(request)
        return request
    finally:
        held.release()
        assert memory.used() == 0


def size(request: Request) -> int:
    return sum(len(piece) for pieces in request.pictures for piece in pieces)


def found(request: Request) -> tuple[list[bytes], int]:
    assert request.function == "sigmoid"
    return [b"".join(pieces) for pieces in request.pictures], request.top_k


@given(pictures, cuts, st.sampled_from(["image/jpeg", "", "application/octet-stream"]))
def test_a_picture_as_it_is(picture: bytes, at: list[int], kind: str) -> None:
    assert found(read(picture, at, kind)) == ([picture], 5)


@given(st.lists(st.tuples(st.sampled_from("abc"), pictures | st.just(b"")), max_size=5), pictures, cuts, st.booleans())
def test_a_form(files: list[tuple[str, bytes]], picture: bytes, at: list[int], fields: bool) -> None:
    files = [*files, ("b", picture)]
    given_fields = [("a", b"x"), ("top_k", b"9"), ("top_k", b"7")] if fields else []
    request = read(form(files, given_fields), at, FORM)
    assert found(request) == ([value for _, value in files], 7 if fields else 5)
    assert names.read(request.names) == [(name, "a.png") for name, _ in files]


@given(st.data(), lists, cuts, st.booleans())
def test_json(data: st.DataObject, wanted: list[bytes], at: list[int], one: bool) -> None:
    wanted = wanted[:1] if one else wanted
    strings = [data.draw(texts(picture)) for picture in wanted]
    inputs = strings[0] if one else b"[" + b" , ".join(strings) + b"]"
    key = data.draw(st.sampled_from([b'"inputs"', b'"\\u0069nputs"']))
    other = data.draw(st.sampled_from([b"", b'"inputs": "ignored+", ', b'"a": {"inputs": ["\\"", "x\\\\"]}, ']))
    body = b"\xef\xbb\xbf" * data.draw(st.integers(0, 1)) + b"{" + other + key + b":" + inputs
    body += b', "parameters": {"top_k": 3}, "note": "inputs"}'
    assert found(read(body, at, "application/json")) == (wanted, 3)


garbage = st.one_of(
    st.binary(max_size=300),
    st.text('{}[]",:\\u0041inputs=/ \n', max_size=60).map(lambda text: ('{"inputs":' + text).encode()),
    st.lists(st.sampled_from([b"--XX", b"\r\n", b"--", b"Content-Disposition: form-data", b'; name="a"', b"x"])).map(
        b"".join
    ),
    st.builds(
        lambda body, at, more: body[: at % len(body)] + more + body[at % len(body) :],
        st.sampled_from([form([("a", MAGIC[0])]), b'{"inputs": ["AAAA", "BBBB"], "parameters": {"top_k": 3}}']),
        st.integers(0, 1000),
        st.binary(max_size=5),
    ),
)


@given(garbage, cuts, st.sampled_from([FORM, "application/json", "image/png", "", "text/plain", "multipart/form-data"]))
@example(b'{"inputs": "data:image\\', [], "application/json")
@example(b'{"inputs": "AAAA\\x41\\u0041"}', [], "application/json")
@example(b'{"inputs": "AAAA\\u00zz"}', [], "application/json")
@example(b'{"inputs" "x"}', [], "application/json")
@example(b'{\0"\0i\0', [], "application/json")
@example(b'{"inputs": ["AA==", "AA==AA==", "\\\\/"]}', list(range(60)), "application/json")
def test_garbage_is_a_problem(body: bytes, at: list[int], kind: str) -> None:
    try:
        request = read(body, at, kind)
    except Problem as problem:
        assert 400 <= problem.status < 500
    else:
        assert any(pieces for pieces in request.pictures)


@pytest.mark.parametrize("kind", ["image/jpeg", FORM, "application/json"])
def test_a_picture_that_is_too_large_is_refused_while_it_comes(kind: str) -> None:
    picture = MAGIC[0] + bytes(2100)
    body = {
        "image/jpeg": picture,
        FORM: form([("a", picture)]),
        "application/json": json.dumps({"inputs": base64.b64encode(picture).decode()}).encode(),
    }[kind]
    assert code(body[:-30] if kind == FORM else body[:2750], kind) == "too_many_bytes"


@pytest.mark.parametrize("kind", [FORM, "application/json"])
@pytest.mark.parametrize("count", [100, 101])
def test_a_hundred_pictures_are_taken_if_the_tier_allows_them(kind: str, count: int) -> None:
    wanted = [MAGIC[0] + b"%d" % number for number in range(count)]
    body = {
        FORM: form([("a", picture) for picture in wanted]),
        "application/json": json.dumps({"inputs": [base64.b64encode(one).decode() for one in wanted]}).encode(),
    }[kind]
    if count == 100:
        assert found(read(body, [], kind)) == (wanted, 5)
    else:
        assert code(body, kind) == "too_many_images"


def code(body: bytes, kind: str, **more: Any) -> str:
    with pytest.raises(Problem) as refused:
        read(body, [], kind, **more)
    return str(refused.value.body["code"])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"inputs":[' + 40_000 * b"[],", "bad_json"),
        (b'{"inputs":[' + 70_000 * b" ", "too_many_bytes"),
        (b'{"a":"' + 70_000 * b"x", "too_many_bytes"),
        (b"[" * 17, "bad_json"),
        (b'{"a":[' + 6000 * b"1,", "bad_json"),
        (b'{"a":"' + 6000 * b'\\"', "bad_json"),
        (b'{"inputs":"' + 300 * b"*", "bad_base64"),
        (b'{"inputs":"AAA=AAAA"}', "bad_base64"),
        (b'{"inputs":"AAAA\\bAAAA"}', "bad_base64"),
        (b'{"inputs":"AAAA\\"AAAA"}', "bad_base64"),
        (b'{"inputs":["AAAA",[]]}', "bad_inputs"),
        (b'{"inputs":{"a":"AAAA"}}', "bad_inputs"),
    ],
)
def test_json_is_bounded_before_it_is_parsed(body: bytes, expected: str) -> None:
    assert code(body, "application/json") == expected


@pytest.mark.parametrize(
    "disposition",
    ['; filename="a"', "; filename=a", "; filename*=UTF-8''%e2%82%ac.png", "; filename=\"a\"; filename*=UTF-8''a"],
)
def test_a_part_with_a_file_name_is_a_picture_even_if_it_does_not_begin_as_one(disposition: str) -> None:
    body = part("a", disposition, b"x") + part("a", disposition, MAGIC[0]) + b"--XX--"
    assert found(read(body, [], FORM)) == ([b"x", MAGIC[0]], 5)


def test_a_part_that_says_it_is_a_picture_needs_no_file_name() -> None:
    body = part("a", "", MAGIC[0], "Image/PNG") + part("b", "", b"x") + b"--XX--"
    assert found(read(body, [], FORM)) == ([MAGIC[0]], 5)


def test_a_whole_number_of_json_may_have_a_point() -> None:
    body = {"inputs": base64.b64encode(MAGIC[0]).decode(), "parameters": {"top_k": 7.0}}
    assert found(read(json.dumps(body).encode(), [], "application/json")) == ([MAGIC[0]], 7)


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (form([("a", MAGIC[0])], [("function_to_apply", b"none"), ("function_to_apply", b"softmax")]), FORM, "softmax"),
        (b'{"inputs":"/9j/","parameters":{"function_to_apply":"none"}}', "application/json", "none"),
        (b'{"inputs":"/9j/","parameters":{"function_to_apply":null}}', "application/json", "softmax"),
        (b'{"inputs":"/9j/","parameters":{}}', "application/json", "sigmoid"),
    ],
)
def test_what_the_body_asks_for_counts_before_the_query(body: bytes, kind: str, expected: str) -> None:
    assert read(body, [], kind).function == expected


def test_the_rest_of_json_is_counted_too() -> None:
    body = b'{"note":"' + 20_000 * b"x" + b'"}'
    assert code(body, "application/json", most=10_000) == "too_many_bytes"


def test_memory_that_is_not_free_is_a_problem_and_so_is_memory_that_never_will_be() -> None:
    picture = MAGIC[0] + bytes(500)
    memory = Memory(1000)
    first, second = (memory.hold("free", address, {"free": 400}) for address in ("::1", "::2"))
    first.take(400)
    with pytest.raises(Problem) as refused:
        second.take(200)
    assert (refused.value.status, refused.value.body["limit_bytes"]) == (503, 500)
    assert code(picture, "image/jpeg", most=500) == "too_many_bytes"


@pytest.mark.parametrize("kind", ["image/jpeg", FORM, "application/json"])
@pytest.mark.parametrize("limit", ["memory", "bytes", "format"])
def test_a_request_that_is_refused_leaves_no_cycle_that_keeps_its_pictures(kind: str, limit: str) -> None:
    """The server collects cycles rarely, as it makes few."""
    picture = MAGIC[0] + bytes(1000)
    body = {
        "image/jpeg": picture,
        FORM: form([("a", picture)]),
        "application/json": json.dumps({"inputs": base64.b64encode(picture).decode()}).encode(),
    }[kind]
    memory = Memory(10_000)
    memory.hold("free", "127.0.0.1", {"free": 10_000}).take(9_500 if limit == "memory" else 1)
    limits = replace(LIMITS, image_bytes=700) if limit == "bytes" else LIMITS
    reader = formats.reader({"Content-Type": kind}, limits, memory.hold("free", "127.0.0.1", {"free": 10_000}))
    gone = weakref.ref(reader)
    gc.disable()
    try:
        with contextlib.suppress(Problem):
            for start in range(0, len(body), 600):
                reader.feed(body[start : start + 600])
            reader.feed(b"--XX garbage")
            reader.finish({"top_k": "many"})
        del reader
        assert gone() is None
    finally:
        gc.enable()


def test_a_picture_of_usual_size_is_not_copied_and_a_large_one_is_one_piece() -> None:
    memory = Memory(20 * WHOLE_BYTES)
    limits = replace(LIMITS, image_bytes=4 * WHOLE_BYTES)
    chunks = [MAGIC[0] + bytes(65536), bytes(65536), bytes(30_000)]
    reader = formats.reader({}, limits, memory.hold("free", "127.0.0.1", {"free": 9 * WHOLE_BYTES}))
    for chunk in chunks:
        reader.feed(chunk)
    (pieces,) = reader.finish({"top_k": None, "function_to_apply": "sigmoid"}).pictures
    assert all(piece is chunk for piece, chunk in zip(pieces, chunks, strict=True))
    reader = formats.reader({}, limits, memory.hold("free", "127.0.0.1", {"free": 9 * WHOLE_BYTES}))
    for _ in range(40):
        for chunk in (MAGIC[0], bytes(50_000), bytes(100)):
            reader.feed(chunk)
    (pieces,) = reader.finish({"top_k": None, "function_to_apply": "sigmoid"}).pictures
    assert [bytes(piece) for piece in pieces] == [40 * (MAGIC[0] + bytes(50_100))]


@given(st.lists(st.integers(0, 40), max_size=60))
def test_however_small_its_parts_a_picture_has_few_pieces(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "PIECE_BYTES", 8)
        patch.setattr(gathering, "WHOLE_BYTES", 200)
        held = Memory(10_000).hold("free", "127.0.0.1", {"free": 4000})
        found = gathering.Gathering(replace(LIMITS, image_bytes=4000), held)
        found.begin()
        for number, size in enumerate(sizes):
            found.add(bytes([number]) * size)
        (pieces,) = found.pictures
        assert b"".join(pieces) == b"".join(bytes([number]) * size for number, size in enumerate(sizes))
        assert len(pieces) <= 1 + (1 if held.size > 200 else 2 * held.size // 8)


@pytest.mark.parametrize("others", [FIELDS_MOST, FIELDS_MOST + 1])
def test_a_form_may_have_a_hundred_other_parts(others: int) -> None:
    wanted = [MAGIC[0] + b"%d" % number for number in range(LIMITS.images)]
    body = form([("a", picture) for picture in wanted], others * [("b", b"x")])
    if others == FIELDS_MOST:
        assert found(read(body, [], FORM)) == (wanted, 5)
    else:
        assert code(body, FORM) == "bad_multipart"


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("what", ["bytes", "depth", "marks"])
def test_json_may_have_as_much_as_is_allowed_around_its_pictures(what: str, more: int) -> None:
    picture = base64.b64encode(MAGIC[0]).decode()
    depth = DEEPEST - 1 + more if what == "depth" else 1
    body = f'{{"inputs":"{picture}","a":' + depth * "[" + "0" + "%s" + depth * "]" + "%s}"
    marks = len(re.findall(r'["{}\[\]:,]', body)) - 1  # the quote that ends a picture is not counted
    commas = MARKS_MOST - marks + more if what == "marks" else 0
    spaces = REST_BYTES - len((body % ("", "")).replace(picture, "0")) + more if what == "bytes" else 0
    body %= (commas * ",0", spaces * " ")
    if more:
        assert code(body.encode(), "application/json") in ("bad_json", "too_many_bytes")
    else:
        assert found(read(body.encode(), [], "application/json")) == ([MAGIC[0]], 5)
