"""base64 in all the forms in which programs send it, however it is cut; what is none is refused with the reason.

How it could break: a picture is decoded into other bytes without a word; a form that many programs send is refused; a
refusal depends on how the text came in pieces, or says nothing that helps.
"""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.intake.base64_text import Base64String, Base64Text

cuts = st.lists(st.integers(0, 3000), max_size=6) | st.just(list(range(3000)))
Form = Callable[[str], str]
PREFIXES = [
    "",
    "data:image/png;base64,",
    "data:image/png;name=my%20cat.png;base64,",
    "data:;charset=utf-8;base64,",
    "DATA:Image/JPEG;Base64,",
    "data:image/svg+xml;base64;charset=utf-8,",
    "data:base64;base64,",
    "data:image/png;x=" + 900 * "y" + ";base64,",
]
FORMS: dict[str, Form] = {
    "as it is": str,
    "without padding": lambda text: text.rstrip("="),
    "with too much padding": lambda text: text + "=" if text.endswith("=") else text,
    "with half of its padding": lambda text: text.removesuffix("=="),
    "in lines": lambda text: "\n".join(textwrap.wrap(text, 76)),
    "in lines of mail": lambda text: "\r\n".join(textwrap.wrap(text, 60)) + "\r\n",
    "in indented lines": lambda text: "  " + "\n  ".join(textwrap.wrap(text, 64)) + " \n",
    "in blanks": lambda text: f" \t\n{text}\n ",
    "for URLs": lambda text: text.replace("+", "-").replace("/", "_"),
    "for URLs, without padding": lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
}


def decoded(text: bytes, at: Sequence[int] = (), *, kind: type[Base64Text] = Base64Text) -> tuple[bytes, str | None]:
    pieces: list[bytes] = []
    found = kind(pieces.append)
    places = [0, *sorted(place % (len(text) + 1) for place in at), len(text)]
    for start, end in pairwise(places):
        found.feed(text[start:end])
    found.finish()
    return b"".join(pieces), found.file


@example(b"\0", "", "with too much padding", [])
@example(b"\0\0", "", "with too much padding", [])
@given(st.binary(max_size=700), st.sampled_from(PREFIXES), st.sampled_from(sorted(FORMS)), cuts)
def test_every_form_is_decoded(raw: bytes, prefix: str, form: str, at: list[int]) -> None:
    text = prefix + FORMS[form](base64.b64encode(raw).decode())
    file = "my cat.png" if "name=" in prefix else None
    assert decoded(text.encode(), at) == (raw, file)
    assert decoded(json.dumps(text)[1:-1].encode(), at, kind=Base64String) == (raw, file)
    assert decoded(json.dumps(text)[1:-1].replace("/", "\\/").encode(), at, kind=Base64String) == (raw, file)


@given(st.binary(max_size=300), cuts)
def test_a_data_url_may_be_percent_encoded(raw: bytes, at: list[int]) -> None:
    text = "data:image/png;base64," + quote(base64.b64encode(raw).decode() + "\r\n", safe="")
    assert decoded(text.encode(), at)[0] == raw
    assert decoded(text.replace("%2B", "%2b").replace("%3D", "%3d").encode(), at)[0] == raw


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/9j/4A AQ/9j/", "there are spaces in it. If each was a + before, a form has decoded it: send + as %2B"),
        ("/9j/\n4A AQ", "there are spaces in it"),
        ("/9j/4*AQ", "character 6 of it is '*'"),
        ("/9j/4A=Q", "Discontinuous padding"),
        ("AA==AAAA", "padding"),
        ("/9j/4", "a character is missing at its end, or it was cut off"),
        ("====", "padding"),
        ("https://example.org/cat.jpg", "it is a URL, and URLs are not fetched: send the picture itself"),
        ("s3://bucket/cat.jpg", "it is a URL"),
        ("file:///tmp/cat.jpg", "it is a URL"),
        ("b'/9j/4AAQ'", "it begins as Python shows bytes"),
        ("cat.jpg", "character 4 of it is '.'"),
        ("data:image/png,%89PNG", "it is a data URL that is not in base64"),
        ("data:image/png;base64", "it is a data URL without a comma"),
        ("data:image/png;x=" + 2000 * "y" + ";base64,AAAA", "it is a data URL without a comma"),
        ("data:image/png;base64,AA%25A", "character 3 of it is '%'"),
    ],
)
@pytest.mark.parametrize("step", [1, 5000])
def test_what_is_none_is_refused_with_the_reason(text: str, says: str, step: int) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        decoded(text.encode(), range(0, len(text), step))
    assert says in str(error.value)


@pytest.mark.parametrize("text", ["AA\\bAA", "AAAA\\u00e9", "AAAA\\u20ac", "AAAA\\\\nAAAA", 'AAAA\\"AAAA', "AAAA\\u00"])
def test_an_escape_that_stands_for_nothing_in_base64_is_refused(text: str) -> None:
    for step in (1, 100):
        with pytest.raises(ValueError, match=r"escaped character|of it is"):
            decoded(text.encode(), range(0, len(text), step), kind=Base64String)


def test_blanks_take_no_memory() -> None:
    found = Base64Text(lambda _: None)
    for _ in range(100):
        found.feed(b"AAAA" + 10_000 * b" \n")
    assert sum(len(value) for value in vars(found).values() if isinstance(value, bytes)) < 100
    found.finish()
