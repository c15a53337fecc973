from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from server.settings import documents
from server.settings.documents import DocumentError, Finding, Location


def test_a_value_and_where_it_stands() -> None:
    document = documents.parse("a:\n  b/c: 1\n  d~:\n    - x\n    - {y: 2.5}\n", "some.yaml")
    assert document.value == {"a": {"b/c": 1, "d~": ["x", {"y": 2.5}]}}
    assert document.location("/a/b~1c") == Location("some.yaml", 2)
    assert document.location("/a/d~0") == Location("some.yaml", 3)
    assert document.location("/a/d~0/1/y") == Location("some.yaml", 5)
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
        ("a: 2026-01-01\n", "x.yaml:1: is not a value of JSON: put text in quotes (yaml)"),
        ("a: .nan\n", "x.yaml:1: is not a value of JSON: put text in quotes (yaml)"),
        ("a: -.inf\n", "x.yaml:1: is not a value of JSON: put text in quotes (yaml)"),
        (f"a: {'9' * 5000}\n", "x.yaml:1: is too long for a number: put text in quotes (yaml)"),
        (f"a:\n  b: 0x{'f' * 4000}\n", "x.yaml:2: is too long for a number: put text in quotes (yaml)"),
        (f"a: {'1:' * 2000}1\n", "x.yaml:1: is too long for a number: put text in quotes (yaml)"),
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
    for path, message in [
        (tmp_path / "none.yaml", "No such file or directory (file)"),
        (latin, "is not UTF-8 text (yaml)"),
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


@given(json_values, json_values)
def test_merging_keeps_what_is_not_named_and_leaves_no_null(below: object, above: object) -> None:
    base, over = documents.parse(json.dumps(below), "base"), documents.parse(json.dumps(above), "over")
    merged = documents.merge(base, over).value
    if isinstance(above, dict):
        for key, value in above.items():
            assert (key in merged) == (value is not None)
        for key, value in below.items() if isinstance(below, dict) else ():
            assert key in above or merged[key] == value
    elif above is None:
        assert merged == (below if isinstance(below, dict) else {})
    else:
        assert merged == above


def test_merging_remembers_who_said_what() -> None:
    base = documents.parse("a:\n  b: 1\n  c: 2\n", "base.yaml")
    merged = documents.merge(base, documents.parse("\n\na: {c: 3}\n", "over.yaml"))
    assert merged.value == {"a": {"b": 1, "c": 3}}
    assert str(merged.finding("/a/b", "rule", "is wrong")) == "base.yaml:2: /a/b: is wrong (rule)"
    assert str(merged.finding("/a/c", "rule", "is wrong")) == "over.yaml:3: /a/c: is wrong (rule)"


@pytest.mark.parametrize("name", ["values", "job-parameters", "job"])
def test_the_schemas_are_schemas(name: str) -> None:
    schema = documents.schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)

    def walk(part: object) -> None:
        if isinstance(part, dict):
            if "properties" in part:
                assert part["additionalProperties"] is False, part
            for key, inner in part.items():
                if key not in ("if", "then"):  # these say what holds between values, not which keys there may be
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
