from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.settings import documents
from server.settings.quantity import parse_quantity, sum_of_bytes
from server.settings.rules import book


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", "0"),
        ("2", "2"),
        ("900m", "0.9"),
        ("0.9", "0.9"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1n", "1e-9"),
        ("10u", "1e-5"),
        ("3k", "3000"),
        ("1M", "1e6"),
        ("1G", "1e9"),
        ("1T", "1e12"),
        ("1P", "1e15"),
        ("1E", "1e18"),
        ("1E2", "100"),
        ("1e3", "1000"),
        ("25e-1", "2.5"),
        ("1e+3", "1000"),
        ("1Ki", "1024"),
        ("256Mi", "268435456"),
        ("1.5Gi", "1610612736"),
        ("1Ti", str(1024**4)),
        ("1Pi", str(1024**5)),
        ("1Ei", str(1024**6)),
    ],
)
def test_a_quantity_is_the_exact_number(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1\n",
        "m",
        "-1",
        "+1",
        "1mi",
        "1ki",
        "1K",
        "1B",
        "1GiB",
        "1e",
        "1e999",
        "1,5",
        "0x1",
        "\u0661",
        ".",
        "9" * 33,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


[QUANTITY] = (form["pattern"] for form in book()["forms"] if form["form"] == "quantity")


def test_the_rules_and_two_schemas_mean_the_same_quantity() -> None:
    definitions = [documents.schema(name)["$defs"]["quantity"] for name in ("job-parameters", "job")]
    assert {each["pattern"] for each in definitions} == {f"^{QUANTITY}$"}
    assert {each["maxLength"] for each in definitions} == {documents.schema("values")["$defs"]["quantity"]["maxLength"]}


@given(st.one_of(st.text("0123456789.eE+-mkKMGi", max_size=8), st.text(max_size=4)))
def test_the_schemas_accept_exactly_what_is_parsed(text: str) -> None:
    try:
        parse_quantity(text)
    except ValueError:
        assert not re.fullmatch(QUANTITY, text)
    else:
        assert re.fullmatch(QUANTITY, text)


@pytest.mark.parametrize(
    ("one", "other", "total"),
    [
        ("64Mi", "512Mi", "576Mi"),
        ("64Mi", "1Gi", "1088Mi"),
        ("1Ki", "1", "1025"),
        ("0.5", "0.6", "2"),
        ("0", "0", "0Mi"),
    ],
)
def test_the_sum_of_two_sizes_is_a_size(one: str, other: str, total: str) -> None:
    assert sum_of_bytes(one, other) == total
    assert parse_quantity(total) >= parse_quantity(one) + parse_quantity(other)
