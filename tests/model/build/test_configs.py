"""Whatever a ``config.json`` contains, it is understood or refused in words."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.build.configs import check_arguments, parse
from model.build.errors import BuildError

FIELDS = (
    "architecture",
    "crop_pct",
    "input_size",
    "label_descriptions",
    "label_names",
    "labels",
    "license",
    "mean",
    "model_args",
    "num_classes",
    "pretrained_cfg",
    "std",
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.sampled_from(FIELDS), inner, max_size=5)
    ),
    max_leaves=10,
)


@settings(max_examples=500, deadline=None)
@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), values, max_size=6),
    named=st.booleans(),
    inner=st.none() | st.dictionaries(st.sampled_from(FIELDS), values, max_size=6),
)
def test_any_json_is_understood_or_refused(fields: dict[str, Any], named: bool, inner: dict[str, Any] | None) -> None:
    if named:
        fields["architecture"] = "resnet18"
    if inner is not None:
        fields["pretrained_cfg"] = inner
    try:
        config = parse(json.dumps(fields).encode(), "c.json")
    except BuildError as error:
        assert str(error).startswith("c.json ")
        return
    json.dumps([config.arguments, config.prepared], allow_nan=False)
    assert all(isinstance(name, str) for name in config.label_names or ())


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1" + "0" * 400, "1000001"])
def test_numbers_without_bound_are_refused(number: str) -> None:
    with pytest.raises(BuildError, match="a plain value"):
        parse(b'{"architecture": "resnet18", "model_args": {"depth": %s}}' % number.encode(), "c.json")
    with pytest.raises(BuildError, match="crop_pct that cannot be used"):
        parse(b'{"architecture": "resnet18", "crop_pct": %s}' % number.encode(), "c.json")


def test_arguments_that_are_not_set_are_left_out() -> None:
    assert check_arguments({"a": None, "b": (1, 2), "c": "x"}, "c.json") == {"b": [1, 2], "c": "x"}
