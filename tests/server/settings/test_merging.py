from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.settings import documents
from server.settings.documents import Document
from server.settings.merging import merge, over

keys = st.sampled_from("abc")
values = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner),
    max_leaves=8,
)
mappings = st.dictionaries(keys, values)


def document(value: object, name: str = "x") -> Document:
    return documents.parse(json.dumps(value), name)


def expected(defaults: Any, value: Any) -> Any:
    """Helm's rules once more, as a loop that takes away and adds."""
    if not isinstance(defaults, dict) or not isinstance(value, dict):
        return value
    found = dict(defaults)
    for key, item in value.items():
        if item is None and defaults.get(key) is not None:
            del found[key]
        else:
            found[key] = expected(defaults.get(key), item)
    return found


@given(mappings, mappings)
def test_what_lies_over_the_defaults_takes_their_place(defaults: Any, value: Any) -> None:
    assert over(document(defaults), document(value)).value == expected(defaults, value)


@given(mappings, mappings)
def test_what_was_merged_is_there_and_merging_it_again_changes_nothing(below: Any, above: Any) -> None:
    merged = merge(document(below), document(above))
    assert merged.value.keys() == below.keys() | above.keys()
    assert merge(merged, document(above)).value == merged.value


def test_an_empty_document_changes_nothing() -> None:
    empty = documents.parse("# nothing\n", "empty.yaml")
    assert merge(document({"a": 1}), empty).value == over(document({"a": 1}), empty).value == {"a": 1}


def test_merging_remembers_who_said_what() -> None:
    base = documents.parse("a:\n  b: 1\n  c: 2\n", "base.yaml")
    for merged in (merge(base, (said := documents.parse("\n\na: {c: 3}\n", "over.yaml"))), over(base, said)):
        assert merged.value == {"a": {"b": 1, "c": 3}}
        assert str(merged.finding("/a/b", "rule", "is wrong")) == "base.yaml:2: /a/b: is wrong (rule)"
        assert str(merged.finding("/a/c", "rule", "is wrong")) == "over.yaml:3: /a/c: is wrong (rule)"
