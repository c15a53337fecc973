"""At whatever places of JSON pictures stand, they are found, as a parser of the whole text finds them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.intake.gathering import Gathering
from server.intake.memory import Memory
from server.intake.texts import Place, TextReader
from server.problems import Problem
from server.settings.records import Limits

LIMITS = Limits(queue=10, queue_bytes=1_000_000, images=100, image_bytes=2000, image_pixels=100, attempts=3)
PICTURE = b"\xff\xd8\xff"
PLACES: list[list[Place]] = [
    [("inputs",), ("inputs", int)],
    [("instances", int, "b64"), ("instances", int, str, "b64")],
    [("inputs", int, "data", int), ("inputs", int, "data", int, int)],
]

keys = st.sampled_from(["inputs", "instances", "data", "b64", "a", 'q"', "\\", "\u00e9", ""])
strings = st.binary(max_size=20).map(lambda data: base64.b64encode(PICTURE + data).decode())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | strings,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
bodies = st.dictionaries(keys, values, max_size=4) | st.fixed_dictionaries(
    {},
    optional={
        "instances": st.lists(st.dictionaries(keys, strings, max_size=3), max_size=3),
        "inputs": st.lists(st.dictionaries(keys, st.lists(strings, max_size=3), max_size=3), max_size=3),
    },
)
cuts = st.lists(st.integers(0, 4000), max_size=12) | st.just(list(range(4000)))


def at(value: Any, place: Place) -> Iterator[str]:
    """The strings at a place of parsed JSON."""
    if not place:
        if isinstance(value, str):
            yield value
    elif isinstance(value, list) and place[0] is int:
        for item in value:
            yield from at(item, place[1:])
    elif isinstance(value, dict) and place[0] is not int:
        for key, item in value.items():
            if place[0] in (str, key):
                yield from at(item, place[1:])


def read(body: bytes, cut: Sequence[int], places: Sequence[Place]) -> list[bytes]:
    held = Memory(1_000_000).hold("free", "127.0.0.1", {"free": 1_000_000})
    gathering = Gathering(LIMITS, held)
    reader = TextReader(gathering, places)
    for start, end in pairwise([0, *sorted(one % (len(body) + 1) for one in cut), len(body)]):
        reader.feed(body[start:end])
    rest = reader.body()
    return [b"".join(gathering.pictures[int(number)]) for place in places for number in at(rest, place)]


@pytest.mark.parametrize("places", PLACES)
@given(body=bodies, cut=cuts, ascii_only=st.booleans())
def test_the_pictures_are_those_that_a_parser_finds(
    places: list[Place], body: dict[str, Any], cut: list[int], ascii_only: bool
) -> None:
    expected = [base64.b64decode(text) for place in places for text in at(body, place)]
    assert read(json.dumps(body, ensure_ascii=ascii_only).encode(), cut, places) == expected


@pytest.mark.parametrize(
    ("body", "places", "pointer"),
    [
        (b'{"inputs": "*"}', 0, "/inputs"),
        (b'{"inputs": ["AAAA", "*"]}', 0, "/inputs/1"),
        (b'{"a": [1, 2], "instances": [{"b64": "AAAA"}, {"x": 1, "~/": {"b64": "*"}}]}', 1, "/instances/1/~0~1/b64"),
        (b'{"inputs": [{"shape": [1], "data": ["AAAA", "AAAA"]}, {"data": [["*"]]}]}', 2, "/inputs/1/data/0/0"),
        (b'{"instances": [{"%s": {"b64": "*"}}]}' % (500 * b"x"), 1, f"/instances/0/{80 * 'x'}/b64"),
    ],
)
def test_a_problem_points_to_what_is_no_base64(body: bytes, places: int, pointer: str) -> None:
    with pytest.raises(Problem) as refused:
        read(body, [], PLACES[places])
    assert (refused.value.body["code"], refused.value.body["pointer"]) == ("bad_base64", pointer)
