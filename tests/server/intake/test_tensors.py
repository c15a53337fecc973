"""Pictures in requests of other services' protocols are found however the body is cut; garbage is a problem.

How it could break: a cut falls into a length or into an element, a length lies, the JSON is longer or shorter than the
header says, the elements are more or fewer than announced, a count is huge, two tensors share the bytes, an element
that is no string is read as the number of a picture, an output is wanted a thousand times.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.intake.gathering import Gathering, Request
from server.intake.instances import InstancesReader
from server.intake.memory import Memory
from server.intake.outputs import Output, Wanted
from server.intake.tensors import TensorReader
from server.problems import Problem
from server.settings.records import Limits

LIMITS = Limits(queue=10, queue_bytes=1_000_000, images=5, image_bytes=2000, image_pixels=100, attempts=3)
PICTURE = b"\xff\xd8\xff"

pictures = st.binary(max_size=300).map(lambda rest: PICTURE + rest)
lists = st.lists(pictures, min_size=1, max_size=5)
cuts = st.lists(st.integers(0, 4000), max_size=12) | st.just(list(range(4000)))


def text(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def elements(wanted: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(one)) + one for one in wanted)


def tensor(shape: Any, more: dict[str, Any], **members: Any) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "datatype": "BYTES", "shape": shape, **more}], **members}).encode()


def binary(wanted: Sequence[bytes], **members: Any) -> tuple[bytes, int]:
    tail = elements(wanted)
    head = tensor([len(wanted)], {"parameters": {"binary_data_size": len(tail)}}, **members)
    return head + tail, len(head)


def fed(reader: TensorReader | InstancesReader, body: bytes, at: Sequence[int]) -> Request:
    for start, end in pairwise([0, *sorted(place % (len(body) + 1) for place in at), len(body)]):
        if start < end:
            reader.feed(body[start:end])
    return reader.finish({})


def gathering() -> Gathering:
    return Gathering(LIMITS, Memory(100_000).hold("free", "127.0.0.1", {"free": 100_000}))


def read(body: bytes, length: int | None, at: Sequence[int] = ()) -> tuple[list[bytes], int, Wanted]:
    reader = TensorReader(gathering(), length)
    request = fed(reader, body, at)
    return [b"".join(pieces) for pieces in request.pictures], request.top_k, reader.wanted


def read_instances(body: bytes, at: Sequence[int] = ()) -> tuple[list[bytes], int]:
    request = fed(InstancesReader(gathering()), body, at)
    return [b"".join(pieces) for pieces in request.pictures], request.top_k


def refused(body: bytes, length: int | None) -> dict[str, Any]:
    with pytest.raises(Problem) as problem:
        read(body, length)
    return problem.value.body


@given(lists, cuts)
def test_a_binary_tensor(wanted: list[bytes], at: list[int]) -> None:
    body, length = binary(wanted, id="a", parameters={"top_k": 7, "binary_data_output": True})
    expected = Wanted("a", [Output("labels", True), Output("scores", True)])
    assert read(body, length, at) == (wanted, 7, expected)


@given(lists, cuts, st.booleans(), st.booleans())
def test_a_tensor_in_json(wanted: list[bytes], at: list[int], two_dimensions: bool, told: bool) -> None:
    data: list[Any] = [text(one) for one in wanted]
    shape = [len(wanted)]
    if two_dimensions:
        data, shape = [[one] for one in data], [len(wanted), 1]
    body = tensor(shape, {"data": data})
    expected = Wanted(None, [Output("labels", False), Output("scores", False)])
    assert read(body, len(body) if told else None, at) == (wanted, 5, expected)


@given(lists, cuts, st.booleans())
def test_instances(wanted: list[bytes], at: list[int], around: bool) -> None:
    given_as: list[Any] = [{"b64": text(one)} for one in wanted]
    if around:
        given_as = [{"key": 1, "image_bytes": one} for one in given_as]
    body = {"signature_name": "x", "parameters": {"top_k": 2}, "instances": given_as}
    assert read_instances(json.dumps(body).encode(), at) == (wanted, 2)


garbage = st.builds(
    lambda body, at, more, less: body[: at % len(body)] + more + body[at % len(body) + less :],
    st.sampled_from([binary([PICTURE, PICTURE + b"abc"])[0], tensor([1], {"data": [text(PICTURE)]})]),
    st.integers(0, 1000),
    st.binary(max_size=5) | st.sampled_from([b"9", b"[", b'"', b'"data": ["0"],', b"\xff\xff\xff\xff"]),
    st.integers(0, 5),
)


@given(garbage, st.none() | st.integers(0, 300), cuts)
@example(b"", None, [])
@example(b"", 0, [])
@example(b"{}", 2, [])
def test_garbage_is_a_problem(body: bytes, length: int | None, at: list[int]) -> None:
    try:
        found, _, _ = read(body, length, at)
    except Problem as problem:
        assert 400 <= problem.status < 500
    else:
        assert PICTURE in b"".join(found)


@given(lists, st.integers(-3, 3), st.integers(-3, 3), st.integers(1, 4))
def test_sizes_that_do_not_fit_together_are_a_problem(wanted: list[bytes], size: int, more: int, count: int) -> None:
    tail = elements(wanted)
    head = tensor([len(wanted) - 1 + count], {"parameters": {"binary_data_size": len(tail) + size}})
    body = head + (tail + bytes(more) if more >= 0 else tail[:more])
    if (size, more, count) == (0, 0, 1):
        assert read(body, len(head))[0] == wanted
    else:
        with pytest.raises(Problem):
            read(body, len(head))


def asked(head: dict[str, Any], **members: Any) -> bytes:
    return tensor([1], {"data": [text(PICTURE)], **head}, **members)


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (b'{"inputs": []}', "bad_inputs", "/inputs"),
        (b'{"inputs": [{}, {}]}', "bad_inputs", "/inputs"),
        (b'{"inputs": ["a"]}', "bad_inputs", "/inputs"),
        (asked({"name": 1}), "bad_inputs", "/inputs/0/name"),
        (asked({"parameters": []}), "bad_inputs", "/inputs/0/parameters"),
        (asked({"datatype": "FP32"}), "bad_inputs", "/inputs/0/datatype"),
        (asked({"shape": [2]}), "bad_inputs", "/inputs/0/shape"),
        (asked({"shape": []}), "bad_inputs", "/inputs/0/shape"),
        (asked({"shape": 1}), "bad_inputs", "/inputs/0/shape"),
        (asked({"shape": [True]}), "bad_inputs", "/inputs/0/shape"),
        (asked({"shape": [-1, -1]}), "bad_inputs", "/inputs/0/shape"),
        (asked({"shape": [10**100]}), "bad_inputs", "/inputs/0/shape"),
        (asked({"shape": [1] * 9}), "bad_inputs", "/inputs/0/shape"),
        (asked({"data": [[["AAAA"]]]}), "bad_inputs", "/inputs/0/data/0"),
        (asked({"data": [1]}), "bad_inputs", "/inputs/0/data/0"),
        (asked({"data": "AAAA"}), "bad_inputs", "/inputs/0/data"),
        (asked({"data": ["*"]}), "bad_base64", "/inputs/0/data/0"),
        (asked({"parameters": {"binary_data_size": 7}}), "bad_inputs", "/inputs/0/parameters/binary_data_size"),
        (tensor([1], {"parameters": {"binary_data_size": -1}}), "bad_inputs", "/inputs/0/parameters/binary_data_size"),
        (tensor([1], {"parameters": {"binary_data_size": 7}}), "bad_inputs", None),  # the header is missing
        (tensor([1], {"parameters": {"shared_memory_region": "a"}}), "bad_inputs", "/inputs/0/data"),
        (tensor([0], {"data": []}), "bad_inputs", "/inputs/0/shape"),
        (asked({}, id=1), "bad_parameters", "/id"),
        (asked({}, parameters={"priority": 1}), "bad_parameters", "/parameters/priority"),
        (asked({}, parameters={"top_k": True}), "bad_top_k", "/parameters/top_k"),
        (asked({}, parameters={"binary_data_output": 1}), "bad_parameters", "/parameters/binary_data_output"),
        (asked({}, outputs={}), "bad_parameters", "/outputs"),
        (asked({}, outputs=100 * [{"name": "labels"}]), "bad_parameters", "/outputs"),
        (asked({}, outputs=2 * [{"name": "labels"}]), "bad_parameters", "/outputs"),
        (asked({}, outputs=[{"name": "x"}]), "bad_parameters", "/outputs/0"),
        (asked({}, outputs=[{"name": []}]), "bad_parameters", "/outputs/0"),
        (asked({}, outputs=["labels"]), "bad_parameters", "/outputs/0"),
        (
            asked({}, outputs=[{"name": "labels", "parameters": {"shared_memory_region": "a"}}]),
            "bad_parameters",
            "/outputs/0/parameters",
        ),
        (
            asked({}, outputs=[{"name": "labels", "parameters": {"classification": 1}}]),
            "bad_parameters",
            "/outputs/0/parameters/classification",
        ),
        (
            asked({}, outputs=[{"name": "scores", "parameters": {"classification": 0}}]),
            "bad_parameters",
            "/outputs/0/parameters/classification",
        ),
        (
            asked({}, outputs=[{"name": "scores", "parameters": {"binary_data": "yes"}}]),
            "bad_parameters",
            "/outputs/0/parameters/binary_data",
        ),
    ],
)
def test_a_problem_says_what_is_wrong_and_where(body: bytes, code: str, pointer: str | None) -> None:
    problem = refused(body, None)
    assert (problem["code"], problem.get("pointer")) == (code, pointer), problem["detail"]


def test_an_output_for_classification_gets_as_many_classes_as_it_wants() -> None:
    outputs = [{"name": "scores", "parameters": {"classification": 9, "binary_data": True}}, {"name": "labels"}]
    _, top_k, wanted = read(asked({}, outputs=outputs), None)
    assert (top_k, wanted) == (9, Wanted(None, [Output("scores", True, 9), Output("labels", False)]))
    assert read(asked({}, outputs=outputs, parameters={"top_k": 3}), None)[1] == 3


def test_a_whole_number_of_json_may_have_a_point() -> None:
    outputs = [{"name": "scores", "parameters": {"classification": 9.0}}]
    assert read(asked({"shape": [1.0]}, outputs=outputs), None)[:2] == ([PICTURE], 9)
    assert refused(asked({"shape": [1.5]}), None)["pointer"] == "/inputs/0/shape"


def test_a_binary_tensor_is_bounded_while_it_comes() -> None:
    body, length = binary([PICTURE + bytes(2000)])
    assert refused(body, length)["code"] == "too_many_bytes"
    body, length = binary(6 * [PICTURE])
    assert refused(body, length)["limit_images"] == 5
    head = tensor([10**9], {"parameters": {"binary_data_size": 2**31}})
    assert refused(head + struct.pack("<I", 2**31), len(head))["detail"].startswith("picture 0 announces 2147483648")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/instances"),
        ({"instances": []}, "/instances"),
        ({"instances": {"b64": text(PICTURE)}}, "/instances"),
        ({"inputs": [text(PICTURE)]}, "/instances"),
        ({"instances": [text(PICTURE)]}, "/instances/0"),
        ({"instances": [{"b64": text(PICTURE)}, {"b64": 1}]}, "/instances/1"),
        ({"instances": [{"b64": text(PICTURE), "x": {"b64": text(PICTURE)}}]}, "/instances/0"),
        ({"instances": [{"x": {"y": {"b64": "0"}}}]}, "/instances/0"),
        ({"instances": [[{"b64": "0"}]]}, "/instances/0"),
    ],
)
def test_instances_that_are_none_are_a_problem(body: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Problem) as refused:
        read_instances(json.dumps(body).encode())
    assert (refused.value.body["code"], refused.value.body["pointer"]) == ("bad_inputs", pointer)
