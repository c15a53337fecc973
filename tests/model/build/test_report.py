"""MODEL.md shows every figure, every label as it is, and the command that serves the model."""

from __future__ import annotations

import dataclasses
import html
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from model.build.report import HEADINGS, LABELS, card, rows, serve_command
from model.description import Model, Variant
from model.images import Preprocessing
from tests.model.build.directory import GREY, MEASURED, described

JUDGED: dict[str, Any] = {
    "data": "photos_2024",
    "pictures": 1200,
    "calibrated_with": 200,
    "sure": 900,
    "fast_path": {"changed": 0.0025},
    "timm": {"top1": 0.881, "top5": 1.0},
    "confusions": [{"truth": "rose", "predicted": "tulip", "pictures": 17}],
}
ALL = (("onnx", "fp32"), ("onnx", "int8"), ("timm", "fp32"))


def variants(pairs: Sequence[tuple[str, str]] = ALL, measured: Any = MEASURED) -> list[Variant]:
    return [
        Variant(runtime=runtime, name=name, file="file", bytes=5_214_772, sha256="0" * 64, measured=measured)
        for runtime, name in pairs
    ]


def model(pairs: Sequence[tuple[str, str]] = ALL, **given_fields: Any) -> Model:
    return described(Path("flowers@3f9a2c81"), variants(pairs), **{"judged": JUDGED, **given_fields})


def shown(page: str) -> str:
    """The page as HTML."""
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(page))


def cells(page: str) -> list[list[str]]:
    """The text of all cells of all tables, a list for each row."""
    found = []
    for row in re.findall(r"<tr>(.*?)</tr>", shown(page), re.DOTALL):
        texts = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        assert not re.search(r"<(?!/?code>)", "".join(texts)), "a cell holds markup"
        found.append([html.unescape(re.sub(r"</?code>", "", text)) for text in texts])
    return found


def test_the_table_has_timm_first_and_then_every_variant() -> None:
    assert rows(model()) == [
        ("timm itself", "-", "88.1 %", "100.0 %", "100.0 %", "-", "-", "-", "-"),
        ("fp32", "onnx", "87.5 %", "100.0 %", "97.5 %", "8.0", "121", "110", "5.2"),
        ("int8", "onnx", "87.5 %", "100.0 %", "97.5 %", "8.0", "121", "110", "5.2"),
        ("fp32", "timm", "87.5 %", "100.0 %", "97.5 %", "8.0", "121", "110", "5.2"),
    ]
    assert all(len(row) == len(HEADINGS) for row in rows(model()))
    found = cells(card(model()))
    assert found[0] == list(HEADINGS)
    assert [tuple(row) for row in found[1:5]] == rows(model())


def test_without_true_classes_the_table_says_so() -> None:
    measured = dataclasses.replace(MEASURED, top1=None, top5=None, sure_agreement=None, images_per_second=1.26)
    judged = {**JUDGED, "data": "own pictures", "timm": {"top1": None, "top5": None}, "confusions": [], "sure": 0}
    blind = described(Path("flowers"), variants(measured=measured), judged=judged)
    assert rows(blind)[1] == ("fp32", "onnx", "-", "-", "97.5 %", "8.0", "1.3", "110", "5.2")
    page = card(blind)
    assert "1,200 crops of the pictures that come with tierserve" in page
    assert "likeness to timm, and no accuracy" in page
    assert "that timm is sure of" not in page
    assert "confused" not in page


def test_a_model_that_nobody_judged_has_a_page_too() -> None:
    assert "It was not judged on pictures." in card(model(judged={}))


def test_the_page_tells_how_it_was_judged_and_what_to_know() -> None:
    page = shown(card(model(warnings=["int8 was left out: its top-1 is 80 % (<90 %)."])))
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    for sentence in (
        "Measured on 1,200 pictures of the folder photos_2024.",
        "int8 was calibrated with 200 others.",
        "Of the 900 that timm is sure of, the agreement is 99.0 % (onnx fp32), 99.0 % (onnx int8), 99.0 % (timm fp32).",
        "changes the best class of 0.2 % of them.",
        "int8 was left out: its top-1 is 80 % (<90 %).",
        "By the variant onnx fp32:",
        "weights: best.pth.tar",
        "licence: unknown: given as a file",
        "flowers@3f9a2c81",
        "built with timm 1.0",
    ):
        assert sentence in text
    assert ["rose", "tulip", "17"] in cells(card(model()))
    assert "calibrated with" not in card(model((("onnx", "fp32"), ("timm", "fp32"))))


@pytest.mark.parametrize(
    ("pairs", "options"),
    [
        (ALL, ""),
        ((("onnx", "fp32"), ("timm", "fp32")), " --set tiers.free.model.variant=fp32"),
        ((("timm", "fp32"),), " --set tiers.free.model.variant=fp32 --set tiers.free.model.runtime=timm"),
    ],
)
def test_the_command_serves_what_there_is(pairs: Sequence[tuple[str, str]], options: str) -> None:
    command = f"make run ARGS='--set tiers.free.model.name=flowers{options}'"
    assert serve_command(model(pairs)) == command
    assert f"\n\n    {command}\n\n" in card(model(pairs))


HOSTILE = (
    "a|b",
    "`code`",
    "<b>bold</b>",
    "<script>alert(1)</script>",
    "&lt;",
    "*star* _under_ ~~gone~~",
    "[link](http://x.example)",
    "![picture](x)",
    "back\\slash\\|",
    "https://x.example www.x.example",
    "<http://x.example>",
    "# heading",
    "1. first",
    "$x$",
    "花 🌹 ẞ",
    "line\u2028separator",
    "| --- |",
)


def test_labels_are_shown_as_they_are() -> None:
    confusions = [{"truth": one, "predicted": one, "pictures": 1} for one in HOSTILE]
    page = card(model(labels=HOSTILE, judged={**JUDGED, "confusions": confusions}))
    found = cells(page)
    seen = [one.replace("\u2028", " ") for one in HOSTILE]
    assert [row[1] for row in found[-len(HOSTILE) :]] == seen
    assert [row[:2] for row in found if len(row) == 3][1:] == [[one, one] for one in seen]
    assert "<script>" not in page
    # No address is left for a program that makes links of them, as GitHub's does.
    assert not re.search(r"\w://", page)
    assert "www." not in page


PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=30).filter(
    lambda text: text == text.strip()
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PRINTABLE, min_size=2, max_size=LABELS, unique=True))
def test_any_label_is_shown_as_it_is(labels: list[str]) -> None:
    found = cells(card(model(labels=labels)))
    assert [row[1] for row in found[-len(labels) :]] == labels


def test_of_many_labels_the_first_are_shown_and_the_others_counted() -> None:
    found = cells(card(model(labels=[f"class {number}" for number in range(1000)])))
    assert found[-LABELS - 1 :][0] == ["0", "class 0"]
    assert found[-1] == ["...", "and 980 more, in model.json"]


@pytest.mark.parametrize("name", ["line\nbreak", "bad\udcffbytes"])
def test_a_folder_with_a_strange_name_breaks_no_page(name: str) -> None:
    page = card(model(judged={**JUDGED, "data": name}))
    assert page.encode("utf-8")
    assert name.translate({ord("\n"): " ", 0xDCFF: " "}) in page


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("faithful", [False, True])
def test_the_preprocessing_is_told(mode: str, faithful: bool) -> None:
    how: Preprocessing = dataclasses.replace(GREY, crop_mode=mode, faithful=faithful)
    page = card(model(how=how))
    assert "96 x 64 pixels (width x height), grey" in page
    assert f"(crop mode {mode}, interpolation bilinear)" in page
    assert ("timm's own steps" in page) == faithful
    assert "Mean 0.5, standard deviation 0.25" in page


def test_no_control_character_is_in_a_page() -> None:
    page = card(model(warnings=["bell \a and escape \x1b[31m"]))
    assert not [one for one in page if unicodedata.category(one) == "Cc" and one != "\n"]
