from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from server.settings import documents, reading
from server.settings.documents import DocumentError, Finding, Location
from server.shipped import DEFAULT_VALUES, RULES

TEXTS = [path.read_text() for path in (DEFAULT_VALUES, RULES)]
PIECES = [
    *"\t\n :-#{}[],&*!|>'\"%@`?\\\r~",
    "\n  ",
    "\n\t",
    "- ",
    ": ",
    "? ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "!!str ",
    "&a ",
]
PIECES += [
    "*a",
    "<<: ",
    "\x85",
    "\ufeff",
    "\x07",
    "é",
    '"\\x41"',
    '"\\u12"',
    "|+\n",
    ">-\n",
    ">#",
    "0x1F",
    "1:30",
    "1e5",
    ".nan",
    "yes",
]


def test_a_value_and_where_it_stands() -> None:
    document = documents.parse("a:\n  b/c: 1\n  d~:\n    - x\n    - {z: 2.5}\n", "some.yaml")
    assert document.value == {"a": {"b/c": 1, "d~": ["x", {"z": 2.5}]}}
    assert document.location("/a/b~1c") == Location("some.yaml", 2)
    assert document.location("/a/d~0") == Location("some.yaml", 3)
    assert document.location("/a/d~0/1/z") == Location("some.yaml", 5)
    assert document.location("/a/d~0/1/not/there") == Location("some.yaml", 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 'x.yaml:4: the key "c" is there twice (yaml)'),
        ("a: &one 1\nb: *one\n", "x.yaml:2: aliases are not allowed (yaml)"),
        ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "x.yaml:2: aliases are not allowed (yaml)"),
        ("<<: {a: 1}\n", "x.yaml:1: a key must be text: put it in quotes (yaml)"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2: expected a single document in the stream, but found another document (yaml)"),
        ("a: 1\n  b: 2\n", "x.yaml:2: mapping values are not allowed here (yaml)"),
        ("on: 1\n", "x.yaml:1: a key must be text: put it in quotes (yaml)"),
        ("? [a]\n: 1\n", "x.yaml:1: a key must be text: put it in quotes (yaml)"),
        ("a: !!binary aGk=\n", "x.yaml:1: is not a value of JSON: put text in quotes (yaml)"),
        ("y: 1\n", "x.yaml:1: a key must be text: put it in quotes (yaml)"),
        ("a:\n\tb: 1\n", "x.yaml:2: has a tab where YAML wants spaces (yaml)"),
        ("a: .nan\n", "x.yaml:1: is not a value of JSON: put text in quotes (yaml)"),
        ("a: -.inf\n", "x.yaml:1: is not a value of JSON: put text in quotes (yaml)"),
        (f"a: {'9' * 5000}\n", "x.yaml:1: is too long for a number: put text in quotes (yaml)"),
        (f"a:\n  b: 0x{'f' * 4000}\n", "x.yaml:2: is too long for a number: put text in quotes (yaml)"),
        (f"a: 1e{'9' * 100}\n", "x.yaml:1: is too long for a number: put text in quotes (yaml)"),
        ("a: 1e999\n", "x.yaml:1: is not a value of JSON: put text in quotes (yaml)"),
        ("a: !!bool maybe\n", "x.yaml:1: is not a value of JSON: put text in quotes (yaml)"),
        ("a: !!python/object/apply:os.system [ls]\n", "x.yaml:1: is not a value of JSON: put text in quotes (yaml)"),
        ("a: \x07\n", "x.yaml: unacceptable character #x0007: special characters are not allowed (yaml)"),
        ("[" * 5000, "x.yaml:1: is nested more than 64 deep (yaml)"),
        ("{a: " * 65, "x.yaml:1: is nested more than 64 deep (yaml)"),
        ("a: " + "b" * 100, "x.yaml: is larger than 100 bytes (size)"),
    ],
)
def test_what_json_could_not_say_is_refused(text: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        documents.parse(text, "x.yaml", limit=100 if text.endswith("bbb") else 10_000)
    assert str(caught.value) == message


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: \xfc\n")
    (tmp_path / "wide.yaml").write_text("a: 1\n", encoding="utf-16")
    for path, message in [
        (tmp_path / "none.yaml", "No such file or directory (file)"),
        (latin, "is not UTF-8 text (yaml)"),
        (tmp_path / "wide.yaml", "is UTF-16 text: save it as UTF-8 (yaml)"),
    ]:
        with pytest.raises(DocumentError) as caught:
            documents.read(path)
        assert str(caught.value) == f"{path}: {message}"


def test_an_empty_document_is_null() -> None:
    assert documents.parse("# nothing\n", "x.yaml").value is None


def test_a_path_is_shown_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert documents.shown(tmp_path / "a" / "b.yaml") == "a/b.yaml"
    assert documents.shown(Path("b.yaml")) == "b.yaml"
    assert documents.shown(tmp_path.parent / "b.yaml") == str(tmp_path.parent / "b.yaml")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(-1e9, 1e9)
    | st.text("ab:#&*!|'\"\n -é", max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab-~/ \n", max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_any_json_comes_back_from_its_yaml(value: object) -> None:
    assert documents.parse(yaml.safe_dump(value), "x.yaml").value == value


@given(json_values)
def test_every_part_has_a_place(value: object) -> None:
    document = documents.parse(json.dumps(value, indent=1), "x.json")

    def walk(part: object, keys: tuple[str | int, ...]) -> None:
        assert documents.pointer(*keys) in document.locations
        inner = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, item in inner:
            walk(item, (*keys, key))

    walk(value, ())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &one 1\nb: *one\n", {"a": 1, "b": 1}),
        ("a: &a {b: [1]}\nc: [*a, *a]\n", {"a": {"b": [1]}, "c": [{"b": [1]}, {"b": [1]}]}),
        ("a: &a {b: 1, c: 2}\nd: {<<: *a, c: 3}\n", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("a: {<<: [{b: 1}, {b: 2, c: 2}]}\n", {"a": {"b": 1, "c": 2}}),
    ],
)
def test_aliases_stand_for_what_they_name(text: str, value: object) -> None:
    assert documents.parse(text, "x.yaml", aliases=True).value == value


def test_a_part_behind_an_alias_is_where_it_was_written() -> None:
    document = documents.parse("a: &a\n  b: 1\nc:\n  <<: *a\n  d: 2\ne: *a\n", "x.yaml", aliases=True)
    lines = {at: document.location(at).line for at in ("/c", "/c/b", "/c/d", "/e", "/e/b")}
    assert lines == {"/c": 3, "/c/b": 2, "/c/d": 5, "/e": 6, "/e/b": 2}


BOMB = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9) if n else 'lol'}]\n" for n in range(12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "has more than 50000 parts (yaml)"),
        (BOMB + "a: {<<: [*x11]}\n", "has more than 50000 parts (yaml)"),
        ("a: &a [*a]\n", "is nested more than 64 deep (yaml)"),
        ("a: &a {<<: *a}\n", "is nested more than 64 deep (yaml)"),
        ("a: *none\n", "found undefined alias 'none' (yaml)"),
        ("a: {<<: 1}\n", "<< needs a mapping or a list of them (yaml)"),
    ],
)
def test_aliases_have_an_end(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(message)):
        documents.parse(text, "x.yaml", aliases=True)


@pytest.mark.parametrize("name", ["values", "job-parameters", "job"])
def test_the_schemas_are_schemas(name: str) -> None:
    schema = documents.schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)

    def walk(part: object) -> None:
        if isinstance(part, dict):
            if "properties" in part:
                assert part["additionalProperties"] is False, part
            for key, inner in part.items():
                # if and then say what holds between values, not which keys there may be; global is for all charts
                if key not in ("if", "then", "global"):
                    walk(inner)

    walk({**schema, "properties": dict(schema["properties"])})


def test_a_last_newline_does_not_slip_through_a_pattern() -> None:
    keys = documents.parse('keys: [{id: "0123456789ab\\n"}]', "x.yaml")
    assert "pattern" in [finding.rule for finding in documents.validate(keys, "keys")]


def test_records_do_not_change() -> None:
    finding = Finding("x.yaml", 1, "/a", "rule", "is wrong")
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding.line = 2  # type: ignore[misc]


def test_what_yaml_has_for_merging_and_for_defaults_is_text_as_helm_writes_it() -> None:
    assert documents.parse("a: =\nb: <<\n", "x.yaml").value == {"a": "=", "b": "<<"}


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
@given(st.data())
def test_both_parsers_of_yaml_understand_alike_what_the_one_in_c_is_given(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    begin = data.draw(st.integers(0, len(text)))
    text = text[begin : begin + data.draw(st.integers(1, 400))]
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(PIECES)) + text[at + data.draw(st.integers(0, 2)) :]
    assume(not reading._ODD.search(text))
    assert reading._ReadingInC is not None
    try:
        found = reading._ReadingInC(text, "x.yaml", True).value()
    except yaml.YAMLError:
        return
    # Their texts, as nan differs from nan and 1 does not from true.
    assert repr(found) == repr(reading._ReadingInPython(text, "x.yaml", True).value())
